"""Say which figures of docs/how_to/large_pictures.md follow from which record."""

from __future__ import annotations

from ..command_line import PHOTOGRAPHS
from .pages import Bound, Claim, Table, Unbound
from .rows import Row, line, mean, one, rule, where

PAGE = "docs/how_to/large_pictures.md"
WHOLE = "python -m bench.whole_pictures --target 40 --json bench/results/whole_pictures.json"
HIDDEN = (
    "python -m bench.tiles_held_out --missing 0.5 --size 128 --tiles 16"
    " --json bench/results/tiles_held_out.json"
)
TINY = "--tiles 32 --hidden-size 8 --num-frequencies 8 --steps 2"
SHAPES = ((8, 16, 64), (8, 12, 64), (8, 16, 48), (8, 16, 32), (12, 24, 64), (16, 24, 64), (32, 32, 48))


def shape(record: Row, tile: int, frequencies: int, units: int) -> Row:
    """Return the row of a tile's side, its frequencies and its units."""
    return one(record["rows"], tile=tile, num_frequencies=frequencies, hidden_size=units)


def shapes(record: Row) -> list[str]:
    """Return the table of parameters, quality and operations."""
    lines = [
        "| tile | m | hidden | parameters per value | PSNR after 48 steps | steps to 40 dB | GFLOP to 40 dB"
        " | at twice the size, less bicubic |",
        rule(8),
    ]
    for numbers in SHAPES:
        row = shape(record, *numbers)
        heads = [f"**{n}**" if numbers == (8, 16, 48) else str(n) for n in numbers]
        ends = f", ends at {row['psnr_aimed']:.1f} dB" if row["psnr_aimed"] < 40 else ""
        steps = row["steps_aimed"]
        cells = [
            f"{row['parameters_per_value']:.1f}",
            f"{row['psnr']:.2f} dB",
            f"{steps:.1f}" if steps < 100 else f"{steps:.0f}",
            f"{row['gflop_aimed']:.0f}{ends}",
            f"{row['twice']:.2f} dB",
        ]
        lines.append(line(heads[0], *heads[1:], *cells))
    return lines


def held_out(record: Row) -> list[str]:
    """Return the table of held-out pixels."""
    names = {"chelsea": "", "coffee": "", "astronaut": "", "camera": " (grey)"}
    lines = ["| picture | one network | tiles of 32x32 | bicubic |", rule(4)]
    for name, more in names.items():
        row = one(record["rows"], picture=name, size=256, tile=32, missing=None)
        figures = (row["network"]["psnr_unseen"], row["tiles"]["psnr_unseen"], row["plain"])
        lines.append(line(f"{name}{more}", *(f"{figure:.2f} dB" for figure in figures)))
    return lines


def peaks(record: Row) -> list[str]:
    """Return the table of peaks of memory."""
    lines = [
        "| megapixels | peak of `coordfit fit` | peak of `coordfit render` with `--crop`, 512x512 pixels |",
        rule(3),
    ]
    return lines + [
        line(f"{row['megapixels']:g}", f"{row['peak_mib']:.0f} MiB", f"{row['crop_peak_mib']:.0f} MiB")
        for row in where(record["rows"], fit=TINY)
    ]


def of_hidden(record: Row) -> list[float | None]:
    """Return the means over photographs of hidden pixels: tiles, one network, biharmonic equations."""
    rows = where(record["rows"], size=128, tile=16, missing=0.5)
    if len(rows) != len(PHOTOGRAPHS):
        return [None] * 3
    return [
        mean([row["tiles"] for row in rows], "psnr_unseen"),
        mean([row["network"] for row in rows], "psnr_unseen"),
        mean(rows, "plain"),
    ]


def bits_of_tiles(row: Row) -> float:
    """Return the bits per pixel of three colours, with parameters in float16."""
    return float(3 * 16 * row["parameters_per_value"])


CLAIMS: list[Bound] = [
    *(
        Claim(
            PAGE,
            f"| {label} | {{:.2f}} dB | {{:.3f}} | {{:.2f}} | {{:.2f}} |",
            "whole_pictures.json",
            lambda record, name=name: [
                one(record["rows"], picture=name, target=40.0)[figure]
                for figure in ("psnr", "ssim", "seconds", "rate")
            ],
            WHOLE,
        )
        for name, label in {
            "astronaut": "astronaut | 512x512",
            "coffee": "coffee | 600x400",
            "chelsea": "chelsea | 451x300",
            "camera": "camera (grey) | 512x512",
        }.items()
    ),
    Claim(
        PAGE,
        "nine for each colour value at 40 dB, {:.0f} bits per pixel in float16",
        "whole_pictures.json",
        lambda record: [bits_of_tiles(one(record["rows"], picture="astronaut", target=40.0))],
        WHOLE,
    ),
    Table(PAGE, "tiles.json", shapes),
    Claim(
        PAGE,
        "is the smallest that reaches 40 dB in 48 steps; fewer parameters take {:.1f} times the"
        " operations and more.",
        "tiles.json",
        lambda record: [shape(record, 8, 16, 32)["gflop_aimed"] / shape(record, 8, 16, 48)["gflop_aimed"]],
    ),
    Claim(
        PAGE,
        "save a third of the operations, for {:.0f} % more parameters and {:.1f} dB less between the pixels.",
        "tiles.json",
        lambda record: [
            100
            * (
                shape(record, 8, 12, 64)["parameters_per_value"]
                / shape(record, 8, 16, 48)["parameters_per_value"]
                - 1
            ),
            shape(record, 8, 16, 48)["twice"] - shape(record, 8, 12, 64)["twice"],
        ],
    ),
    Table(PAGE, "tiles_held_out.json", held_out),
    Claim(
        PAGE,
        "tiles of 16x16 reach {:.2f} dB on hidden pixels, one network {:.2f}, biharmonic equations {:.2f}",
        "tiles_held_out.json",
        of_hidden,
        HIDDEN,
    ),
    Table(PAGE, "large_pictures.json", peaks),
    Claim(
        PAGE,
        "whose folder of 12 megapixels has {:.0f} MB, the peaks were {:.0f} and {:.0f} MiB",
        "large_pictures.json",
        lambda record: [
            one(record["rows"], fit="--tiles 8 --steps 2")[name]
            for name in ("folder_mb", "peak_mib", "crop_peak_mib")
        ],
    ),
    Claim(
        PAGE,
        "To 38 dB, coffee enlarged and given detail took {:.1f} s of training with 1.5 megapixels, {:.1f}"
        " s with 3 and"
        " {:.1f} s with 12, at a peak of {:.0f}, {:.0f} and {:.0f} MiB: {:.1f}, {:.1f} and {:.1f}"
        " microseconds a pixel,"
        " after {:.0f}, {:.0f} and {:.0f} steps of a tile",
        "large_pictures_38db.json",
        lambda record: [
            figure(one(record["rows"], megapixels=size))
            for figure in (
                lambda row: row["seconds"],
                lambda row: row["peak_mib"],
                lambda row: 1e6 * row["seconds"] / row["pixels"],
                lambda row: row["epochs"],
            )
            for size in (1.5, 3.0, 12.0)
        ],
    ),
]
UNBOUND = [
    Unbound(PAGE, "The bound is 500 MiB and 8 bytes per pixel", "a bound, above what the table of peaks has"),
    Unbound(PAGE, "had 490 MiB at its peak", "a fit that was killed and resumed by hand"),
    Unbound(PAGE, "## Forty decibels of a photograph", "a title"),
]
