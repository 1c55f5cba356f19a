"""Measure what each least-squares piece brings: with and without, same pictures, same process.

    python -m bench.least_squares gauss-newton --json bench/results/gauss_newton.json

`gauss-newton`: seconds and steps to 60 dB on the training pixels at 32 pixels, with each piece left out.
`polish`: PSNR with and without the last layer's closed form after Adam, and its seconds.
`average`: PSNR of the last weights, and of averages of the last ones, with a constant rate and a cosine.

Processor time, with `--threads 1`, says more than the clock if a machine is shared. Figures are medians
of `--repeats` runs that take turns; the first is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from coordfit.backends import get_backend
from coordfit.config import make_config
from coordfit.images import Picture, bundled_picture, load_picture
from coordfit.optimizers import gauss_newton, tangent_kernel
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

from .command_line import PHOTOGRAPHS, Parser, count, new_file, picture_name, run_main
from .records import write_record
from .scikit_pictures import picture_named

TINY = {
    "optimizer": "gauss-newton",
    "output_activation": "identity",
    "num_frequencies": 64,
    "sigma": 8.0,
    "hidden_size": 192,
    "depth": 2,
    "batch_size": None,
    "steps": 15,
    "evaluate_every": 1,
    "target_psnr": 60.0,
}
WITHOUT = ("all pieces", "principal colours", "ridge start", "preconditioner")


def channels_as_they_are(mlp: Any) -> Any:
    """Return red, green and blue, instead of principal colours."""
    return np.eye(mlp.layers[-1].W.shape[-1], dtype=mlp.dtype)


@contextlib.contextmanager
def without(piece: str) -> Iterator[None]:
    """Run Gauss-Newton with a piece left out."""
    if piece == "principal colours":
        with mock.patch.object(gauss_newton, "principal_colours", channels_as_they_are):
            yield
    elif piece == "ridge start":
        with mock.patch.object(gauss_newton, "solve_last_layer", return_value=None):
            yield
    elif piece == "preconditioner":
        with (
            mock.patch.object(tangent_kernel.Preconditioner, "__call__", lambda self, v: v),
            mock.patch.object(tangent_kernel.Preconditioner, "factor", return_value=True),
            mock.patch.object(tangent_kernel, "_MOST_ITERATIONS", 200),
        ):
            yield
    else:
        yield


def pictures(names: Sequence[str], size: int) -> dict[str, Picture]:
    """Return the bundled picture, and those that are named, at a size."""
    found = {"bundled": bundled_picture(32) if size == 32 else load_picture(bundled_picture(), size=size)}
    return found | {Path(name).stem: load_picture(picture_named(name), size=size) for name in names}


def fit(picture: Picture, settings: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """Return seconds from nothing to the end of training, evaluations included, and the figures."""
    start, cpu_start = time.perf_counter(), time.process_time()
    trainer = Trainer([Job(picture, make_config(settings))], get_backend("cpu", threads=threads))
    [result] = trainer.run()
    return {
        "seconds": result.metrics["seconds"],
        "seconds_in_all": time.perf_counter() - start,
        "cpu_seconds_in_all": time.process_time() - cpu_start,
        "steps": result.metrics["steps"],
        "psnr_train": result.metrics["psnr_train"],
        "parameters": result.metrics["parameters"],
        "polish_seconds": result.metrics.get("polish", {}).get("seconds", 0.0),
    }


def medians(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return medians of each figure, the first run left out if there are several."""
    rows = rows[1:] or rows
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def measure_gauss_newton(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield rows of seconds and steps to the target, a picture and a piece each."""
    for name, picture in pictures(options.pictures, 32).items():
        runs: dict[str, list[dict[str, Any]]] = {piece: [] for piece in options.without}
        for _ in range(options.repeats):
            for piece in options.without:
                with without(piece):
                    runs[piece].append(fit(picture, TINY, options.threads))
        for piece, rows in runs.items():
            yield {"picture": name, "without": piece, **medians(rows)}


def measure_polish(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield rows of PSNR and seconds, a picture, a budget and a polish each."""
    for name, picture in pictures(options.pictures, 128).items():
        for steps in options.steps:
            runs: dict[str, list[dict[str, Any]]] = {"none": [], "ridge": []}
            for _ in range(options.repeats):
                for polish in runs:
                    settings = {"steps": steps, "evaluate_every": steps, "polish": polish}
                    runs[polish].append(fit(picture, settings, options.threads))
            for polish, rows in runs.items():
                yield {"picture": name, "adam steps": steps, "polish": polish, **medians(rows)}


def measure_average(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield rows of PSNR, a picture, a schedule and a kind of average each."""
    for name, picture in pictures(options.pictures, 64).items():
        for schedule in ("constant", "cosine"):
            steps = options.steps[0]
            config = make_config({"steps": steps, "evaluate_every": steps, "schedule": schedule})
            trainer = Trainer([Job(picture, config)], get_backend("cpu", threads=options.threads))
            parameters = trainer.model.mlp.parameters
            decays = {"moving average, decay 0.9": 0.9, "moving average, decay 0.99": 0.99}
            moving = {label: np.zeros(parameters.shape) for label in decays}
            tail = np.zeros(parameters.shape)
            with trainer.backend.activate():
                for step in range(steps):
                    trainer.take_steps(1)
                    for label, decay in decays.items():
                        moving[label] += (1 - decay) * (parameters - moving[label])
                    if step >= 0.9 * steps:
                        tail += parameters / (steps - int(np.ceil(0.9 * steps)))
                candidates = {"last weights": parameters.copy(), "mean of the last tenth": tail} | {
                    label: mean / (1 - decays[label] ** steps) for label, mean in moving.items()
                }
                for label, flat in candidates.items():
                    parameters[...] = flat
                    psnr = trainer.member.evaluate().psnr_train
                    yield {"picture": name, "schedule": schedule, "weights": label, "psnr_train": psnr}


MEASURES = {"gauss-newton": measure_gauss_newton, "polish": measure_polish, "average": measure_average}


def main() -> None:
    """Print a line for each figure, and write them all to the file of `--json`."""
    prog, form = "python -m bench.least_squares", argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=prog, description=__doc__, formatter_class=form)
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument(
        "--pictures",
        nargs="*",
        type=picture_name,
        default=PHOTOGRAPHS,
        metavar="NAME|FILE",
        help="beside the bundled picture",
    )
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--steps", type=count, nargs="+", default=[400])
    parser.add_argument("--without", nargs="+", choices=WITHOUT, default=WITHOUT)
    parser.add_argument("--threads", type=count)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    rows = []
    for row in MEASURES[options.measure](options):
        rows.append(row)
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
        if options.json is not None:
            found = {"measure": options.measure, "rows": rows}
            write_record(options.json, found, ["scikit-image"], options.threads)


if __name__ == "__main__":
    run_main("least_squares", main)
