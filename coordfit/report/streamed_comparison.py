"""Draw the comparison of a reconstruction that comes a few rows at a time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images import Colours
from ..images.formats.alpha import premultiply, unpremultiply
from .comparison import LARGE_SIDE, Compared, draw_compared
from .panels import SCALE_QUANTILE, SCALE_ROUNDING, SCALES, FloatArray, absolute_error

_FINER = 2  # panels are drawn from means of squares, this many along each pixel that is shown


class RunningComparison:
    """The `comparison_picture` of a large picture (H, W, C), in little memory."""

    def __init__(self, truth: FloatArray | Colours) -> None:
        self._truth, self._top = truth, 0
        self._side = math.ceil(max(truth.shape[:2]) / (_FINER * LARGE_SIDE))
        self._pending = truth[:0]  # rows of squares that are not complete yet
        self._small: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        self._sum, self._largest = 0.0, 0.0
        self._within = np.zeros(len(SCALES), np.int64)  # pixels with errors below the top of each scale

    def add(self, rows: FloatArray) -> None:
        """Add the next rows (n, W, C) of the reconstruction, from the top, in [0, 1]."""
        pending = np.concatenate([self._pending, rows])
        last = self._top + len(pending) == len(self._truth)
        done = len(pending) if last else len(pending) // self._side * self._side
        self._pending = pending[done:]
        if done:
            self._reduce(self._truth[self._top : self._top + done], pending[:done])
            self._top += done

    def _reduce(self, truth: FloatArray, prediction: FloatArray) -> None:
        error = absolute_error(truth, prediction)
        self._sum += float(error.sum(dtype=np.float64))
        self._largest = max(self._largest, float(error.max()))
        tops = (np.array([*SCALES]) + SCALE_ROUNDING) / 255.0
        self._within += [int(np.count_nonzero(error <= top)) for top in tops]
        side = self._side
        small = _means(error[:, :, None], side)[:, :, 0]
        self._small.append((_mean_colours(truth, side), _mean_colours(prediction, side), small))

    def draw(self, title: str, figures: Sequence[tuple[str, str]]) -> Image.Image:
        """Return the sheet after all rows were added."""
        height, width = self._truth.shape[:2]
        truth, prediction, error = (np.concatenate(parts) for parts in zip(*self._small, strict=True))
        shares = self._within / (height * width)
        scale = next((top for top, share in zip(SCALES, shares, strict=True) if share >= SCALE_QUANTILE), 255)
        mean = self._sum / (height * width)
        compared = Compared(truth, prediction, error, mean, self._largest, scale)
        return draw_compared(compared, (width, height), title, figures)


def _means(pixels: FloatArray, side: int) -> NDArray[np.float32]:
    """Return the means of squares of `side` pixels; those at the right and bottom may be smaller."""
    means: NDArray[np.float32] = np.asarray(pixels, np.float32)
    for axis in (0, 1):
        starts = np.arange(0, means.shape[axis], side)
        counts = np.diff(starts, append=means.shape[axis])
        sums = np.add.reduceat(means, starts, axis=axis)
        means = np.divide(sums, np.expand_dims(counts, (1 - axis, 2)), dtype=np.float32)
    return means


def _mean_colours(pixels: FloatArray, side: int) -> NDArray[np.float32]:
    """Return the mean colours of squares, weighted by alpha."""
    if pixels.shape[2] in (1, 3) or side == 1:
        return _means(pixels, side)
    return unpremultiply(_means(premultiply(np.asarray(pixels, np.float32)), side))
