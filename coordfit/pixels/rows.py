"""Rows of training data by their number: from arrays, or computed if an array would be too large.

A batch is a list of pixel numbers. Coordinates, features, targets and weights of its pixels come from objects
with two methods: `rows` for a run of pixels in order, and `take` for any pixels.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from ..backends import Array, Backend, Lattice
from ..encoders.base import Encoder, OnGrid
from ..signals.grid import GridAxes, SampleGrid, points_of


class Rows(Protocol):
    """N rows of C numbers, the same for all members or for each its own."""

    def rows(self, rows: slice) -> Array:
        """Return rows in order: (n, C), or (*E, n, C) if members differ."""

    def take(self, index: Array, out: Array | None = None) -> Array:
        """Return rows (n, C) or (*E, n, C) by number: index (n,), or (*E, n) if members differ."""

    def members(self, members: slice) -> Rows:
        """Return the rows of some members; itself if they are shared."""


class Coordinates(Rows, Protocol):
    """The coordinates (N, D) of pixels, and their features."""

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
    """Coordinates (N, D) of every `stride`-th sample of a grid along all axes, computed on demand."""

    def __init__(self, backend: Backend, grid: SampleGrid, stride: int, dtype: str) -> None:
        self.backend, self.dtype = backend, dtype
        counts = tuple(-(-side // stride) for side in grid.shape)
        self.size = math.prod(counts)
        # x = (stride column + 1/2) scale
        starts = [(start + 0.5) * step for start, step in zip(grid.starts, grid.steps, strict=True)]
        scales = [stride * step for step in grid.steps]
        self.lattice = Lattice(counts[::-1], tuple(scales[::-1]), tuple(starts[::-1]))

    def axes(self) -> GridAxes:
        """Return the x of a line's samples, and the other coordinates of each line."""
        x, *others = (
            np.arange(count, dtype=np.float64) * scale + start
            for count, scale, start in zip(*self.lattice, strict=True)
        )
        return x, points_of(others[::-1], np.arange(self.size // len(x)))

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
