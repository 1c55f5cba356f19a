"""Where the tiles of a picture lie, and how their networks are blended: a smooth partition of unity.

Tiles of one size cover the picture and overlap their neighbours by `overlap` pixels or a little more; they are
spread so evenly that none sticks out. A network is told apart from its neighbours in a band of `overlap` pixels
in the middle of what both have learned, by a raised cosine; so each point of the picture hears two networks
along an axis at most, and the blended picture is as smooth as they are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import Colours
from ..images.grid import PixelGrid


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of a picture.

    Parameters
    ----------
    length : int
        Of the picture, in pixels.
    side : int
        Of a tile, in pixels; at most `length`.
    overlap : int
        The width of the bands in which neighbours are blended; neighbours share so many pixels at least.
    """

    length: int
    side: int
    overlap: int

    @functools.cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first pixel of each tile."""
        room = self.length - self.side
        count = 1 + (0 if room == 0 else math.ceil(room / (self.side - self.overlap)))
        return np.rint(np.linspace(0, room, count)).astype(np.int64)

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.starts)

    @functools.cached_property
    def borders(self) -> NDArray[np.float64]:
        """Where one tile hands over to the next: the middle of what both have learned, in pixels."""
        return (self.starts[1:] + self.starts[:-1] + self.side) / 2

    def weights(self, tile: int, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """How much a tile says at positions (n,) in pixels; over all tiles the sum is 1."""
        weights = np.ones(len(positions))
        if tile > 0:
            weights = self._rise(self.borders[tile - 1], positions)
        if tile < len(self) - 1:
            weights = weights - self._rise(self.borders[tile], positions)
        return weights

    def _rise(self, border: float | NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """From 0 to 1 across a border, a raised cosine over `overlap` pixels."""
        share = np.clip((positions - border) / self.overlap + 0.5, 0.0, 1.0)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * share))

    def blend_weights(
        self, positions: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Twice, for positions (n,) in pixels: a tile (n,) that is heard there, and its weight (n,)."""
        first = np.searchsorted(self.borders + self.overlap / 2, positions, side="right")
        second = np.minimum(first + 1, len(self) - 1)
        weight = np.zeros(len(positions))
        between = np.flatnonzero(second > first)
        weight[between] = self._rise(self.borders[first[between]], positions[between])
        yield first, 1.0 - weight
        yield second, weight

    def span(self, tile: int, positions: NDArray[np.float64]) -> slice:
        """Which of ascending positions (n,), in pixels, a tile has a say at."""
        low = -math.inf if tile == 0 else self.borders[tile - 1] - self.overlap / 2
        high = math.inf if tile == len(self) - 1 else self.borders[tile] + self.overlap / 2
        start, stop = np.searchsorted(positions, [low, high], side="right")
        return slice(int(start), int(stop))

    def range(self, low: float, high: float) -> range:
        """The tiles that have a say between two positions."""
        half = self.overlap / 2
        first = int(np.searchsorted(self.borders + half, low, side="right"))
        last = int(np.searchsorted(self.borders - half, high, side="right"))
        return range(first, last + 1)


@dataclass(frozen=True)
class TileLayout:
    """The tiles of a picture, counted row by row from the top left.

    Parameters
    ----------
    height, width : int
        Of the picture.
    tile : int
        The side of a tile without its overlap: neighbours are so many pixels apart, or fewer.
    overlap : int
        The width of the bands in which neighbours are blended.
    """

    height: int
    width: int
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if not 1 <= self.overlap <= self.tile // 2:
            most = self.tile // 2
            raise ValueError(f"the overlap must be between 1 and {most}, half of a tile, not {self.overlap}")

    @property
    def title(self) -> str:
        """How many tiles there are, and of which size, for people."""
        return f"{len(self)} tiles of {self.tile}x{self.tile}"

    @property
    def side(self) -> int:
        """Of a tile with its overlap; the unit of the networks' coordinates."""
        return self.tile + self.overlap

    @functools.cached_property
    def rows(self) -> Axis:
        """Tiles from the top down."""
        return Axis(self.height, min(self.side, self.height), self.overlap)

    @functools.cached_property
    def columns(self) -> Axis:
        """Tiles from left to right."""
        return Axis(self.width, min(self.side, self.width), self.overlap)

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)

    @property
    def grid(self) -> PixelGrid:
        """The pixels of a tile in its network's own coordinates, the same for all tiles."""
        height, width = self.rows.side, self.columns.side
        return PixelGrid(height, width, height / self.side, width / self.side, height, width)

    def place(self, tile: int) -> tuple[int, int]:
        """Row and column of a tile among the tiles."""
        return divmod(tile, len(self.columns))

    def shares(self, tiles: NDArray[np.integer]) -> NDArray[np.float32]:
        """How much tiles (K,) say at each of their pixels: (K, N)."""
        y, x = (
            np.array([axis.weights(k, axis.starts[k] + np.arange(axis.side) + 0.5) for k in range(len(axis))])
            for axis in (self.rows, self.columns)
        )
        row, column = np.divmod(tiles, len(self.columns))
        shares = y[row][:, :, None] * x[column][:, None, :]
        return np.reshape(shares, (len(tiles), -1)).astype(np.float32)

    def pixels(self, picture: NDArray[Any] | Colours, tiles: NDArray[np.integer]) -> NDArray[Any]:
        """What tiles (K,) are to learn: (K, N, C) from a picture (H, W, C), row by row."""
        row, column = np.divmod(tiles, len(self.columns))
        y = self.rows.starts[row][:, None] + np.arange(self.rows.side)
        x = self.columns.starts[column][:, None] + np.arange(self.columns.side)
        chosen = picture[y[:, :, None], x[:, None, :]]
        return np.reshape(chosen, (len(tiles), -1, picture.shape[-1]))
