"""Measure what each setting of the recipes `fast` and `sharp` brings, by steps and not by seconds.

    python -m bench.recipes --json bench/results/recipes.json    # docs/explanation/recipes.md: ten minutes
    python -m bench.recipes --tables fast rates --json bench/results/recipes.json --show

PSNR in dB of the middle squares of scikit-image's photographs, trained on all pixels unless a table says
otherwise, seed 0. A row is a recipe with some settings changed, and a column a picture.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any
from unittest import mock

import coordfit
from coordfit.optimizers.muon import Muon

from .command_line import PHOTOGRAPHS, BadInputError, Parser, new_file, run_main
from .records import Runs
from .scikit_pictures import picture_of

Settings = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: its first cell, the recipe and settings of all rows, and what each row changes."""

    head: str
    recipe: str
    common: Settings
    rows: dict[str, Settings]
    pictures: Sequence[str] = PHOTOGRAPHS
    size: int = 128
    figure: str = "psnr"
    has_mean: bool = False


TABLES = {
    "fast": Table(
        "`fast`, 300 steps of 1024 pixels",
        "fast",
        {"steps": 300},
        {
            "**Muon, momentum 0.9, rate 0.016, three iterations, ReLU, sigmoid at the end**": {},
            "with five iterations of Newton and Schulz": {"iterations": 5},
            "sigma 14": {"sigma": 14.0},
            "sigma 20": {"sigma": 20.0},
            "with momentum 0.95": {"muon_momentum": 0.95},
            "with rate 0.03, momentum 0.95": {"learning_rate": 0.03, "muon_momentum": 0.95},
            "with Adam, rate 0.008, *600 steps*": {"optimizer": "adam", "learning_rate": 0.008, "steps": 600},
            "the same from the mean colour": {
                "optimizer": "adam",
                "learning_rate": 0.008,
                "steps": 600,
                "output_start": "mean",
            },
            "with Adam, rate 0.004, *600 steps*": {"optimizer": "adam", "learning_rate": 0.004, "steps": 600},
            "without the sigmoid (identity at the end)": {"output_activation": "identity"},
            "the same, from the mean colour": {"output_activation": "identity", "output_start": "mean"},
            "with batches of 512, 600 steps, rate 0.01": {
                "batch_size": 512,
                "steps": 600,
                "learning_rate": 0.01,
            },
            "with batches of 2048, 150 steps, rate 0.02": {
                "batch_size": 2048,
                "steps": 150,
                "learning_rate": 0.02,
            },
            "with a start at the mean colour": {"output_start": "mean"},
            "sines of omega 5, rate 0.005": {"activation": "sine", "omega": 5.0, "learning_rate": 0.005},
            "sines of omega 10, rate 0.002": {"activation": "sine", "omega": 10.0, "learning_rate": 0.002},
            "sines of omega 3, rate 0.005": {"activation": "sine", "omega": 3.0, "learning_rate": 0.005},
            "sines of omega 5 with Adam, rate 0.002": {
                "activation": "sine",
                "omega": 5.0,
                "optimizer": "adam",
                "learning_rate": 0.002,
            },
        },
        pictures=("astronaut", "chelsea"),
        has_mean=True,
    ),
    "rates": Table(
        "rate of Muon, momentum 0.95, 400 steps",
        "fast",
        {"steps": 400, "muon_momentum": 0.95},
        {f"{rate:g}": {"learning_rate": rate} for rate in (0.004, 0.008, 0.016)},
        has_mean=True,
    ),
    "256": Table(
        "256x256, 2400 steps",
        "fast",
        {"steps": 2400},
        {"`fast`, the default": {}, "`sharp`": {"recipe": "sharp"}},
        size=256,
    ),
    "sharp": Table(
        "`sharp`, 822 steps",
        "sharp",
        {"steps": 822},
        {
            "**sines of omega 5, identity at the end, linear schedule to zero, rate 0.005**": {},
            "with a sigmoid at the end": {"output_activation": "sigmoid"},
            "with a cosine": {"schedule": "cosine"},
            "with both (800 steps)": {"output_activation": "sigmoid", "schedule": "cosine", "steps": 800},
            "ReLU, rate 0.016": {"activation": "relu", "learning_rate": 0.016},
            "with Adam, rate 0.002 (1006 steps)": {"optimizer": "adam", "learning_rate": 0.002, "steps": 1006},
            "rate 0.0035": {"learning_rate": 0.0035},
            "rate 0.007": {"learning_rate": 0.007},
            "omega 3, rate 0.007": {"omega": 3.0, "learning_rate": 0.007},
            "omega 8, rate 0.004": {"omega": 8.0, "learning_rate": 0.004},
            "sigma 13": {"sigma": 13.0},
            "batches of 512 (1391 steps)": {"batch_size": 512, "steps": 1391},
            "batches of 2048 (453 steps)": {"batch_size": 2048, "steps": 453},
            "depth 3 (1236 steps)": {"depth": 3, "steps": 1236},
            "160 units (537 steps)": {"hidden_size": 160, "steps": 537},
            "192 frequencies (708 steps)": {"num_frequencies": 192, "steps": 708},
            "192 frequencies, 160 units (474 steps)": {
                "num_frequencies": 192,
                "hidden_size": 160,
                "steps": 474,
            },
            "256 frequencies, 192 units, rate 0.004 (305 steps)": {
                "num_frequencies": 256,
                "hidden_size": 192,
                "learning_rate": 0.004,
                "steps": 305,
            },
        },
        pictures=("astronaut",),
    ),
    "held-out": Table(
        "256x256, held-out pixels",
        "fast",
        {"steps": 600, "train_on": "every-second"},
        {"`fast`": {}, "`sharp`": {"recipe": "sharp"}},
        pictures=("astronaut", "coffee"),
        size=256,
        figure="psnr_held_out",
    ),
    "sizes": Table(
        "`sharp`",
        "sharp",
        {},
        {
            "32x32, 600 steps": {"size": 32, "steps": 600},
            "64x64, 600 steps": {"size": 64, "steps": 600},
            "128x128, 600 steps": {"steps": 600},
            "128x128, 1200 steps (its default)": {"steps": 1200},
        },
    ),
    "larger": Table(
        "192 frequencies, 192 units, rate 0.004",
        "sharp",
        {"num_frequencies": 192, "hidden_size": 192, "learning_rate": 0.004},
        {"502 steps": {"steps": 502}},
        pictures=("astronaut", "coffee"),
    ),
}


