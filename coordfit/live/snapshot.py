"""Keep what a live view shows: figures, the picture as it is, and the curve so far."""

from __future__ import annotations

import base64
import html
import io
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images.formats.png import quantize
from .curve import Point, curve_svg

if TYPE_CHECKING:
    from ..models.rendering import Drawable
    from ..training.result import FitResult
    from ..training.state import Progress

MOST_SHARE = 0.015
"""Of the time since the start, the most that the pictures of a long run may take."""
MOST_SHOWN = 512
"""Pixels of the longer side of a picture that is drawn while it is learned."""
_CURVES = {"psnr_train": "training pixels", "psnr_held_out": "held-out pixels"}


class LiveSnapshot:
    """Follows a run, from the run's thread; other threads ask for what is to be shown.

    Parameters
    ----------
    most_share : float
        Of the time since the start, the most that the pictures may take.

    Attributes
    ----------
    version : int
        Grows with every change.
    ended : str
        What ended the run, in words; empty while it goes on.
    """

    def __init__(self, most_share: float = MOST_SHARE) -> None:
        self.version, self.ended, self.name = 0, "", "coordfit"
        self._most_share = most_share
        self._lock = threading.Lock()
        self._began, self._spent, self._cost = time.perf_counter(), 0.0, 0.0
        self._figures: dict[str, str] = {}
        self._done = 0.0
        self._unit = "step"
        self._curves: dict[str, list[Point]] = {name: [] for name in _CURVES.values()}
        self._levels: NDArray[np.uint8] | None = None
        self._drawn_at, self._is_drawn = "", False
        self._image = ""

    def follow(self, progress: Progress, *, is_watched: bool) -> None:
        """Take what is new, and draw the picture if someone watches and there is time for it."""
        with self._lock:
            self._take(progress)
            self.version += 1
        if is_watched:
            self._draw(progress)

    def end(self, result: FitResult) -> None:
        """Show the figures and the picture of a finished run."""
        reasons = {"interrupted": "stopped", "diverged": "diverged", "target_psnr": "the target is reached"}
        size = _shown_size(result.model) if result.metrics else None
        pixels = None if size is None else result.model.render(*size)
        with self._lock:
            self.ended = reasons.get(result.stopped, "finished")
            if result.metrics:
                self._figures |= {"PSNR": _decibels(result.metrics["psnr"])} if result.metrics["psnr"] else {}
                self._done = 1.0
            if pixels is not None:
                self._show(pixels, "at the end")
            self._figures["time left"] = "none"
            self.version += 1

    def fragment(self) -> str:
        """Return all of it as HTML, for a page or for a notebook, with all text escaped."""
        with self._lock:
            figures = "".join(
                f'<div><dt style="opacity:.75">{name}</dt>'
                f'<dd style="margin:0;font-size:1.25rem">{html.escape(value)}</dd></div>'
                for name, value in self._figures.items()
            )
            if self._levels is not None:  # encoded once, however often the figures change
                self._image, self._levels = _image(self._levels, f"{self.name}, {self._drawn_at}"), None
            image, done = self._image, self._done
            svg = curve_svg(self._curves, self._unit)
        return (
            f'<progress max="1" value="{done:.4f}" aria-label="training done" style="width:100%"></progress>'
            f'<dl style="display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;margin:.5rem 0">{figures}</dl>'
            f"{image}{svg}"
        )

    # -- the run's own thread ----------------------------------------------------------------------------

    def _take(self, progress: Progress) -> None:
        done, total = progress.step, progress.steps
        if progress.tiles:
            self._unit, done, total = "tile", progress.pixels, progress.total_pixels
        self._done = done / total if total else 0.0
        count = f"{progress.step:,} of {progress.steps:,}"
        self._figures = {
            "PSNR": "-" if progress.psnr is None else _decibels(progress.psnr),
            f"{self._unit}s": count,
            "trained for": _duration(progress.seconds),
            "time left": _time_left(progress.seconds, self._done),
        }
        if progress.evaluated and progress.row is not None:
            for column, name in _CURVES.items():
                value = progress.row.get(column)
                if value is not None and math.isfinite(value):
                    self._curves[name].append((float(progress.row["step"] or 0), float(value)))

    def _draw(self, progress: Progress) -> None:
        began = time.perf_counter()
        if self._is_drawn and self._spent + self._cost > self._most_share * (began - self._began):
            return
        model = progress.model
        if self.name == "coordfit":
            self.name = model.signal.name
        size = _shown_size(model)
        if size is None:
            return
        pixels = progress.render(*size)
        with self._lock:
            self._show(pixels, f"{self._unit} {progress.step:,}")
            self.version += 1
        self._cost = time.perf_counter() - began
        self._spent, self._is_drawn = self._spent + self._cost, True

    def _show(self, pixels: NDArray[Any], when: str) -> None:
        self._levels = quantize(np.nan_to_num(pixels.astype(np.float32), nan=0.5)).astype(np.uint8, copy=False)
        self._drawn_at = when


def _shown_size(model: Drawable) -> tuple[int, int] | None:
    """Return the height and width at which a model is drawn; None for a signal that is no picture."""
    signal = model.signal
    if signal.frame is not None:
        return None
    longer = max(signal.height, signal.width, MOST_SHOWN)
    height, width = (max(1, side * MOST_SHOWN // longer) for side in (signal.height, signal.width))
    return height, width


def _image(levels: NDArray[np.uint8], alt: str) -> str:
    image, content = Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels), io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    data = base64.b64encode(content.getvalue()).decode("ascii")
    sharp = "image-rendering:pixelated;" if max(image.size) < MOST_SHOWN else ""
    return (
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}" '
        f'style="display:block;width:min(100%,32rem);{sharp}margin:.5rem 0">'
    )


def _decibels(psnr: float) -> str:
    return f"{psnr:.2f} dB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d} h" if hours else f"{minutes}:{seconds:02d} min"


def _time_left(seconds: float, done: float) -> str:
    if done >= 1.0:
        return "none"
    return "-" if done <= 0.0 else _duration(seconds * (1.0 - done) / done)
