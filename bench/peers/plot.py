"""Draw the table of `python -m bench.peers --json FILE` as a picture for docs/results.md.

Run as `python -m bench.peers.plot bench/results/peers.json docs/figures/peers.svg`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ..command_line import Parser, new_file, recorded, run_main

# Variants of one library are one bar: its best.
LIBRARIES = {"coordfit": "coordfit", "torch": "PyTorch", "jax": "JAX"}
COLOURS = {"coordfit": "#1f2a5a", "PyTorch": "#d9703a", "JAX": "#2b8ba8"}


def best_of(result: dict[str, Any]) -> dict[str, float]:
    """Return seconds of a step by library, the best of its variants; of coordfit the compiled one."""
    found: dict[str, float] = {}
    for peer, seconds in result["seconds"].items():
        if not peer.startswith("coordfit-"):
            name = LIBRARIES[peer.split("-")[0]]
            found[name] = min(seconds, found.get(name, seconds))
    return found


def as_time(seconds: float) -> str:
    """Return three digits, in seconds or milliseconds."""
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{seconds * 1e3:.3g} ms"


def draw(results: list[dict[str, Any]]) -> Figure:
    """Draw the time of each library as a multiple of coordfit's, a group of bars for each case."""
    figure = Figure(figsize=(9.0, 0.42 * len(results) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = list(COLOURS)
    for row, result in enumerate(results):
        times = best_of(result)
        for k, name in enumerate(names):
            if name in times:
                ratio = times[name] / times["coordfit"]
                y = row + 0.27 * (k - 1)
                axes.barh(y, ratio, 0.25, color=COLOURS[name], label=name if row == 0 else None)
                axes.text(ratio + 0.03, y, as_time(times[name]), va="center", fontsize=7)
    axes.set_yticks(range(len(results)), [result["case"] for result in results])
    axes.invert_yaxis()
    axes.axvline(1.0, color="#777777", linewidth=0.8)
    axes.set_xlabel("time of a step, coordfit = 1 (shorter is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    axes.legend(frameon=False, ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def main() -> None:
    """Read the figures, write the picture."""
    parser = Parser(prog="python -m bench.peers.plot", description=__doc__)
    parser.add_argument("source", type=Path, metavar="FILE.json", help="what `python -m bench.peers` wrote")
    parser.add_argument("target", type=new_file, metavar="FILE.svg")
    options = parser.parse_args()
    FigureCanvasSVG(draw(recorded(options.source, "results"))).print_svg(options.target)


if __name__ == "__main__":
    run_main("peers.plot", main)
