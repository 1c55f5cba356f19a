"""Rows of training data by their number: from arrays, or computed if an array would be too large.

A batch is a list of pixel numbers. Coordinates, features, targets and weights of its pixels come from objects
with two methods: `rows` for a run of pixels in order, and `take` for any pixels.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend, Lattice
from ..encoders.base import Encoder, OnGrid
from ..images.grid import PixelGrid


class Rows(Protocol):
    """N rows of C numbers, the same for all members or for each its own."""

    def rows(self, rows: slice) -> Array:
        """Return rows in order: (n, C), or (*E, n, C) if members differ."""

    def take(self, index: Array, out: Array | None = None) -> Array:
        """Return rows (n, C) or (*E, n, C) by number: index (n,), or (*E, n) if members differ."""

    def members(self, members: slice) -> Rows:
        """Return the rows of some members; itself if they are shared."""


class Coordinates(Rows, Protocol):
    """The coordinates (N, 2) of pixels, and their features."""

    def members(self, members: slice) -> Coordinates:
        """Return the coordinates of some members; itself if they are shared."""

    def encoded(
        self, encoder: Encoder, rows: slice, batch: Array | None = None, out: Array | None = None
    ) -> Array:
        """Return features of `rows` in order, or of the pixels `batch[..., rows]`."""

    def encoded_in_order(self, encoder: Encoder, dtype: str) -> OnGrid:
        """Return a function for the features (n, F) of runs of pixels, to fill a table."""


class ArrayRows:
    """Rows of an array (N, C), or (*E, N, C) if members differ."""

    def __init__(self, backend: Backend, array: Array) -> None:
        self.backend, self.array = backend, array

    def rows(self, rows: slice) -> Array:
        """Return a view of rows in order."""
        return self.array[..., rows, :]

    def take(self, index: Array, out: Array | None = None) -> Array:
        """Return a copy of rows by number."""
        return self.backend.take_rows(self.array, index, out=out)

    def members(self, members: slice) -> ArrayRows:
        """Return the rows of some members; itself if they are shared."""
        return self if self.array.ndim == 2 else ArrayRows(self.backend, self.array[members, ...])

    def encoded(
        self, encoder: Encoder, rows: slice, batch: Array | None = None, out: Array | None = None
    ) -> Array:
        """See `Coordinates.encoded`."""
        return encoder(self.rows(rows) if batch is None else self.take(batch[..., rows]), out)

    def encoded_in_order(self, encoder: Encoder, dtype: str) -> OnGrid:
        """See `Coordinates.encoded_in_order`."""

        def features(rows: slice, out: Array | None = None) -> Array:
            return encoder(self.rows(rows), out)

        return features


class GridRows:
    """Coordinates (N, 2) of every `stride`-th pixel of a grid along both axes, computed on demand."""

    def __init__(self, backend: Backend, grid: PixelGrid, stride: int, dtype: str) -> None:
        self.backend, self.dtype = backend, dtype
        self.columns = -(-grid.width // stride)
        self.size = self.columns * -(-grid.height // stride)
        # x = (stride column + 1/2) scale
        self.lattice = Lattice(
            self.columns,
            stride * grid.x_step,
            (grid.left + 0.5) * grid.x_step,
            stride * grid.y_step,
            (grid.top + 0.5) * grid.y_step,
        )

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the x of each column and the y of each row."""
        columns, x_scale, x_start, y_scale, y_start = self.lattice
        x, y = (np.arange(count, dtype=np.float64) for count in (columns, self.size // columns))
        return x * x_scale + x_start, y * y_scale + y_start

    def rows(self, rows: slice) -> Array:
        """Return coordinates of pixels in order."""
        return self.take(self.backend.arange(rows.start, rows.stop))

    def take(self, index: Array, out: Array | None = None) -> Array:
        """Return coordinates of pixels by number."""
        return self.backend.pixel_coordinates(index, self.lattice, self.dtype)

    def members(self, members: slice) -> GridRows:
        """Return itself: all members share the grid."""
        return self

    def encoded(
        self, encoder: Encoder, rows: slice, batch: Array | None = None, out: Array | None = None
    ) -> Array:
        """See `Coordinates.encoded`."""
        if batch is None:
            return encoder.of_run(self, rows, out)
        return encoder.of_pixels(batch[..., rows], self.lattice, self.dtype, out)

    def encoded_in_order(self, encoder: Encoder, dtype: str) -> OnGrid:
        """See `Coordinates.encoded_in_order`."""
        return encoder.on_grid(self.axes(), dtype)
