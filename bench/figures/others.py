"""Say which figures of several other pages follow from which record."""

from __future__ import annotations

from ..command_line import PHOTOGRAPHS
from ..gpu.figures import table
from .pages import Bound, Claim, Table, Unbound
from .rows import Row, line, one, rule, where

AVERAGES = ("last weights", "mean of the last tenth", "moving average, decay 0.9", "moving average, decay 0.99")


def averages(record: Row) -> list[str]:
    """Return the table of averages of weights."""
    lines = [
        "| picture, schedule | last weights | mean of the last tenth | moving average, 0.9 | 0.99 |",
        rule(5),
    ]
    for schedule in ("cosine", "constant"):
        for picture in ("bundled", *PHOTOGRAPHS):
            rows = where(record["rows"], picture=picture, schedule=schedule)
            if rows:
                cells = (f"{one(rows, weights=name)['psnr_train']:.2f}" for name in AVERAGES)
                lines.append(line(f"{picture}, {schedule}", *cells))
    return lines


def pieces(record: Row) -> list[str]:
    """Return the table of Gauss-Newton's pieces: seconds of one core, and steps."""
    lines = [
        line(
            "picture",
            "all pieces",
            "channels as they are, not principal colours",
            "no ridge solution at the start",
        ),
        rule(4),
    ]
    for label, picture in PICTURES.items():
        cells = []
        for place, piece in enumerate(("all pieces", "principal colours", "ridge start")):
            row = one(record["rows"], picture=picture, without=piece)
            steps = " steps" if place == 0 else ""
            cells.append(f"{row['cpu_seconds_in_all']:.2f} s, {row['steps']:.0f}{steps}")
        if picture == "camera":  # one channel is its own principal colour
            cells[1] = "(the same)"
        lines.append(line(label, *cells))
    return lines


PICTURES = {
    "bundled, 32x32": "bundled",
    "astronaut, 32x32": "astronaut",
    "camera, 32x32, grey": "camera",
    "chelsea, 32x21": "chelsea",
    "coffee, 32x21": "coffee",
}


def polished(record: Row) -> list[float]:
    """Return PSNR before and after the polish, of three pictures, and its least and most seconds."""
    rows = [
        one(record["rows"], picture=picture, polish=polish)
        for picture in ("bundled", "astronaut", "camera")
        for polish in ("none", "ridge")
    ]
    seconds = [row["polish_seconds"] for row in rows[1::2]]
    return [*(row["psnr_train"] for row in rows), min(seconds), max(seconds)]


BATCHES = "python -m bench.batches --json bench/results/batches.json"
CLAIMS: list[Bound] = [
    Table("docs/how_to/gpu.md", "gpu-h200.json", lambda record: table(record).splitlines()[2:]),
    Claim(
        "docs/how_to/several_pictures.md",
        "`--hidden-size 16 --num-frequencies 16 --depth 3` took {:.1f} s together and {:.1f} s alone (600"
        " steps, two"
        " cores); sixteen of 64x64 with the default network {:.1f} s together and {:.1f} s alone (150 steps)",
        "batches.json",
        lambda record: [row[way] for row in record["rows"] for way in ("together", "alone")],
        BATCHES,
    ),
    Table("bench/README.md", "weight_average.json", averages),
    Table("bench/README.md", "gauss_newton.json", pieces),
    Claim(
        "bench/README.md",
        "bundled {:.2f} to {:.2f} dB, astronaut {:.2f} to {:.2f}, camera {:.2f} to {:.2f},"
        " for {:.2f} to {:.2f} s:",
        "polish.json",
        polished,
    ),
]
UNBOUND = [
    Unbound("docs/how_to/exports.md", "The zoom ends at 100 000 screen pixels", "a limit"),
    Unbound("docs/how_to/exports.md", "blocks of about 80 ms", "a limit"),
    Unbound(
        "docs/how_to/exports.md", "`model.html#300,200,40` opens at pixel (300, 200), 40 times.", "an example"
    ),
    Unbound(
        "docs/how_to/exports.md",
        "| format | 384 tiles of 32x32, kodim23, 768x512 | size | written in | one network, 128x128 | size |",
        "no program keeps them; tests hold the differences to bounds",
    ),
]
