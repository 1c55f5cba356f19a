"""Rows of training data by their number: arrays where they fit memory, arithmetic where they would not.

A batch names pixels by index; what a step needs of them (coordinates or features, targets, weights) comes
from an object with two methods, `rows` for a run of pixels in order and `take` for any.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend, Lattice
from ..encoders.base import Encoder, OnGrid
from ..images.grid import PixelGrid


class Rows(Protocol):
    """N rows of C numbers, for all members or for each."""

    def rows(self, rows: slice) -> Array:
        """Rows in order: (n, C), or (*E, n, C) where members differ."""

    def take(self, index: Array, out: Array | None = None) -> Array:
        """Rows by number: index (n,), or (*E, n) where members differ, to (n, C) or (*E, n, C)."""

    def members(self, members: slice) -> Rows:
        """What some of the members see; itself where they share it."""


class Coordinates(Rows, Protocol):
    """The coordinates (N, 2) of pixels, and how an encoder sees them."""

    def members(self, members: slice) -> Coordinates:
        """What some of the members see; itself if they share it."""

    def encoded(
        self, encoder: Encoder, rows: slice, batch: Array | None = None, out: Array | None = None
    ) -> Array:
        """Return features of pixels in order, or of those that `batch` (n,) or (*E, n) has at these places."""

    def encoded_in_order(self, encoder: Encoder, dtype: str) -> OnGrid:
        """Return what gives the features (n, F) of runs of pixels, to fill a table."""


class ArrayRows:
    """Rows of an array of shape (N, C), or (*E, N, C) where members differ."""

    def __init__(self, backend: Backend, array: Array) -> None:
        self.backend, self.array = backend, array

    def rows(self, rows: slice) -> Array:
        """A view of rows in order."""
        return self.array[..., rows, :]

    def take(self, index: Array, out: Array | None = None) -> Array:
        """Rows by number, gathered."""
        return self.backend.take_rows(self.array, index, out=out)

    def members(self, members: slice) -> ArrayRows:
        """Some of the members' rows; itself where they share them."""
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
    """Coordinates (N, 2) of every `stride`-th pixel of a grid along both axes, computed and never stored."""

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
        """The x of each column and the y of each row."""
        columns, x_scale, x_start, y_scale, y_start = self.lattice
        x, y = (np.arange(count, dtype=np.float64) for count in (columns, self.size // columns))
        return x * x_scale + x_start, y * y_scale + y_start

    def rows(self, rows: slice) -> Array:
        """Coordinates of pixels in order."""
        return self.take(self.backend.arange(rows.start, rows.stop))

    def take(self, index: Array, out: Array | None = None) -> Array:
        """Coordinates of pixels by number."""
        return self.backend.pixel_coordinates(index, self.lattice, self.dtype)

    def members(self, members: slice) -> GridRows:
        """All members see the same grid."""
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
