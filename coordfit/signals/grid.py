"""Turn samples of a grid of any number of axes, or of a crop of it, into coordinates.

Along an axis, coordinates are `(i + 0.5) / longest side`, so that frequencies are cycles per longest side for
any shape. Arrays have their last axis fastest, and coordinates have it first: those of a picture (H, W) are x
and y, x to the right and y down. A rendering of another shape covers the same field of view.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
GridAxes = tuple[Real, Real]
"""The x of a line's samples (width,), and the other coordinates of each line (lines, D - 1)."""


@dataclass(frozen=True)
class SampleGrid:
    """The samples of a signal, or of a crop of its rendering, with the last axis counted fastest.

    All tuples have one number for each of D axes, in the order of arrays: (height, width) of a picture.

    Parameters
    ----------
    shape : tuple of int
        Of the grid, in samples.
    extents : tuple of float
        The spans of the whole rendering in coordinates: 1 along the signal's longest side.
    full_shape : tuple of numbers
        Of the whole rendering, in samples: whole numbers unless the grid is a window between samples.
    starts : tuple of numbers
        The grid's first sample in the whole rendering.
    """

    shape: tuple[int, ...]
    extents: tuple[float, ...]
    full_shape: tuple[float, ...]
    starts: tuple[float, ...]

    @classmethod
    def of(cls, *shape: int) -> SampleGrid:
        """Return the grid of a signal's own samples."""
        longest = max(shape)
        return cls(shape, tuple(side / longest for side in shape), shape, (0,) * len(shape))

    def resized(self, *shape: int) -> SampleGrid:
        """Return the same field of view with other numbers of samples."""
        return SampleGrid(shape, self.extents, shape, (0,) * len(shape))

    def cropped(self, *crop: int) -> SampleGrid:
        """Return a window of this grid, in its samples; ValueError unless it lies inside.

        A crop has the first sample along each axis, then the sides, both with the last axis first: (left, top,
        width, height) of a picture.
        """
        axes = len(self.shape)
        starts, sides = crop[:axes][::-1], crop[axes:][::-1]
        inside = len(crop) == 2 * axes and all(
            start >= 0 and side >= 1 and start + side <= own
            for start, side, own in zip(starts, sides, self.shape, strict=True)
        )
        if not inside:
            own = "x".join(map(str, self.shape[::-1]))
            asked = "x".join(map(str, crop[axes:])), ", ".join(map(str, crop[:axes]))
            raise ValueError(f"the crop {asked[0]} at ({asked[1]}) does not lie inside {own}")
        first = tuple(own + start for own, start in zip(self.starts, starts, strict=True))
        return replace(self, shape=sides, starts=first)

    def windowed(self, corner: Sequence[float], sides: Sequence[float], shape: tuple[int, ...]) -> SampleGrid:
        """Return a grid of some shape over a window of this one, which may begin and end between samples.

        The corner and the sides are in this grid's samples, in the order of arrays; 0 is the first edge.
        """
        ratios = [count / side for count, side in zip(shape, sides, strict=True)]
        full = zip(self.full_shape, shape, sides, strict=True)
        places = zip(self.starts, corner, ratios, strict=True)
        return SampleGrid(
            shape,
            self.extents,
            tuple(own * count / side for own, count, side in full),
            tuple((start + own) * ratio for start, own, ratio in places),
        )

    def refined(self, *factors: int) -> SampleGrid:
        """Return the grid with each sample divided into this many along each axis."""
        return SampleGrid(
            tuple(map(operator.mul, self.shape, factors)),
            self.extents,
            tuple(map(operator.mul, self.full_shape, factors)),
            tuple(map(operator.mul, self.starts, factors)),
        )

    def __len__(self) -> int:
        """Return the number of samples."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Return the samples of a line: those along the last axis."""
        return self.shape[-1]

    @property
    def lines(self) -> int:
        """Return the number of lines along the last axis: the height of a picture."""
        return math.prod(self.shape[:-1])

    @property
    def window(self) -> tuple[slice, ...]:
        """Return the place of the grid in an array of the whole rendering, of which it has whole samples."""
        places = zip(map(int, self.starts), self.shape, strict=True)
        return tuple(slice(start, start + side) for start, side in places)

    @property
    def steps(self) -> tuple[float, ...]:
        """Return the distance of neighbouring samples along each axis, in coordinates."""
        return tuple(extent / full for extent, full in zip(self.extents, self.full_shape, strict=True))

    def positions(self) -> list[Real]:
        """Return the coordinates (n,) of the samples along each axis."""
        return [
            np.multiply(np.arange(count, dtype=np.float64) + (start + 0.5), step)
            for count, start, step in zip(self.shape, self.starts, self.steps, strict=True)
        ]

    def axes(self, lines: slice | None = None) -> GridAxes:
        """Return the x of a line's samples (width,), and the other coordinates of lines (n, D - 1).

        These are all lines by default; a picture's have y alone.
        """
        *others, x = self.positions()
        first, stop, _ = (lines or slice(None)).indices(self.lines)
        return x, points_of(others, np.arange(first, stop))

    def coordinates(self, samples: NDArray[np.integer]) -> Real:
        """Return coordinates (N, D) of samples (N,) by number; x is the first column."""
        return points_of(self.positions(), samples)


def points_of(positions: Sequence[Real], numbers: NDArray[np.integer]) -> Real:
    """Return the coordinates (n, D) of points of a grid by number, the last axis first.

    Positions (n_k,) are those along each axis.
    """
    if not positions:
        return np.empty((len(numbers), 0))
    if len(positions) == 1:
        return positions[0].take(numbers)[:, None]
    places = np.unravel_index(numbers, tuple(len(along) for along in positions))
    columns = [along[place] for along, place in zip(positions, places, strict=True)]
    return np.stack(columns[::-1], axis=-1)
