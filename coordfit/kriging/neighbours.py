"""The known pixels around hidden ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]
"""Pixels by number, counted row by row."""


class Neighbourhood:
    """The nearest known pixels within a radius.

    Parameters
    ----------
    known : boolean array (H, W)
    count : int
        k, the known pixels that a hidden one needs.
    radius : int
        In pixels.
    """

    def __init__(self, known: Mask, count: int, radius: int) -> None:
        self.count, self.width = count, known.shape[1]
        self._known, self._pad = np.pad(known, radius).reshape(-1), radius
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
        near = np.flatnonzero(y * y + x * x <= radius * radius)
        order = near[np.argsort((y * y + x * x)[near], kind="stable")]
        self._rows, self._columns = y[order], x[order]

    def of(self, pixels: Numbers) -> tuple[Numbers, Mask]:
        """Return the nearest known pixels (m, k) of m pixels, and which of n pixels (n,) have as many."""
        rows, columns = np.divmod(pixels, self.width)
        padded = self.width + 2 * self._pad
        places = (rows + self._pad) * padded + columns + self._pad
        is_known = self._known[places[:, None] + self._rows * padded + self._columns]
        rank = np.cumsum(is_known, axis=1, dtype=np.int32)
        has_enough = rank[:, -1] >= self.count
        is_taken = (is_known & (rank <= self.count))[has_enough]
        _, offsets = np.nonzero(is_taken)
        steps = (self._rows * self.width + self._columns)[offsets].reshape(-1, self.count)
        return pixels[has_enough, None] + steps, has_enough
