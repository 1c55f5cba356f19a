"""Say which figures of docs/results.md follow from which record."""

from __future__ import annotations

import math
from statistics import fmean, geometric_mean
from typing import Any

from ..command_line import PHOTOGRAPHS
from ..held_out import at_sigma, best, gaussians, has_order
from ..paper import PAPER
from ..seed_setting import gain
from ..time_to_psnr.__main__ import best as best_time
from ..time_to_psnr.contenders import LEVELS
from .pages import Claim, Table, Unbound
from .rows import Row, and_mean, command, each, line, mean, one, rule, where

PAGE = "docs/results.md"
COMMANDS = "python -m bench.commands --json bench/results/commands.json"
EVERY_SECOND = "coordfit --train-on every-second --encoding"


def seconds_to_psnr(record: Row) -> list[str]:
    """Return the table of seconds until a PSNR."""
    names = {
        "torch: paper": "PyTorch, the paper's recipe (Adam, full batch)",
        "torch: tuned Adam, cosine": "PyTorch, tuned (Adam with a cosine, mini-batches, the same network"
        " as `fast`)",
        "coordfit: fast": "**`coordfit`** (`fast`: Muon, cosine, mini-batches)",
        "coordfit: sharp": "`coordfit --recipe sharp` (sines, no sigmoid at the end, linear schedule)",
    }
    lines = [line("", *(f"{level:g} dB" for level in LEVELS)), rule(1 + len(LEVELS))]
    for name, label in names.items():
        times = {level: best_time(record["runs"], name, level, "seconds") for level in LEVELS}
        cells = {level: f"{t:.2f}" if t < 10 else f"{t:.1f}" for level, t in times.items() if math.isfinite(t)}
        if name.startswith("coordfit"):
            cells[40] = f"**{cells[40]}**"
        lines.append(line(label, *(cells.get(level, "") for level in LEVELS)).replace("|  |", "| |"))
    return [text.replace("|  |", "| |") for text in lines]


def held_out_pixels(record: Row) -> list[str]:
    """Return the table of the bundled picture's held-out pixels."""
    rows = {
        name: command(record, f"{EVERY_SECOND} {name}") for name in ("none", "basic", "positional", "gaussian")
    }
    most = max(row["psnr_held_out"] for row in rows.values())
    lines = ["| | training pixels | held-out pixels |", rule(3)]
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
        "| | `none` | `basic` | sigma too small | best sigma | sigma too large | `--sigma auto` |",
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
    lines = [line("", *(f"`{name}`" for name in PAPER)).replace("|  |", "| |"), rule(5)]
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
    lines = [f"| | {' | '.join(PHOTOGRAPHS)} | mean |", rule(6)]
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
    """Return the least PSNR of many seeds, and the number of runs."""
    values = [value for row in where(record["rows"], **key) for value in row["psnr"]]
    return [min(values), len(values)] if values else [None, None]


def peers(record: Row) -> list[float]:
    """Return the geometric mean of the ratios of all cases, and that without the tiles."""
    rows = [row for row in record["results"] if row["ratio"]]
    return [
        geometric_mean(row["ratio"] for row in rows),
        geometric_mean(row["ratio"] for row in rows if "tiles" not in row["case"]),
    ]


