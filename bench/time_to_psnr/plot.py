"""Plot the seconds to each PSNR: a colour for each recipe, a kind of line for each library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLOURS = {"paper": "#8a8a8a", "Adam, cosine": "#d9703a", "fast (Muon)": "#1f2a5a", "sharp (Muon)": "#3f8f4f"}
LINES = {"coordfit": "-", "torch": (0, (2, 1.2))}
LEVELS = np.arange(15.0, 50.25, 0.25)


def draw(runs: list[dict[str, Any]], seconds_to: Callable[[str, float], float], path: Path) -> None:
    """Write the plot as SVG; `seconds_to` gives a contender's seconds to a level, infinite if it fails."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(run["contender"] for run in runs):
        library, recipe = name.split(": ")
        seconds = [seconds_to(name, level) for level in LEVELS]
        axes.plot(seconds, LEVELS, label=name, color=COLOURS[recipe], linestyle=LINES[library], linewidth=1.4)
    axes.set(xscale="log", xlabel="seconds, set-up included, at the best length", ylabel="PSNR in dB")
    axes.set_ylim(bottom=15.0)
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    FigureCanvasSVG(figure).print_svg(path)
