"""Compare numbers and spreads of Gaussian frequencies: m against sigma."""

from __future__ import annotations

from typing import Any

from ..images import Picture
from ..report.heatmap import heat_map_svg
from ..report.table import Table
from ..training.job import Job
from ..training.result import FitResult
from .common import Drawing, Outcome, Study, common_settings, decibel, figures_of, panel_of, sheet_of

_NUMBERS = (8, 32, 128)
_SIGMAS = (1.0, 2.0, 3.0, 6.0, 12.0)
_QUICK_NUMBERS, _QUICK_SIGMAS = (8, 32), (0.5, 1.0, 2.0, 4.0)
_STEPS = 800

Rows = list[dict[str, Any]]


def run(study: Study) -> Outcome:
    """Train on every second row and column for each m and sigma: one batch for each m."""
    picture, steps = study.picture(study.size), study.steps(_STEPS)
    numbers, sigmas = (_QUICK_NUMBERS, _QUICK_SIGMAS) if study.quick else (_NUMBERS, _SIGMAS)
    jobs = [
        Job(picture, study.config(num_frequencies=number, sigma=sigma, train_on="every-second", steps=steps))
        for number in numbers
        for sigma in sigmas
    ]
    results = study.train(jobs)
    rows: Rows = [
        {"num_frequencies": r.config.num_frequencies, "sigma": r.config.sigma, **figures_of(r)} for r in results
    ]
    table = Table(rows)
    return Outcome(
        name="fourier-features",
        title="Fourier features",
        question="What do the number m of Gaussian frequencies and their spread sigma, in cycles per longer "
        "side, each do to the pixels that were trained on and to those between?",
        settings=common_settings(jobs[0].config, picture, "num_frequencies", "sigma")
        | {"m": numbers, "sigma": sigmas},
        table=table,
        pictures=_pictures(picture, table, results),
        finding=finding(rows),
        best=("psnr_train", "psnr_held_out"),
    )


def _pictures(picture: Picture, table: Table, results: list[FitResult]) -> list[Drawing]:
    maps = [
        Drawing(
            f"heat-map-{kind.replace(' ', '-')}",
            heat_map_svg(table, "sigma", "num_frequencies", column, title=f"PSNR of {kind} pixels / dB"),
            f"PSNR of the {kind} pixels over m and sigma.",
        )
        for kind, column in (("held-out", "psnr_held_out"), ("training", "psnr_train"))
    ]
    most = max(table["num_frequencies"])
    panels = [
        panel_of(f"m {most}, sigma {r.config.sigma:g}", r) for r in results if r.config.num_frequencies == most
    ]
    return [
        *maps,
        Drawing("pictures", sheet_of(picture, panels, "sigma"), f"The networks with {most} frequencies."),
    ]


def finding(rows: Rows) -> str:
    """Return in words which pair is best on held-out pixels, and whether m or sigma matters more."""
    best = max(rows, key=lambda row: row["psnr_held_out"])
    by_sigma = _range([row for row in rows if row["num_frequencies"] == best["num_frequencies"]])
    by_number = _range([row for row in rows if row["sigma"] == best["sigma"]])
    memory = max(rows, key=lambda row: row["psnr_train"])
    other = "the same pair as" if memory is best else "another pair than"
    matters = "more" if by_sigma > by_number else "no more"
    return (
        f"Held-out pixels are best at m {best['num_frequencies']} and sigma {best['sigma']:g} "
        f"({decibel(best['psnr_held_out'])}), {other} training pixels (m {memory['num_frequencies']}, sigma "
        f"{memory['sigma']:g}, {decibel(memory['psnr_train'])}); around it sigma matters {matters} than m "
        f"({by_sigma:.2f} dB over the sigmas tried, {by_number:.2f} dB over the numbers)."
    )


def _range(rows: Rows) -> float:
    values = [float(row["psnr_held_out"]) for row in rows]
    return max(values) - min(values)
