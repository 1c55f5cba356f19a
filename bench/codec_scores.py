"""Make tables and a plot of the rows of `bench.codec`: means over pictures at equal PSNR."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from coordfit.report.line_plot import save_lines

Row = dict[str, Any]
Curves = Mapping[str, list[tuple[float, float]]]
"""Points (PSNR, bits per pixel) by codec."""

OURS, JPEG = "coordfit", "better JPEG"
OTHERS = (JPEG, "JPEG 2000", "WebP", "AVIF 4:4:4")
DECIBELS = (34, 36, 38, 40)
_BEYOND = 0.15  # dB: a curve goes on by this beyond its ends, since a target is met within 0.1 dB


def bits_at(points: Sequence[tuple[float, float]], decibels: float) -> float | None:
    """Return the bits per pixel at a PSNR on a curve of two points or more; None beyond it.

    Logarithms of bits are interpolated along the PSNR.
    """
    points = sorted(points)
    if len(points) < 2 or not points[0][0] - _BEYOND <= decibels <= points[-1][0] + _BEYOND:
        return None
    values, bits = zip(*points, strict=True)
    i = min(max(int(np.searchsorted(values, decibels)), 1), len(values) - 1)
    share = (decibels - values[i - 1]) / (values[i] - values[i - 1])
    return float(bits[i - 1] ** (1 - share) * bits[i] ** share)


def curves_of(rows: Iterable[Row]) -> dict[str, Curves]:
    """Return the curves of each picture."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        bits = {name: other["bits"] for name, other in row["others"].items()}
        jpegs = [bits[name] for name in ("JPEG 4:2:0", "JPEG 4:4:4") if name in bits]
        bits |= {OURS: row["bits"], **({JPEG: min(jpegs)} if jpegs else {})}
        curves = found.setdefault(row["picture"], {name: [] for name in (OURS, *OTHERS)})
        for name in curves.keys() & bits.keys():
            curves[name].append((row["psnr"], bits[name]))
    return found


def budgets(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each budget, under its name."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        ((name, value),) = row["budget"].items()
        found.setdefault(f"{value:g} {name} a picture", []).append(row)
    return found


def tables(rows: Iterable[Row]) -> list[str]:
    """Return the lines of a table for each budget."""
    lines: list[str] = []
    for budget, some in budgets(rows).items():
        lines += ["", f"{budget}; {_prices(some)}", "", *_table(curves_of(some))]
    return lines[1:]


def _prices(rows: Sequence[Row]) -> str:
    """Return medians of seconds and operations, and the peaks of memory, in words."""

    def middle(name: str) -> float:
        return median(row[name] for row in rows)

    peaks = [max(row[f"{name}_peak_mib"] for row in rows) for name in ("encode", "decode")]
    return (
        f"medians: {middle('steps'):.0f} steps, encoding {middle('encode_processor'):.1f} s of the processor, "
        f"{middle('encode_wall'):.1f} s of the clock, decoding {middle('decode_processor'):.2f} s, "
        f"{middle('decode_wall'):.2f} s, {middle('macs_per_pixel'):.0f} MAC per pixel; "
        f"peaks: {peaks[0]:.0f} MiB, {peaks[1]:.0f} MiB"
    )


def _table(pictures: Mapping[str, Curves]) -> list[str]:
    """Return the lines of one table: mean bits at each PSNR, how many fewer, and on how many pictures."""
    lines = [f"| PSNR | pictures | {OURS} | {' | '.join(OTHERS)} |", f"|{'---|' * (3 + len(OTHERS))}"]
    for decibels in DECIBELS:
        found = {
            picture: {name: bits_at(points, decibels) for name, points in curves.items()}
            for picture, curves in pictures.items()
        }
        known = [bits for bits in found.values() if bits[OURS] is not None]
        if known:
            ours = fmean(bits[OURS] or math.nan for bits in known)
            beside = " | ".join(_beside(known, name) for name in OTHERS)
            lines.append(f"| {decibels} | {len(known)} | {ours:.3f} | {beside} |")
    return lines if len(lines) > 2 else ["no picture has two points with one of these PSNR between them"]


def _beside(pictures: Sequence[Mapping[str, float | None]], name: str) -> str:
    """Return a codec's mean bits, by how many per cent ours are fewer, and on how many pictures."""
    pairs = [(bits[OURS], bits[name]) for bits in pictures]
    both = [(ours, other) for ours, other in pairs if ours is not None and other is not None]
    if not both:
        return ""
    mine, theirs = (fmean(values) for values in zip(*both, strict=True))
    below = sum(ours < other for ours, other in both)
    return f"{theirs:.3f} ({100 * (mine / theirs - 1):+.0f} %, {below} of {len(both)})"


def plot(rows: Iterable[Row], file: Path) -> None:
    """Draw PSNR over mean bits per pixel, a line for each budget and each other codec, as SVG."""
    series: dict[str, list[tuple[float, float]]] = {}
    names: set[str] = set()
    for budget, some in budgets(rows).items():
        pictures = curves_of(some)
        names |= pictures.keys()
        for name in (OURS, *OTHERS):
            label = f"{OURS}, {budget}" if name == OURS else name
            points = _means([curves[name] for curves in pictures.values()])
            series[label] = max(series.get(label, []), points, key=len)
    what = f"mean of {len(names)} pictures" if len(names) > 1 else next(iter(names), "no picture")
    labels = {"x_label": "bits per pixel of the file", "y_label": "PSNR / dB"}
    save_lines(file, series, title=f"Quality at a size, {what}", **labels)


def _means(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the points (mean bits, PSNR) at each whole PSNR that all curves have."""
    values = [value for points in curves for value, _ in points]
    found = []
    for decibels in range(math.floor(min(values, default=0)), math.ceil(max(values, default=0)) + 1):
        bits = [b for points in curves if (b := bits_at(points, decibels)) is not None]
        if len(bits) == len(curves):
            found.append((fmean(bits), float(decibels)))
    return found