CLAIMS = [
    Claim(
        PAGE,
        "| `coordfit` | {:.1f} dB, SSIM {:.3f}, after {:d} steps, {:.1f} s of training, {:.1f} s with the"
        " extra `fast`",
        "commands.json",
        lambda record: [
            *(command(record, "coordfit")[name] for name in ("psnr", "ssim", "steps")),
            command(record, "coordfit --device numpy")["seconds"],
            command(record, "coordfit")["seconds"],
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit --recipe sharp` | {:.1f} dB after {:d} steps, {:.1f} s of training with the extra"
        " `fast` |",
        "commands.json",
        lambda record: [
            command(record, "coordfit --recipe sharp")[name] for name in ("psnr", "steps", "seconds")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit --size 32 --recipe sharp --steps 60` | {:.1f} dB, {:.2f} s of training with the"
        " extra `fast` |",
        "commands.json",
        lambda record: [
            command(record, "coordfit --size 32 --recipe sharp --steps 60")[name]
            for name in ("psnr", "seconds")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit --tiles 8 --target-psnr 40` | {:.1f} dB, {:.2f} s of training on plain NumPy |",
        "commands.json",
        lambda record: [
            command(record, "coordfit --tiles 8 --target-psnr 40 --device numpy")[name]
            for name in ("psnr", "seconds")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit --recipe paper --target-psnr 40 --evaluate-every 20` | {:.1f} dB after {:d}"
        " full-batch steps,"
        " {:.0f} s of training |",
        "commands.json",
        lambda record: [
            command(record, "coordfit --recipe paper --target-psnr 40 --evaluate-every 20")[name]
            for name in ("psnr", "steps", "seconds")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "| `coordfit experiments` | the whole study and its report in {} min {} s; with `--quick` {:.0f} s |",
        "commands.json",
        lambda record: [
            None
            if (whole := command(record, "coordfit experiments")["seconds_in_all"]) is None
            else whole // 60,
            None if whole is None else round(whole % 60),
            command(record, "coordfit experiments --quick")["seconds_in_all"],
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "no run of the default ends below {:.1f} dB (four photographs, three sizes, {:d} runs,",
        "steadiness.json",
        lambda record: [math.floor(10 * (found := lows(record, recipe="default"))[0]) / 10, found[1]],
    ),
    Claim(
        PAGE,
        "no run of `sharp` at 32x32 below {:.1f} dB ({:d} runs,",
        "steadiness.json",
        lambda record: lows(record, recipe="sharp", size=32, steps=60),
        "python -m bench.steadiness --recipe sharp --steps 60 --sizes 32 --limit 60"
        " --json bench/results/steadiness.json",
    ),
    Table(PAGE, "time_to_psnr.json", seconds_to_psnr),
    *(
        Claim(
            PAGE,
            f"| `{name}` | {{:.2f}} | {{:.2f}} | {{}} | {{:.0f}} | {{:.2f}} |",
            "commands.json",
            lambda record, name=name, words=words: [
                (row := command(record, words))["psnr"],
                row["seconds"],
                f"{row['parameters']:,}".replace(",", " "),
                row["bits_per_pixel"],
                command(record, f"{EVERY_SECOND} {name}")["psnr_held_out"],
            ],
            COMMANDS,
        )
        for name, words in {
            "gaussian": "coordfit --device numpy",
            "grid": "coordfit --encoding grid --device numpy",
        }.items()
    ),
    Claim(
        PAGE,
        "| bicubic interpolation | | | | | {:.2f} |",
        "commands.json",
        lambda record: [command(record, f"{EVERY_SECOND} gaussian")["psnr_held_out_bicubic"]],
    ),
    Claim(
        PAGE,
        "--hidden-size 24 --depth 2` has {:.2f} dB with {} parameters, {:.2f} for each colour value;"
        " {:.2f} dB with"
        " `--output-start drawn`.",
        "commands.json",
        lambda record: [
            (row := pyramid(record, "picture"))["psnr"],
            f"{row['parameters']:,}".replace(",", " "),
            row["parameters_per_value"],
            pyramid(record, "drawn")["psnr"],
        ],
    ),
    Table(PAGE, "commands.json", held_out_pixels),
    Table(PAGE, "held_out.json", sigmas),
    Claim(
        PAGE,
        "below the best. It learns the training pixels better than the best sigma in eleven cases. In the"
        " twelfth,"
        " astronaut at 256x256, it is {:.1f} dB worse",
        "held_out.json",
        lambda record: [
            best(case)["psnr_train"] - gaussians(case)[-1]["psnr_train"]
            for case in [one(record["cases"], picture="astronaut", size=256)]
        ],
    ),
    Claim(
        PAGE,
        "Too large a sigma leaves noise between the training pixels, {:.0f} to {:.0f} dB below the best",
        "held_out.json",
        lambda record: [
            bound(
                best(case)["psnr_held_out"] - gaussians(case)[-1]["psnr_held_out"] for case in record["cases"]
            )
            for bound in (min, max)
        ],
    ),
    Claim(
        PAGE,
        "`none` < `basic` in eleven cases. For camera at 32x32 `basic` has {:.1f} dB and `none` {:.1f}:",
        "held_out.json",
        lambda record: [
            row["psnr_held_out"]
            for case in [one(record["cases"], picture="camera", size=32)]
            if not has_order(case)
            for row in (case["rows"][1], case["rows"][0])
        ],
    ),
    Claim(
        PAGE,
        "`--sigma auto` is {:.1f} dB ahead of sigma 1 at 256x256. At 128x128, where 1 is nearly right for"
        " held-out"
        " pixels, it is {:.1f} dB ahead there, and {:.1f} dB ahead on training pixels.",
        "held_out.json",
        lambda record: [
            auto_beside_one(record, 256, "psnr_held_out"),
            auto_beside_one(record, 128, "psnr_held_out"),
            auto_beside_one(record, 128, "psnr_train"),
        ],
    ),
    Table(PAGE, "seed_setting.json", course_project),
    Table(PAGE, "paper.json", paper),
    Table(PAGE, "kriging.json inpainting.json", hidden),
    Table(PAGE, "kriging.json", larger_hidden),
    Claim(
        PAGE,
        "with 300 steps on half of the bundled picture, {:.0f} % of the hidden pixels are within one and"
        " {:.0f} % within"
        " two of it, where kriging has {:.0f} % and {:.0f} %.",
        "commands.json",
        lambda record: [
            None if (share := command(record, words)[name]) is None else 100 * share
            for words in (
                "coordfit inpaint --missing 0.5 --average 4 --steps 300",
                "coordfit inpaint --missing 0.5",
            )
            for name in ("within_1", "within_2")
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "With half of the pixels hidden {:.0f} or {:.0f} % of them are within one standard deviation that"
        " kriging tells,"
        " and {:.0f} to {:.0f} % within two; with nine tenths hidden {:.0f} to {:.0f} % and {:.0f} to"
        " {:.0f} %.",
        "kriging.json",
        lambda record: [*within(record, 0.5), *within(record, 0.9)],
    ),
    Claim(
        PAGE,
        "Over the fourteen cases the fastest of the others takes {:.2f} times as long as coordfit"
        " (geometric mean;"
        " {:.2f} without the tiles)",
        "peers.json",
        peers,
    ),
    Claim(
        PAGE,
        "The closest case is mini-batches of 1024 rows of the larger network: {:.2f} times.",
        "peers.json",
        lambda record: [min(row["ratio"] for row in record["results"])],
    ),
    Claim(
        PAGE,
        "The step of the full batch runs at {:.0f} % and more of the rate of bare matrix products.",
        "peers.json",
        lambda record: [100 * min(row["share_of_gemm"] for row in record["results"] if "full" in row["case"])],
    ),
    Claim(
        PAGE,
        "coordfit {:.1f} s, PyTorch one network after the other {:.1f} s, PyTorch as batched products"
        " {:.1f} s. Medians"
        " of three rounds; PyTorch's loop took {:.2f} to {:.2f} times as long in a round",
        "sweep.json",
        lambda record: [*record["seconds"].values(), *loops(record)],
    ),
    Claim(
        PAGE,
        "{:.0f} microseconds a visit. Memory is the picture and {:.0f} to {:.0f} MiB",
        "scaling.json",
        lambda record: [
            fmean(row["nanoseconds_per_pixel"] for row in record["rows"]) / 1000,
            *(bound(row["constant_bytes"] for row in record["rows"]) / 2**20 for bound in (min, max)),
        ],
    ),
]


def pyramid(record: Row, start: str) -> Row:
    """Return the row of the trained pyramid that starts at the picture, or as drawn."""
    from ..commands import SMALL

    return command(record, f"coordfit --encoding pyramid --output-start {start} {SMALL}")


UNBOUND = [
    Unbound(PAGE, "(68 and 95 % would be those of a Gaussian error.)", "arithmetic"),
    Unbound(PAGE, "It learns the training pixels better than the best sigma in eleven cases", "a count"),
]