@contextlib.contextmanager
def newton_schulz(iterations: int | None) -> Iterator[None]:
    """Let Muon take another number of iterations, which is no setting."""
    if iterations is None:
        yield
    else:
        defaults = Muon.__init__.__kwdefaults__
        with mock.patch.dict(defaults, iterations=iterations):
            yield


def measure(picture: str, table: Table, changed: Settings) -> dict[str, Any]:
    """Return PSNR and steps of one fit."""
    settings: Settings = {"recipe": table.recipe, "size": table.size} | table.common | changed
    image = picture_of(picture, settings.pop("size"))
    with newton_schulz(settings.pop("iterations", None)):
        metrics = coordfit.fit(image, device="cpu", tiles="none", **settings).metrics
    return {name: metrics[name] for name in ("psnr", "psnr_held_out", "steps", "parameters")}


def lines(rows: Sequence[dict[str, Any]], name: str) -> list[str]:
    """Return a table as Markdown."""
    table = TABLES[name]
    heads = [table.head, *table.pictures, *(["mean"] if table.has_mean else [])]
    found = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    values = {(row["row"], row["picture"]): row[table.figure] for row in rows if row["table"] == name}
    for label in table.rows:
        figures = [values[label, picture] for picture in table.pictures if (label, picture) in values]
        if len(figures) == len(table.pictures):
            cells = [f"{figure:.1f}" for figure in figures]
            cells += [f"{fmean(figures):.2f}"] if table.has_mean else []
            found.append(f"| {' | '.join([label, *cells])} |")
    return found


def fill(options: argparse.Namespace, runs: Runs) -> None:
    """Measure the tables that are asked for."""
    for name in options.tables:
        table = TABLES[name]
        for label, changed in table.rows.items():
            for picture in table.pictures:
                key = {"table": name, "row": label, "picture": picture}
                if not (options.keep and runs.find(key)):
                    runs.keep(key, measure(picture, table, changed))


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.recipes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=[*TABLES])
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the rows here; others stay")
    parser.add_argument("--keep", action="store_true", help="do not train again what that file holds")
    parser.add_argument("--show", action="store_true", help="print the tables of that file, and no more")
    options = parser.parse_args()
    runs = Runs(options.json, "rows", ["scikit-image"])
    if options.show and not runs.rows:
        raise BadInputError("--show prints the tables of a file: name one with rows by --json")
    if not options.show:
        fill(options, runs)
    for name in options.tables:
        print(*lines(runs.rows, name), "", sep="\n")


if __name__ == "__main__":
    run_main("recipes", main)
