"""Read figures out of the rows of records."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

from ..codec_scores import bits_at, curves_of
from ..command_line import PHOTOGRAPHS
from ..commands import COMMANDS, FIGURES, TIMES

Row = dict[str, Any]


def where(rows: Iterable[Row], **key: Any) -> list[Row]:
    """Return the rows with all of a key."""
    return [row for row in rows if all(row.get(name) == value for name, value in key.items())]


def one(rows: Iterable[Row], **key: Any) -> Row:
    """Return the one row with all of a key."""
    (row,) = where(rows, **key)
    return row


def mean(rows: Iterable[Row], name: str) -> float:
    """Return the mean of a figure."""
    return fmean(row[name] for row in rows)


def each(rows: Iterable[Row], figure: Callable[[Row], float], **key: Any) -> list[float]:
    """Return a figure of each photograph, in their order."""
    found = where(rows, **key)
    return [figure(one(found, picture=name)) for name in PHOTOGRAPHS]


def and_mean(values: Sequence[float]) -> list[float]:
    """Return values and their mean."""
    return [*values, fmean(values)]


def line(label: str, *cells: Any) -> str:
    """Return a line of a table; an empty cell is one blank."""
    return re.sub(r"\|  (?=\|)", "| ", f"| {' | '.join([label, *map(str, cells)])} |")


def rule(columns: int) -> str:
    """Return the line below the head of a table."""
    return "|" + "---|" * columns


def command(record: Row, words: str) -> Row:
    """Return the row of a command of `bench.commands`; a figure that it has not yet is None."""
    assert words in COMMANDS, words
    return {**dict.fromkeys((*FIGURES, *TIMES)), **next(iter(where(record["rows"], command=words)), {})}


def codec_means(record: Row, decibels: float, steps: int = 1000) -> dict[str, float]:
    """Return the mean bits per pixel of each codec over all pictures, at a PSNR."""
    pictures = curves_of(where(record["rows"], budget={"steps": steps}))
    names = next(iter(pictures.values()))
    return {
        name: fmean(bits_at(curves[name], decibels) or math.nan for curves in pictures.values())
        for name in names
    }
