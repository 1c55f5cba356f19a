"""Compare depths and widths: PSNR of all pixels over the number of layers and their units."""

from __future__ import annotations

from typing import Any

from ..images import Picture
from ..report.heatmap import heat_map_svg
from ..report.line_plot import lines_svg
from ..report.table import Table
from ..training.job import Job
from ..training.result import FitResult
from .common import Drawing, Outcome, Study, bits_of, common_settings, decibel, panel_of, sheet_of

_DEPTHS = (2, 3, 4, 6)
_WIDTHS = (32, 64, 128, 256)
_QUICK_DEPTHS, _QUICK_WIDTHS = (2, 4), (16, 64)
_RATES = (8e-3, 1.6e-2)  # a rate for a small network may be too high for a large one
_STEPS = 400


def run(study: Study) -> Outcome:
    """Train on all pixels with each depth and hidden size; a batch is one shape at several learning rates."""
    picture, steps = study.picture(study.size), study.steps(_STEPS)
    depths, widths = (_QUICK_DEPTHS, _QUICK_WIDTHS) if study.quick else (_DEPTHS, _WIDTHS)
    jobs = [
        Job(picture, study.config(depth=depth, hidden_size=width, learning_rate=rate, steps=steps))
        for depth in depths
        for width in widths
        for rate in _RATES
    ]
    trained = study.train(jobs)
    pairs = [trained[first : first + len(_RATES)] for first in range(0, len(trained), len(_RATES))]
    results = [max(pair, key=lambda result: float(result.metrics["psnr"])) for pair in pairs]
    rows = [_row(result) for result in results]
    table = Table(rows)
    return Outcome(
        name="depth-width",
        title="Depth and width",
        question="Is a network for one picture better deep or wide, and what does a decibel cost? Judged on "
        "all pixels, which all were trained on, after equally many steps, at the better of two learning rates.",
        settings=common_settings(jobs[0].config, picture, "depth", "hidden_size", "learning_rate")
        | {"depth": depths, "hidden size": widths, "learning rates": _RATES},
        table=table,
        pictures=_pictures(picture, table, results),
        finding=finding(rows),
        best=("psnr",),
    )


def _row(result: FitResult) -> dict[str, Any]:
    metrics, config = result.metrics, result.config
    return {
        "depth": config.depth,
        "hidden_size": config.hidden_size,
        "learning_rate": config.learning_rate,
        "parameters": metrics["parameters"],
        "psnr": metrics["psnr"],
        "ssim": metrics["ssim"],
        "seconds": metrics["seconds"] / metrics["networks"],
        **bits_of(result),
    }


def _pictures(picture: Picture, table: Table, results: list[FitResult]) -> list[Drawing]:
    cells = heat_map_svg(table, "hidden_size", "depth", "psnr", title="PSNR of all pixels / dB")
    lines = lines_svg(
        {
            f"depth {depth}": [(row["parameters"], row["psnr"]) for row in table if row["depth"] == depth]
            for depth in dict.fromkeys(table["depth"])
        },
        title="PSNR by size",
        x_label="parameters",
        y_label="PSNR / dB",
        x_log=True,
    )
    order = sorted(results, key=lambda result: float(result.metrics["psnr"]))
    chosen = [order[0], order[len(order) // 2], order[-1]]
    panels = [panel_of(f"depth {r.config.depth}, {r.config.hidden_size} units", r) for r in chosen]
    sheet = sheet_of(picture, panels, "depth and width")
    return [
        Drawing("heat-map", cells, "PSNR over depth and hidden size."),
        Drawing("parameters", lines, "What the parameters are spent on: a line for each depth."),
        Drawing("pictures", sheet, "The worst, the middle and the best of them."),
    ]


def finding(rows: list[dict[str, Any]]) -> str:
    """Return in words which network is best, and whether width or depth gained more."""
    smallest = min(rows, key=lambda row: row["parameters"])
    best = max(rows, key=lambda row: row["psnr"])
    wider = max(_same(rows, "depth", smallest), key=lambda row: row["psnr"])
    deeper = max(_same(rows, "hidden_size", smallest), key=lambda row: row["psnr"])
    gains = {"width": wider["psnr"] - smallest["psnr"], "depth": deeper["psnr"] - smallest["psnr"]}
    more, less = sorted(gains, key=lambda name: gains[name], reverse=True)
    return (
        f"From the smallest network (depth {smallest['depth']}, {smallest['hidden_size']} units, "
        f"{decibel(smallest['psnr'])}), {more} alone brings {gains[more]:+.2f} dB at best and {less} alone "
        f"{gains[less]:+.2f} dB; the best of all is depth {best['depth']} with {best['hidden_size']} units, "
        f"{decibel(best['psnr'])}."
    )


def _same(rows: list[dict[str, Any]], column: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    return [other for other in rows if other[column] == row[column]]
