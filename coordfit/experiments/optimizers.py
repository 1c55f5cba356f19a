"""Compare SGD with momentum, Adam and Muon, each at several learning rates, with equal pixel visits."""

from __future__ import annotations

from typing import Any

from ..images import Picture
from ..report.line_plot import lines_svg
from ..report.table import Table
from ..training.job import Job
from ..training.result import FitResult
from .common import (
    Drawing,
    Outcome,
    Study,
    bits_of,
    common_settings,
    curve,
    decibel,
    panel_of,
    sheet_of,
    trouble_of,
)

_RATES = {
    "sgd": (0.03, 0.1, 0.3, 1.0, 3.0),
    "adam": (3e-4, 1e-3, 4e-3, 1e-2, 3e-2),
    "muon": (1e-3, 4e-3, 1.6e-2, 5e-2, 0.16),
}
_NAMES = {"sgd": "SGD with momentum", "adam": "Adam", "muon": "Muon"}
_MOMENTUM = 0.9
_STEPS = 800

Rows = list[dict[str, Any]]


def run(study: Study) -> Outcome:
    """Train on all pixels with each optimizer at each learning rate, one batch for each optimizer."""
    picture, steps = study.picture(study.size), study.steps(_STEPS)
    variants = [(optimizer, rate) for optimizer, rates in _RATES.items() for rate in rates]
    momentum: dict[str, Any] = {"momentum": _MOMENTUM, "muon_momentum": _MOMENTUM}
    jobs = [
        Job(picture, study.config(optimizer=optimizer, learning_rate=rate, steps=steps, **momentum))
        for optimizer, rate in variants
    ]
    results = study.train(jobs)
    rows = [_row(*variant, result) for variant, result in zip(variants, results, strict=True)]
    settings = common_settings(jobs[0].config, picture, "optimizer", "learning_rate")
    settings |= {"momentum of SGD and Muon": _MOMENTUM, "epochs": results[0].metrics["epochs"]}
    return Outcome(
        name="optimizers",
        title="Optimizers",
        question="How far does each optimizer come with the same number of pixel visits, at which learning "
        "rate, and how narrow is the range of rates that work? Judged on all pixels, all of them trained on.",
        settings=settings,
        table=Table(rows),
        pictures=_pictures(picture, rows, results),
        finding=finding(rows),
        best=("psnr",),
    )


def _row(optimizer: str, rate: float, result: FitResult) -> dict[str, Any]:
    return {
        "optimizer": optimizer,
        "learning_rate": rate,
        "psnr": result.metrics["psnr"],
        "ssim": result.metrics["ssim"],
        "trouble": trouble_of(result),
        **bits_of(result),
    }


def _pictures(picture: Picture, rows: Rows, results: list[FitResult]) -> list[Drawing]:
    ranges = {
        _NAMES[optimizer]: [
            (row["learning_rate"], row["psnr"])
            for row in rows
            if row["optimizer"] == optimizer and row["trouble"] != "diverged"
        ]
        for optimizer in _RATES
    }
    by_rate = lines_svg(
        ranges, title="PSNR by learning rate", x_label="learning rate", y_label="PSNR / dB", x_log=True
    )
    best_rows = {optimizer: _best(rows, optimizer) for optimizer in _RATES}
    best = {
        f"{_NAMES[optimizer]}, {row['learning_rate']:g}": results[rows.index(row)]
        for optimizer, row in best_rows.items()
    }
    curves = lines_svg(
        {name: curve(result, "psnr") for name, result in best.items()},
        title="PSNR while training, each at its best learning rate",
        x_label="step",
        y_label="PSNR / dB",
    )
    sheet = sheet_of(picture, [panel_of(name, result) for name, result in best.items()], "optimizers")
    return [
        Drawing("learning-rates", by_rate, "A rate at which training diverged has no point."),
        Drawing("curves", curves, "Each optimizer at its best learning rate of those tried."),
        Drawing("pictures", sheet, "Each optimizer at its best learning rate of those tried."),
    ]


def _sound(rows: Rows, optimizer: str) -> Rows:
    """Return the runs of an optimizer without trouble, or all of them if there is none."""
    own = [row for row in rows if row["optimizer"] == optimizer]
    return [row for row in own if not row["trouble"]] or own


def _best(rows: Rows, optimizer: str) -> dict[str, Any]:
    return max(_sound(rows, optimizer), key=lambda row: row["psnr"])


def finding(rows: Rows) -> str:
    """Return in words which optimizer came furthest, by how much, and whether the rates tried suffice."""
    tried = dict.fromkeys(row["optimizer"] for row in rows)
    best = sorted((_best(rows, optimizer) for optimizer in tried), key=lambda row: row["psnr"], reverse=True)
    first, *others = best
    leads = " and ".join(
        f"{first['psnr'] - row['psnr']:.2f} dB more than {_NAMES[row['optimizer']]} with "
        f"{decibel(row['psnr'])} at {row['learning_rate']:g}"
        for row in others
    )
    parts = [
        f"{_NAMES[first['optimizer']]} reaches {decibel(first['psnr'])} at learning rate "
        f"{first['learning_rate']:g}, {leads}"
    ]
    for row in best:
        rates = [other["learning_rate"] for other in rows if other["optimizer"] == row["optimizer"]]
        if row["learning_rate"] in (min(rates), max(rates)):
            parts.append(
                f"the best rate of {_NAMES[row['optimizer']]} lies at the edge of those that were tried"
            )
    failed = sum(bool(row["trouble"]) for row in rows)
    if failed:
        parts.append(f"{failed} of {len(rows)} runs diverged or came out worse than one flat colour")
    return "; ".join(parts) + "."
