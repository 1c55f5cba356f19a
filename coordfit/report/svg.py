"""Draw figures as SVG by Matplotlib, independent of the user's settings."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..files import FilePath, write_bytes
from ..images.lettering import MATPLOTLIB_DATA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#1c202a"
GREY = "#69707d"
_LINE = "#dadde3"

_STYLE = {
    "svg.hashsalt": "coordfit",  # with the date left out, equal figures give equal files
    "svg.fonttype": "path",  # looks alike everywhere, whatever fonts a viewer has
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titlepad": 12,
    "axes.unicode_minus": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "lines.solid_capstyle": "round",
    "lines.markersize": 4,
    "legend.frameon": False,
}

_LOCK = threading.RLock()  # Matplotlib's settings belong to the process: two contexts must not overlap


@contextlib.contextmanager
def own_style(changes: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw in this package's style, with `changes`, over Matplotlib's defaults.

    The user's matplotlibrc, MPLBACKEND and `rcParams` are ignored, and restored afterwards. One thread draws
    at a time. pyplot is never imported.
    """
    matplotlib = _import_matplotlib()
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | dict(changes or {}))
        yield


def _import_matplotlib() -> Any:
    """Import Matplotlib, even with an unknown MPLBACKEND or an unreadable matplotlibrc."""
    if "matplotlib" in sys.modules:
        return importlib.import_module("matplotlib")
    backend = os.environ.pop("MPLBACKEND", "")
    try:
        matplotlib = importlib.import_module("matplotlib")
    except (OSError, ValueError):
        for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
            del sys.modules[name]  # they are half imported
        with contextlib.chdir(MATPLOTLIB_DATA):  # the matplotlibrc of the current folder comes first
            matplotlib = importlib.import_module("matplotlib")
    finally:
        if backend:
            os.environ["MPLBACKEND"] = backend
    if backend:  # restored for the figures of others
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    return matplotlib


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Return an empty figure, of a size in inches; call it within `own_style`."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), **options)
    FigureCanvasSVG(figure)
    return figure


def svg_of(figure: Figure) -> str:
    """Return a figure as SVG text; equal figures give equal text. Call it within `own_style`."""
    drawing = io.BytesIO()
    figure.savefig(drawing, format="svg", metadata={"Date": None})
    return drawing.getvalue().decode()


def save_svg(path: FilePath, svg: str) -> None:
    """Write the text of an SVG atomically; OutputError if that fails."""
    write_bytes(path, svg.encode())


def write_note(axes: Axes, note: str) -> None:
    """Write a note in the middle of empty axes."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, note, color=GREY, ha="center", va="center", transform=axes.transAxes)
