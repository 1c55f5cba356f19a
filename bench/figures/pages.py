"""Find the figures of a page: those that a record gives, those that none gives, and those with no claim."""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from coordfit.files import read_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
Span = tuple[int, int]

_UNITS = "dB|m?s|[kMG]i?B|%|bits per pixel|GFLOP|microseconds?|seconds|minutes|times"
_MEASURED = re.compile(rf"\d[\d.,]*[ \n]({_UNITS})(?!\w)")
_DECIMAL = re.compile(r"\d+\.\d+")
_CODE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)", re.DOTALL)  # commands and links tell no figures


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that is wrong on a page, in words; `span` and `text` mend it, if it is a figure."""

    page: str
    told: str
    span: Span | None = None
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A piece of a page's text with figures that follow from records.

    Parameters
    ----------
    page, text
        The text, with `{:.2f}` and the like in place of each figure. Line breaks of the page do not count.
    records
        Files in bench/results/.
    values
        From their contents to the figures; None for a figure that the record has not yet.
    command
        What makes the record.
    """

    page: str
    text: str
    records: str
    values: Callable[..., Sequence[Any]]
    command: str = ""

    def look(self, text: str) -> tuple[list[Span], list[Fault]]:
        """Return the place of the text in a page, and what is wrong with its figures."""
        found = list(re.finditer(self._pattern(), text))
        if len(found) != 1:
            return [], [Fault(self.page, f"{len(found)} times in the page: {self.text}")]
        spans = [found[0].span(i + 1) for i in range(len(found[0].groups()))]
        faults = []
        for span, wanted in zip(spans, self._figures(len(spans)), strict=True):
            told = text[slice(*span)]
            if wanted is not None and told != wanted:
                where = " ".join(text[max(0, span[0] - 50) : span[1] + 30].split())
                faults.append(
                    Fault(self.page, f"{told} is {wanted} in {self.records}: ... {where} ...", span, wanted)
                )
        return [found[0].span()], faults

    def lacks_figures(self) -> bool:
        """Whether a figure is not in the record yet."""
        return None in self._figures(sum(spec is not None for _, spec in self._pieces()))

    def _pieces(self) -> list[tuple[str, str | None]]:
        return [(literal, spec) for literal, _, spec, _ in string.Formatter().parse(self.text)]

    def _pattern(self) -> str:
        pattern = ""
        for literal, spec in self._pieces():
            pattern += re.sub(r"(\\?\s)+", r"\\s+", re.escape(literal))
            if spec is not None:
                pattern += r"([-+]?\d(?:[\d.,]*\d)?(?:e[-+]\d+)?)" if spec else r"(\S.*?)"
        return pattern

    def _figures(self, count: int) -> list[str | None]:
        names = self.records.split()
        if not all((RESULTS / name).exists() for name in names):
            return [None] * count
        values = self.values(*(read_json(RESULTS / name) for name in names))
        specs = [spec for _, spec in self._pieces() if spec is not None]
        return [
            None if value is None else format(value, spec) for value, spec in zip(values, specs, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page, all of whose lines a function makes of a record; the first one finds it."""

    page: str
    records: str
    lines: Callable[..., list[str]]
    command: str = ""

    def look(self, text: str) -> tuple[list[Span], list[Fault]]:
        """Return the place of the table in a page's text, and what is wrong with it."""
        wanted = self.lines(*(read_json(RESULTS / name) for name in self.records.split()))
        span = table_at(text, wanted[0])
        if span is None:
            return [], [Fault(self.page, f"there is no table, or there are two, with the line {wanted[0]}")]
        told = text[slice(*span)].splitlines()
        if told == wanted:
            return [span], []
        at = next((i for i, pair in enumerate(zip(told, wanted, strict=False)) if pair[0] != pair[1]), None)
        pair = f"{told[at]} is {wanted[at]}" if at is not None else f"it has {len(told)} lines"
        return [span], [Fault(self.page, f"{pair} in {self.records}", span, "\n".join(wanted))]


Bound = Claim | Table
"""A part of a page that a record gives."""


@dataclasses.dataclass(frozen=True)
class Unbound:
    """A piece of a page's text, or a table by its first line, with figures that no record gives, and why.

    `command` makes the figures again; it is empty if none does.
    """

    page: str
    text: str
    why: str
    command: str = ""

    def look(self, text: str) -> tuple[list[Span], list[Fault]]:
        """Return the place in a page's text; it is a fault if the text is not there once."""
        if self.text.startswith("|") and (span := table_at(text, self.text)):
            return [span], []
        pattern = re.sub(r"(\\?\s)+", r"\\s+", re.escape(self.text))
        found = [match.span() for match in re.finditer(pattern, text)]
        if len(found) != 1:
            return [], [Fault(self.page, f"{len(found)} times in the page: {self.text}")]
        return found, []


def table_at(text: str, first_line: str) -> Span | None:
    """Return the place of the one table with this first line."""
    found = re.findall(rf"^{re.escape(first_line)}\n(?:\|.*\n?)*", text, re.MULTILINE)
    if len(found) != 1:
        return None
    start = text.index(found[0])
    return start, start + len(found[0].rstrip("\n"))


def figures_in(text: str) -> Iterator[Span]:
    """Yield the place of each measured quantity in a page: a number with a unit, or a decimal in a table."""
    plain = _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for match in _MEASURED.finditer(plain):
        yield match.span()
    for line in re.finditer(r"^\|.*$", plain, re.MULTILINE):
        for match in _DECIMAL.finditer(line[0]):
            yield line.start() + match.start(), line.start() + match.end()


def unseen(text: str, spans: Sequence[Span]) -> list[str]:
    """Return the lines of a page with a figure outside of some places."""
    starts = {
        start
        for start, stop in figures_in(text)
        if not any(a <= start < b or start <= a < stop for a, b in spans)
    }
    lines = [text.count("\n", 0, start) for start in sorted(starts)]
    return [f"{line + 1}: {text.splitlines()[line]}" for line in dict.fromkeys(lines)]


def faults_of(
    page: str, text: str, bound: Sequence[Bound], listed: Sequence[Unbound] = (), *, is_whole: bool = True
) -> list[Fault]:
    """Return the figures of a page that are not the record's, and, of a whole page, those without a claim."""
    spans: list[Span] = []
    faults: list[Fault] = []
    for part in (*bound, *listed):
        if part.page == page:
            where, wrong = part.look(text)
            spans += where
            faults += wrong
    without = unseen(text, spans) if is_whole else []
    return faults + [Fault(page, f"no claim has this figure: {line}") for line in without]


def mended(text: str, faults: Sequence[Fault]) -> str:
    """Return a page's text with the figures of the records."""
    for fault in sorted((f for f in faults if f.span), key=lambda f: f.span or (0, 0), reverse=True):
        start, stop = fault.span or (0, 0)
        text = text[:start] + fault.text + text[stop:]
    return text
