"""README.md and docs/ tell the figures of the records in bench/results, and name those that have no record."""

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from coordfit.files import read_json, write_json

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
figures = pytest.importorskip("bench.figures")
pages = pytest.importorskip("bench.figures.pages")
RECORDS = sorted((ROOT / "bench" / "results").glob("*.json"))


def test_the_pages_tell_the_figures_of_the_records():
    """If this fails: `python -m bench.figures` shows more, and `--write` writes the records' figures."""
    assert [f"{fault.page}: {fault.told}" for fault in figures.faults_in()] == []


def test_a_figure_without_a_record_has_the_command_that_makes_it():
    assert [claim for claim in figures.pending() if not claim.command] == []
    assert all(part.why for part in figures.listed())
    assert [part for part in figures.listed() if part.page == "README.md"] == []


def test_no_measured_decimal_stands_in_the_words_of_a_claim():
    words = [claim.text for claim in figures.claims() if isinstance(claim, figures.Claim)]
    plain = [re.sub(r"`[^`]*`|\{[^}]*\}", "", text) for text in words]
    units = r"\d+\.\d+ (dB|s|ms|MiB|MB|%|bits|times)\b"
    assert [text for text in plain if re.search(units, text)] == []


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
def test_a_record_says_of_what_it_is(file):
    document = read_json(file)
    headers = [document["made"]] if "made" in document else document["runs"]
    assert headers
    for header in headers:
        assert header.get("commit") or header.get("stored_in")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", header["date"])
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r'"[^"]*(?:/home/|/root|/tmp/|/work/|/Users/)[^"]*"', text)
    if "made" not in document:
        rows = next((document[name] for name in ("rows", "cases") if name in document), [])
        assert {row["run"] for row in rows} <= set(range(len(headers)))


# -- the comparison itself, on a page of its own ----------------------------------------------------------

PAGE = """It takes 1.50 s for
40 dB, as `python x.py --psnr 41.5 dB` shows.

| size | PSNR |
|---|---|
| 32 | 40.1 |

Another took 7.0 s; a limit is 9 s.
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    write_json(tmp_path / "a.json", {"seconds": 1.499, "psnr": 40.12})
    claim = pages.Claim("p", "It takes {:.2f} s for 40 dB", "a.json", lambda record: [record["seconds"]])
    table = pages.Table(
        "p", "a.json", lambda record: ["| size | PSNR |", "|---|---|", f"| 32 | {record['psnr']:.1f} |"]
    )
    other = pages.Claim("p", "Another took {:.1f} s", "b.json", lambda record: [record["seconds"]], "make b")
    return [claim, table, other], [pages.Unbound("p", "a limit is 9 s", "a limit")]


def told(text, parts):
    return [fault.told for fault in pages.faults_of("p", text, *parts)]


def test_a_page_with_the_figures_of_its_records_has_no_fault(parts):
    assert told(PAGE, parts) == []
    assert parts[0][2].lacks_figures()  # its record is not there yet
    assert not parts[0][0].lacks_figures()


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("1.50 s", "1.49 s", "1.49 is 1.50 in a.json"),
        ("| 32 | 40.1 |", "| 32 | 40.2 |", "| 32 | 40.2 | is | 32 | 40.1 | in a.json"),
        ("| 32 | 40.1 |\n", "", "it has 2 lines"),
        ("It takes", "It needs", "0 times in the page: It takes {:.2f} s"),
        ("size | PSNR", "side | PSNR", "there is no table"),
        ("a limit is 9 s", "a limit", "0 times in the page: a limit is 9 s"),
        ("Another", "In 2.5 s. Another", "no claim has this figure: 8: In 2.5 s. Another"),
        ("Another", "\n| x | 2.55 |\n\nAnother", "no claim has this figure: 9: | x | 2.55 |"),
    ],
)
def test_a_page_that_is_changed_by_hand_has_a_fault(parts, before, after, fault):
    assert before in PAGE
    assert any(text.startswith(fault) for text in told(PAGE.replace(before, after), parts))


def test_a_record_that_changes_is_a_fault_which_can_be_written_into_the_page(parts, tmp_path):
    write_json(tmp_path / "a.json", {"seconds": 12.0, "psnr": 50.0})
    write_json(tmp_path / "b.json", {"seconds": 8.0})
    faults = pages.faults_of("p", PAGE, *parts)
    assert len(faults) == 3
    text = pages.mended(PAGE, faults)
    assert "It takes 12.00 s for\n40 dB" in text
    assert "| 32 | 50.0 |" in text
    assert "Another took 8.0 s" in text
    assert told(text, parts) == []


def test_a_claim_with_more_figures_than_its_record_gives_is_an_error(parts):
    more = dataclasses.replace(parts[0][0], text="It takes {:.2f} s for {:.0f} dB")
    with pytest.raises(ValueError, match="zip"):
        more.look(PAGE)
