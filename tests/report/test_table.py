import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordfit.report.table import Table, cell, cell_width

ROWS = [
    {"name": "a|b", "psnr": 31.25, "n": 3},
    {"name": "<c>", "psnr": None, "n": 12},
    {"name": "d", "psnr": 40.0},
]


def test_columns_and_rows():
    table = Table(ROWS)
    assert table.columns == ("name", "psnr", "n")
    assert len(table) == 3
    assert table["n"] == [3, 12, None]
    assert table[1]["name"] == "<c>"
    assert [row["name"] for row in table[1:]] == ["<c>", "d"]
    assert Table(ROWS, ["psnr"]).rows == [{"psnr": 31.25}, {"psnr": None}, {"psnr": 40.0}]


def test_rows_without_a_value_come_last_in_any_order():
    table = Table([*ROWS, {"name": "e", "psnr": float("nan")}])
    assert table.sorted_by("psnr")["name"] == ["d", "a|b", "<c>", "e"]
    assert table.sorted_by("psnr", descending=False)["name"] == ["a|b", "d", "<c>", "e"]


def test_words_come_after_numbers_in_any_order():
    table = Table([{"sigma": value} for value in ("auto", 3.0, None, 10, [4, 8])])
    assert table.sorted_by("sigma", descending=False)["sigma"] == [3.0, 10, [4, 8], "auto", None]
    assert table.sorted_by("sigma")["sigma"] == [10, 3.0, "auto", [4, 8], None]


def test_text_is_aligned():
    assert str(Table(ROWS)).splitlines() == [
        "name   psnr   n",
        "a|b   31.25   3",
        "<c>          12",
        "d     40.00",
    ]


NAMES = [
    "picture",
    "sigma",
    "depth",
    "psnr_held_out",
    "final_loss",
    "batch_seconds",
    "bits_per_pixel",
    "stopped",
]
WORDS = st.text("abcdefgh 写真", min_size=1, max_size=14).map(str.strip).filter(bool)
VALUES = st.one_of(st.none(), WORDS, st.integers(0, 10**6), st.floats(0, 1e5))


@given(st.integers(1, 5), st.sampled_from([40, 80, 120]), st.data())
def test_a_table_fits_the_terminal_and_loses_nothing(count, room, data):
    rows = [{name: data.draw(VALUES) for name in NAMES} for _ in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(room))
        text = str(Table(rows))
    assert all(cell_width(line) <= room for line in text.splitlines())
    cells = {cell(value) for row in rows for value in row.values()}
    assert all(value in text for value in cells)


def test_every_part_of_a_wide_table_says_which_row_is_which(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    varied = [
        {"picture": "cat.png", "sigma": sigma, "loss": loss} for sigma in (1, 30) for loss in ("mse", "mae")
    ]
    rows = [row | {f"figure_{k}": 100.0 * k for k in range(20)} for row in varied]
    parts = str(Table(rows)).split("\n\n")
    assert len(parts) > 1
    for part in parts:
        lines = [line.split()[:3] for line in part.splitlines()[-4:]]
        assert lines == [[str(value) for value in row.values()] for row in varied]


def test_markdown_and_html_escape_what_would_break_them():
    table = Table(ROWS)
    assert "| a\\|b | 31.25 | 3 |" in table.to_markdown()
    assert "<td>&lt;c&gt;</td>" in table._repr_html_()


def test_csv_reads_back():
    table = Table([{"x": 0.1, "y": 'say "a,b"'}])
    assert list(csv.DictReader(io.StringIO(table.to_csv()))) == [{"x": "0.1", "y": 'say "a,b"'}]


def test_pandas_takes_it():
    pandas = pytest.importorskip("pandas")
    frame = Table(ROWS).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["name", "psnr", "n"]
