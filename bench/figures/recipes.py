"""Say which figures of docs/explanation/recipes.md follow from which record."""

from __future__ import annotations

import math

from ..command_line import PHOTOGRAPHS
from ..recipes import lines
from ..time_to_psnr.__main__ import best
from .pages import Bound, Claim, Table, Unbound
from .results import COMMANDS
from .rows import Row, command, line, one, rule

PAGE = "docs/explanation/recipes.md"
SIZES = (32, 64, 128)


def default(record: Row) -> list[str]:
    """Return the table of the default with seed 0."""
    lines = [line("size", *PHOTOGRAPHS), rule(5)]
    for size in SIZES:
        rows = [one(record["rows"], picture=name, size=size, recipe="default") for name in PHOTOGRAPHS]
        lines.append(line(f"{size}x{size}", *(f"{row['psnr'][0]:.1f}" for row in rows)))
    return lines


def spread(record: Row) -> list[str]:
    """Return the table of the default's least and greatest PSNR."""
    lines = [line("least to greatest", *PHOTOGRAPHS), rule(5)]
    for size in SIZES:
        rows = [one(record["rows"], picture=name, size=size, recipe="default") for name in PHOTOGRAPHS]
        lines.append(
            line(f"{size}x{size}", *(f"{min(row['psnr']):.1f} to {max(row['psnr']):.1f}" for row in rows))
        )
    return lines


def visits(record: Row) -> list[str]:
    """Return the table of pixel visits to a PSNR."""
    levels = (30, 35, 40, 45, 50)
    lines = [f"| recipe | {' | '.join(f'{level} dB' for level in levels)} |", rule(6)]
    for name in ("fast", "sharp"):
        found = [best(record["runs"], f"coordfit: {name} (Muon)", level, "visits") for level in levels]
        lines.append(line(f"`{name}`", *(f"{value:,.0f}" if math.isfinite(value) else "-" for value in found)))
    return lines


def seconds(record: Row) -> list[float]:
    """Return seconds of `fast` to 40 dB, of `sharp` to 40 and to 50, and by what factor the last is more."""
    fast, sharp, fifty = (
        best(record["runs"], f"coordfit: {name} (Muon)", level, "seconds")
        for name, level in (("fast", 40), ("sharp", 40), ("sharp", 50))
    )
    return [fast, sharp, fifty, fifty / fast]


def held_out(record: Row) -> list[float]:
    """Return held-out pixels at 256x256 of `sharp` and `fast`, of two photographs."""
    return [
        one(record["rows"], table="held-out", row=f"`{name}`", picture=picture)["psnr_held_out"]
        for picture in ("astronaut", "coffee")
        for name in ("sharp", "fast")
    ]


CLAIMS: list[Bound] = [
    *(
        Table(PAGE, "recipes.json", lambda record, name=name: lines(record["rows"], name))
        for name in ("fast", "rates", "256", "sharp", "sizes")
    ),
    Claim(
        PAGE,
        "192 frequencies and 192 units, rate 0.004, reach {:.1f} (astronaut) and {:.1f} (coffee) in 502 steps",
        "recipes.json",
        lambda record: [
            one(record["rows"], table="larger", picture=picture)["psnr"] for picture in ("astronaut", "coffee")
        ],
    ),
    Claim(
        PAGE,
        "astronaut at 256x256 {:.1f} ({:.1f}), coffee at 256x256 {:.1f} ({:.1f}).",
        "recipes.json",
        held_out,
    ),
    Table(PAGE, "steadiness.json", default),
    Table(PAGE, "steadiness.json", spread),
    Table(PAGE, "time_to_psnr.json", visits),
    Claim(
        PAGE,
        "In seconds (the same run, two cores): `fast` {:.2f} to 40 dB; `sharp` {:.2f} to 40 dB and {:.2f}"
        " to 50 dB, {:.1f}"
        " times what `fast` takes to 40.",
        "time_to_psnr.json",
        seconds,
    ),
    Claim(
        PAGE,
        "So 50 dB cost `sharp` {:.1f} times what 40 dB cost `fast`.",
        "time_to_psnr.json",
        lambda record: [
            best(record["runs"], "coordfit: sharp (Muon)", 50, "visits")
            / best(record["runs"], "coordfit: fast (Muon)", 40, "visits")
        ],
    ),
    Claim(
        PAGE,
        "(`coordfit --recipe sharp --device numpy --steps 300`: {:.2f} s; `fast`: {:.2f} s)",
        "commands.json",
        lambda record: [
            command(record, f"coordfit --recipe {name} --device numpy --steps 300")["seconds"]
            for name in ("sharp", "fast")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "the bundled picture {:.1f} dB (`fast` {:.1f})",
        "commands.json",
        lambda record: [
            command(record, f"coordfit --recipe {name} --train-on every-second --steps 600")["psnr_held_out"]
            for name in ("sharp", "fast")
        ],
    ),
]
UNBOUND = [
    Unbound(PAGE, "## `sharp`: fifty decibels", "a title"),
    Unbound(PAGE, "which visit every pixel of 256x256 37 times", "it follows from the settings"),
    Unbound(
        PAGE,
        "operations each (340 GFLOP, Muon's own included",
        "it follows from the sizes of the matrix products",
    ),
    Unbound(
        PAGE,
        "loses: `fast` reaches 36.3 and 42.1 dB on astronaut and chelsea without it, 35.0 and 39.3 with"
        " it; `sharp`"
        " 39.8 and 43.3 without, 36.1 and 39.4 with it.",
        "tried in PyTorch once; the code is not kept",
    ),
    Unbound(
        PAGE,
        "44.5 instead of 44.3. Muon for the first layer too, with sigmoid and cosine: 43.3 instead of"
        " 43.5. A ridge"
        " solution of the last layer at the end (`--polish ridge`): less than 0.1 but for the camera,"
        " which goes from 63"
        " to 68.",
        "tried once; the code of the first two is not kept",
    ),
    Unbound(PAGE, "So 50 dB cost `sharp`", "levels"),
]
