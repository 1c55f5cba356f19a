import csv
import io

import pytest

from coordfit.table import Table

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
