"""Plot PSNR against seconds: a colour for each recipe, a line for each library and length of schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLOURS = {"paper": "#8a8a8a", "Adam, cosine": "#d9703a", "fast (Muon)": "#1f2a5a", "sharp (Muon)": "#3f8f4f"}
LINES = {"coordfit": "-", "torch": (0, (2, 1.2))}


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Write the plot as SVG."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(run["contender"] for run in runs))
    for name in names:
        library, recipe = name.split(": ")
        look = {"color": COLOURS[recipe], "linestyle": LINES[library], "linewidth": 1.4}
        own = [run for run in runs if run["contender"] == name]
        for k, length in enumerate(sorted({run["length"] for run in own})):
            curves = [run["rows"] for run in own if run["length"] == length]
            seconds, values = mean_curve(curves)
            axes.plot(seconds, values, label=name if k == 0 else None, **look)
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
