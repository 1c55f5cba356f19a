"""Compare losses: MSE, MAE and Huber's at several deltas, for the same network and pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..images import Picture
from ..report.line_plot import lines_svg
from ..report.table import Table
from ..training.job import Job
from ..training.result import FitResult
from .common import (
    Drawing,
    Outcome,
    Study,
    common_settings,
    curve,
    decibel,
    figures_of,
    mean_and_spread,
    panel_of,
    sheet_of,
)

_LOSSES = (("mse", None), ("mae", None), ("huber", 0.01), ("huber", 0.05), ("huber", 0.2))
_SEEDS = 3
_STEPS = 800


def run(study: Study) -> Outcome:
    """Train one network per loss and seed on every second row and column, all as one batch."""
    picture, steps = study.picture(study.size), study.steps(_STEPS)
    seeds = [study.seed + number for number in range(_SEEDS)]
    jobs = [
        Job(picture, study.config(train_on="every-second", steps=steps, seed=seed, **_options(*loss)))
        for loss in _LOSSES
        for seed in seeds
    ]
    results = study.train(jobs)
    groups = {
        _name(*loss): results[_SEEDS * number : _SEEDS * (number + 1)] for number, loss in enumerate(_LOSSES)
    }
    rows = [{"loss": name, **_figures(group)} for name, group in groups.items()]
    return Outcome(
        name="losses",
        title="Losses",
        question="Does it matter which loss is minimised: the mean squared error, the mean absolute error, or "
        "Huber's, which is the first near zero and the second beyond delta? PSNR is told by the squared error, "
        "so MSE has the home advantage there, and MAE in the mean absolute error.",
        settings=common_settings(jobs[0].config, picture, "loss", "seed") | {"seeds": seeds},
        table=Table(rows),
        pictures=_pictures(picture, groups),
        finding=finding(rows),
        best=("psnr_train", "psnr_held_out", "ssim"),
    )


def _options(loss: str, delta: float | None) -> dict[str, Any]:
    return {"loss": loss} if delta is None else {"loss": loss, "delta": delta}


def _name(loss: str, delta: float | None) -> str:
    return loss.upper() if delta is None else f"Huber, delta {delta:g}"


def _figures(group: list[FitResult]) -> dict[str, float]:
    """Return means over the seeds, the spread of the PSNR, and the mean absolute error of held-out pixels."""
    columns: dict[str, float] = {}
    for name in ("psnr_train", "psnr_held_out", "ssim"):
        columns[name], spread = mean_and_spread([float(figures_of(result)[name] or 0.0) for result in group])
        if name == "psnr_held_out":
            columns["psnr_held_out_spread"] = spread
    columns["mae_held_out"] = float(np.mean([_absolute_error(result) for result in group]))
    return columns


def _absolute_error(result: FitResult) -> float:
    held_out = np.ones(result.picture.pixels.shape[:2], bool)
    held_out[::2, ::2] = False
    return float(np.abs(result.reconstruction - result.picture.pixels)[held_out].mean())


def _pictures(picture: Picture, groups: dict[str, list[FitResult]]) -> list[Drawing]:
    sheet = sheet_of(picture, [panel_of(loss, group[0]) for loss, group in groups.items()], "losses")
    lines = lines_svg(
        {loss: curve(group[0], "psnr_train") for loss, group in groups.items()},
        dashed={loss: curve(group[0], "psnr_held_out") for loss, group in groups.items()},
        title="PSNR while training",
        x_label="step",
        y_label="PSNR / dB",
    )
    return [
        Drawing("pictures", sheet, "The first seed of each loss."),
        Drawing("curves", lines, "The first seed of each loss, over the steps."),
    ]


def finding(rows: list[dict[str, Any]]) -> str:
    """Return in words which loss is best on held-out pixels, and whether by more than seeds differ."""
    first, second, *_ = sorted(rows, key=lambda row: row["psnr_held_out"], reverse=True)
    lead = first["psnr_held_out"] - second["psnr_held_out"]
    spread = max(first["psnr_held_out_spread"], second["psnr_held_out_spread"])
    verdict = (
        f"{lead:.2f} dB before {second['loss']}, more than the {spread:.2f} dB by which seeds differ"
        if lead > spread
        else f"but {second['loss']} follows within what seeds differ ({lead:.2f} of {spread:.2f} dB), so this "
        "does not decide between the two"
    )
    least = min(rows, key=lambda row: row["mae_held_out"])
    return (
        f"{first['loss']} is best on held-out pixels with {decibel(first['psnr_held_out'])}, {verdict}; "
        f"the least mean absolute error there has {least['loss']}."
    )
