"""Draw the table of `python -m bench.peers --json FILE` as a picture for docs/results.md.

Run as `python -m bench.peers.plot bench/results/peers.json docs/figures/peers.svg`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ..command_line import Parser, new_file, recorded, run_main
from .tables import Result, seconds

# Variants of one library are one bar: its best.
LIBRARIES = {"coordfit": "coordfit", "torch": "PyTorch", "jax": "JAX"}
COLOURS = {"coordfit": "#1f2a5a", "PyTorch": "#d9703a", "JAX": "#2b8ba8"}


def best_of(result: Result) -> dict[str, float]:
    """Return seconds of a step by library, the best of its variants; of coordfit the compiled one."""
    found: dict[str, float] = {}
    for peer, value in seconds(result).items():
        if not peer.startswith("coordfit-"):
            name = LIBRARIES[peer.split("-")[0]]
            found[name] = min(value, found.get(name, value))
    return found


def as_time(seconds: float) -> str:
    """Return three digits, in seconds or milliseconds."""
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{seconds * 1e3:.3g} ms"


def draw(results: list[Result]) -> Figure:
    """Draw each library's time as a multiple of coordfit's: bars by case, numbers of processors abreast."""
    numbers = list(dict.fromkeys(result["cores"] for result in results))
    cases = list(dict.fromkeys(result["case"] for result in results))
    figure = Figure(figsize=(4.6 * len(numbers) + 1.0, 0.42 * len(cases) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(numbers), sharey=True, squeeze=False)[0]
    for axes, cores in zip(panels, numbers, strict=True):
        _draw_bars(axes, [result for result in results if result["cores"] == cores], cases)
        what = "processor time on one" if cores == 1 else f"time on {cores}"
        axes.set_xlabel(f"{what}, coordfit = 1 (shorter is better)", fontsize=8)
    panels[0].set_yticks(range(len(cases)), cases)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=len(COLOURS), loc="outside upper center")
    return figure


def _draw_bars(axes: Any, results: list[Result], cases: list[str]) -> None:
    for row, result in enumerate(sorted(results, key=lambda result: cases.index(result["case"]))):
        times = best_of(result)
        for k, name in enumerate(COLOURS):
            if name in times:
                ratio, y = times[name] / times["coordfit"], cases.index(result["case"]) + 0.27 * (k - 1)
                axes.barh(y, ratio, 0.25, color=COLOURS[name], label=name if row == 0 else None)
                axes.text(ratio + 0.03, y, as_time(times[name]), va="center", fontsize=6)
    axes.axvline(1.0, color="#777777", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.14)


def main() -> None:
    """Read the figures, write the picture."""
    parser = Parser(prog="python -m bench.peers.plot", description=__doc__)
    parser.add_argument("source", type=Path, metavar="FILE.json", help="what `python -m bench.peers` wrote")
    parser.add_argument("target", type=new_file, metavar="FILE.svg")
    options = parser.parse_args()
    FigureCanvasSVG(draw(recorded(options.source, "results"))).print_svg(options.target)


if __name__ == "__main__":
    run_main("peers.plot", main)
