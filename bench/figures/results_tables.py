"""Make the tables of docs/results.md of their records, and work out the figures of its sentences."""

from __future__ import annotations

import math
from statistics import fmean, geometric_mean
from typing import Any

from ..command_line import PHOTOGRAPHS
from ..commands import SMALL
from ..held_out import at_sigma, best, gaussians
from ..paper import PAPER
from ..peers.tables import is_rendering, ratio, ratios, share_of_limit, steps
from ..seed_setting import gain
from ..time_to_psnr.__main__ import best as best_time
from ..time_to_psnr.__main__ import gains as gains_of
from ..time_to_psnr.contenders import LEVELS
from .rows import Row, and_mean, command, each, line, mean, rule, where

EVERY_SECOND = "coordfit --train-on every-second --encoding"


def seconds_to_psnr(record: Row) -> list[str]:
    """Return the table of seconds until a PSNR."""
    names = {
        "torch: paper": "PyTorch, the paper's recipe (Adam, full batch)",
        "coordfit: paper": "`coordfit`, the same",
        "torch: Adam, cosine": "PyTorch, tuned Adam (cosine, mini-batches, the network of `fast`)",
        "coordfit: Adam, cosine": "`coordfit`, the same",
        "torch: fast (Muon)": "PyTorch, `fast` written in it (Muon, cosine, mini-batches)",
        "coordfit: fast (Muon)": "**`coordfit`, `fast`, the default**",
        "torch: sharp (Muon)": "PyTorch, `sharp` written in it (sines, no sigmoid at the end, linear schedule)",
        "coordfit: sharp (Muon)": "`coordfit --recipe sharp`",
    }
    lines = [line("program", *(f"{level:g} dB" for level in LEVELS)), rule(1 + len(LEVELS))]
    for name, label in names.items():
        times = {level: best_time(record["runs"], name, level, "seconds") for level in LEVELS}
        cells = {level: f"{t:.2f}" if t < 10 else f"{t:.1f}" for level, t in times.items() if math.isfinite(t)}
        if name == "coordfit: fast (Muon)":
            cells[40] = f"**{cells[40]}**"
        lines.append(line(label, *(cells.get(level, "") for level in LEVELS)))
    return lines


def gains(record: Row, figure: str) -> list[float]:
    """Return what each of `GAINS` takes beside the faster one until 40 dB."""
    return list(gains_of(record["runs"], figure).values())


def held_out_pixels(record: Row) -> list[str]:
    """Return the table of the bundled picture's held-out pixels."""
    rows = {
        name: command(record, f"{EVERY_SECOND} {name}") for name in ("none", "basic", "positional", "gaussian")
    }
    most = max(row["psnr_held_out"] for row in rows.values())
    lines = ["| encoding | training pixels | held-out pixels |", rule(3)]
    for name, row in rows.items():
        figure = f"{row['psnr_held_out']:.2f}"
        lines.append(
            line(
                f"`{name}`",
                f"{row['psnr_train']:.2f}",
                f"**{figure}**" if row["psnr_held_out"] == most else figure,
            )
        )
    plain = {way: rows["gaussian"][f"psnr_held_out_{way}"] for way in ("bilinear", "bicubic")}
    return lines + [f"| {way} interpolation | | {figure:.2f} |" for way, figure in plain.items()]


def sigmas(record: Row) -> list[str]:
    """Return the table of encodings and sigmas."""
    lines = [
        "| size | `none` | `basic` | sigma too small | best sigma | sigma too large | `--sigma auto` |",
        rule(7),
    ]
    for size in (32, 128, 256):
        cases = where(record["cases"], size=size)
        columns = [
            [case["rows"][0] for case in cases],
            [case["rows"][1] for case in cases],
            [gaussians(case)[0] for case in cases],
            [best(case) for case in cases],
            [gaussians(case)[-1] for case in cases],
            [at_sigma(case, case["auto"]) for case in cases],
        ]
        cells = [f"{mean(rows, 'psnr_held_out'):.2f} ({mean(rows, 'psnr_train'):.1f})" for rows in columns]
        lines.append(line(f"{size}x{size}", *cells))
    return lines


def auto_beside_one(record: Row, size: int, figure: str) -> float:
    """Return what `--sigma auto` has more than sigma 1, in the mean of the photographs."""
    cases = where(record["cases"], size=size)
    return fmean(at_sigma(case, case["auto"])[figure] - at_sigma(case, 1.0)[figure] for case in cases)


def course_project(record: Row) -> list[str]:
    """Return the table of what `--sigma auto` gains in the course project's setting."""
    lines = [line("trained", "of", *PHOTOGRAPHS, "mean"), rule(7)]
    kinds = [
        ("all pixels", "all pixels", "all", "psnr"),
        ("every second", "all pixels", "every-second", "psnr"),
        ("every second", "held-out pixels", "every-second", "psnr_held_out"),
    ]
    for trained, of, mode, figure in kinds:
        gains = each(record["cases"], lambda case, f=figure: gain(case, f), mode=mode)
        lines.append(line(trained, of, *(f"{value:+.2f}" for value in and_mean(gains))))
    return lines


