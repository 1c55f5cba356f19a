"""Plot PSNR against seconds: the mean over pictures, a line for each contender and length of schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLOURS = ("#8a8a8a", "#d9703a", "#b8a9d9", "#2b8ba8", "#1f2a5a", "#3f8f4f")


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Write the plot as SVG."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(run["contender"] for run in runs))
    for name, colour in zip(names, COLOURS, strict=False):
        own = [run for run in runs if run["contender"] == name]
        for k, length in enumerate(sorted({run["length"] for run in own})):
            curves = [run["rows"] for run in own if run["length"] == length]
            seconds, values = mean_curve(curves)
            axes.plot(seconds, values, color=colour, linewidth=1.4, label=name if k == 0 else None)
    axes.set(xscale="log", xlabel="seconds, set-up included", ylabel="PSNR in dB, mean over pictures")
    axes.set_ylim(bottom=15.0)
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    FigureCanvasSVG(figure).print_svg(path)


def mean_curve(curves: list[list[dict[str, float]]]) -> tuple[list[float], list[float]]:
    """Return the geometric mean of seconds and mean of PSNR, by evaluation, as far as all runs went."""
    count = min(map(len, curves))
    seconds = [float(np.exp(np.mean([np.log(c[i]["seconds"]) for c in curves]))) for i in range(count)]
    return seconds, [float(np.mean([c[i]["psnr"] for c in curves])) for i in range(count)]
