"""Draw figures as SVG by Matplotlib, without the user's settings, and leave Matplotlib's settings alone."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..images.lettering import MATPLOTLIB_DATA

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GREY", "new_figure", "own_style", "svg_of"]

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

    The user's matplotlibrc, MPLBACKEND and `rcParams` are ignored, and `rcParams` are as before afterwards.
    One thread draws at a time. Matplotlib is imported here; pyplot never is.
    """
    matplotlib = _import_matplotlib()
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | dict(changes or {}))
        yield


def _import_matplotlib() -> Any:
    """Import Matplotlib despite an unknown MPLBACKEND or an unreadable matplotlibrc, at which it fails."""
    if "matplotlib" in sys.modules:
        return importlib.import_module("matplotlib")
    backend = os.environ.pop("MPLBACKEND", "")
    try:
        matplotlib = importlib.import_module("matplotlib")
    except (OSError, ValueError):
        for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
            del sys.modules[name]  # else they would lack what the new import gives them
        with contextlib.chdir(
            MATPLOTLIB_DATA
        ):  # a matplotlibrc in the current folder comes first: here its own
            matplotlib = importlib.import_module("matplotlib")
    finally:
        if backend:
            os.environ["MPLBACKEND"] = backend
    if backend:  # as Matplotlib itself takes it: it is for the figures of others
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    return matplotlib


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Return an empty figure of a size in inches, on its own canvas; call it within `own_style`."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), **options)
    FigureCanvasSVG(figure)
    return figure


def svg_of(figure: Figure) -> str:
    """Return a figure as SVG, the same text for equal figures; call it within `own_style`."""
    drawing = io.BytesIO()
    figure.savefig(drawing, format="svg", metadata={"Date": None})
    return drawing.getvalue().decode()