def paper(record: Row) -> list[str]:
    """Return the table beside the paper's."""
    ours = {name: mean(where(record["rows"], encoding=name), "psnr_test") for name in PAPER}
    lines = [line("pictures", *(f"`{name}`" for name in PAPER)), rule(5)]
    for label, row in {"four photographs": ours, "the paper's natural images": PAPER}.items():
        cells = [f"{row[name]:.2f} ({row[name] - row['none']:+.2f})" for name in list(PAPER)[1:]]
        lines.append(line(label, f"{row['none']:.2f}", *cells))
    return lines


def hidden(kriging: Row, inpainting: Row) -> list[str]:
    """Return the table of half of the pixels hidden."""
    half = where(kriging["cases"], size=128, missing=0.5)
    nets = where(inpainting["cases"], size=128, missing=0.5)
    rows = {
        "**`coordfit inpaint --missing 0.5`**, by kriging": each(half, lambda case: float(case["psnr_hidden"])),
        "`--method network`": each(nets, lambda case: float(case["psnr_hidden"]), average=1),
        "`--average 4`: the mean of four networks": each(
            nets, lambda case: float(case["psnr_hidden"]), average=4
        ),
        "biharmonic equations": each(half, lambda case: float(case["psnr_hidden_biharmonic"])),
        "the nearest known pixel": each(nets, lambda case: float(case["psnr_hidden_nearest"]), average=1),
    }
    lines = [f"| filling | {' | '.join(PHOTOGRAPHS)} | mean |", rule(6)]
    for place, (label, values) in enumerate(rows.items()):
        cells = [f"{value:.2f}" for value in and_mean(values)]
        lines.append(line(label, *cells[:-1], f"**{cells[-1]}**" if place == 0 else cells[-1]))
    return lines


def larger_hidden(record: Row) -> list[str]:
    """Return the table of larger pictures and of nine tenths hidden."""
    lines = [line("hidden", "size", *PHOTOGRAPHS, "mean"), rule(7)]
    for missing, size in ((0.5, 256), (0.5, 512), (0.9, 128), (0.9, 256), (0.9, 512)):
        cases = where(record["cases"], missing=missing, size=size)
        ours, theirs = (
            and_mean(each(cases, lambda case, f=figure: float(case[f])))
            for figure in ("psnr_hidden", "psnr_hidden_biharmonic")
        )
        cells = [f"{a:.2f}, {b:.2f}" for a, b in zip(ours[:-1], theirs[:-1], strict=True)]
        label = "half" if missing == 0.5 else "nine tenths"
        lines.append(line(label, size, *cells, f"**{ours[-1]:.2f}**, {theirs[-1]:.2f}"))
    return lines


def within(record: Row, missing: float) -> list[float]:
    """Return the shares within one and two deviations, least and most of the sizes, in per cent."""
    found = []
    for name in ("within_1", "within_2"):
        means = [mean(where(record["cases"], missing=missing, size=size), name) for size in (128, 256, 512)]
        found += [100 * min(means), 100 * max(means)]
    return found


def loops(record: Row) -> list[float]:
    """Return what PyTorch's loop took beside coordfit in each round, least and most."""
    ratios = [turn["torch-loop"]["seconds"] / turn["coordfit"]["seconds"] for turn in record["rounds"]]
    return [min(ratios), max(ratios)]


def lows(record: Row, **key: Any) -> list[Any]:
    """Return a PSNR that none of many seeds is below, to a tenth, and the number of runs."""
    values = [value for row in where(record["rows"], **key) for value in row["psnr"]]
    return [math.floor(10 * min(values)) / 10, len(values)] if values else [None, None]


def peers(record: Row, cores: int) -> list[Any]:
    """Return the geometric mean of the ratios, the least, and its case."""
    found = ratios(steps(record["results"], cores))
    closest = min(found, key=lambda case: found[case])
    return [geometric_mean(found.values()), found[closest], closest]


def shares_of_limit(record: Row) -> list[float]:
    """Return the least and the greatest share of the limit, in percent, of steps on one processor."""
    rows = steps(record["results"], 1)
    shares = [100 * share for row in rows if (share := share_of_limit(row)) is not None]
    return [min(shares), max(shares)]


def renderings(record: Row) -> list[float]:
    """Return the best peer's share of coordfit's time, in percent, least and greatest of the renderings."""
    shares = [100 * value for row in filter(is_rendering, record["results"]) if (value := ratio(row))]
    return [min(shares), max(shares)]


def visits(record: Row) -> list[float]:
    """Return microseconds of a pixel's visit, and what is beside the picture, in MiB, by the picture's size."""
    times = {row["size"]: row["nanoseconds_per_pixel"] / 1000 for row in record["rows"]}
    small, large = ([time for size, time in times.items() if (size <= 256) == kept] for kept in (True, False))
    beside = [row["constant_bytes"] / 2**20 for row in record["rows"]]
    return [max(small), min(large), max(large), min(beside), max(beside)]


def pyramid(record: Row, start: str) -> Row:
    """Return the row of the trained pyramid that starts at the picture, or as drawn."""
    return command(record, f"coordfit --encoding pyramid --output-start {start} {SMALL}")
