"""The places of the tiles of a signal, and how their networks are blended: a smooth partition of unity.

Tiles of one size cover the signal without sticking out, at even distances; neighbours share `overlap` pixels
or a few more. Two neighbours are blended by a raised cosine, in a band of `overlap` pixels in the middle of the
pixels that both have learned. So at most two networks along an axis contribute to a point, and the blended
picture is as smooth as they are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..encoders.jets import Jet
from ..images import Colours
from ..signals.grid import SampleGrid


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of a signal; lengths are in samples."""

    length: int
    """Of the signal."""
    side: int
    """Of a tile, at most `length`."""
    overlap: int
    """Width of the bands in which neighbours are blended; the least number of pixels that they share."""

    @functools.cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first pixel of each tile."""
        last = self.length - self.side
        count = 1 + (0 if last == 0 else math.ceil(last / (self.side - self.overlap)))
        return np.rint(np.linspace(0, last, count)).astype(np.int64)

    def __len__(self) -> int:
        return len(self.starts)

    @functools.cached_property
    def borders(self) -> NDArray[np.float64]:
        """The middles of the pixels that two neighbours share."""
        return (self.starts[1:] + self.starts[:-1] + self.side) / 2

    def weights(self, tile: int, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the blend weights (n,) of a tile at positions in pixels; over all tiles they sum to 1."""
        weights = np.ones(np.shape(positions))
        if tile > 0:
            weights = self._rise(self.borders[tile - 1], positions)
        if tile < len(self) - 1:
            weights = weights - self._rise(self.borders[tile], positions)
        return weights

    def weight_jet(self, tile: int, position: Jet) -> Jet:
        """Return a tile's blend weights (n, 1), with derivatives, at positions in samples with theirs."""
        place = position.value
        weights = self.weights(tile, place)
        slope, curvature = np.zeros_like(place), np.zeros_like(place)
        for border, sign in ((tile - 1, 1.0), (tile, -1.0)):
            if 0 <= border < len(self.borders):
                phase = np.pi * self._blended(self.borders[border], place)
                slope += sign * 0.5 * np.pi / self.overlap * np.sin(phase)
                is_blended = (phase > 0.0) & (phase < np.pi)
                curvature += sign * 0.5 * (np.pi / self.overlap) ** 2 * np.cos(phase) * is_blended
        return position.chain(weights, slope, curvature)

    def _rise(self, border: float | NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rise from 0 to 1 across a border, by a raised cosine over `overlap` pixels."""
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * self._blended(border, positions)))

    def _blended(
        self, border: float | NDArray[np.float64], positions: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return how far positions lie in the band of a border, from 0 to 1."""
        return np.asarray(np.clip((positions - border) / self.overlap + 0.5, 0.0, 1.0))

    def covering(
        self, positions: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Yield the first and then the second tile (n,) at positions (n,) in pixels, with its weight (n,)."""
        first = np.searchsorted(self.borders + self.overlap / 2, positions, side="right")
        second = np.minimum(first + 1, len(self) - 1)
        weight = np.zeros(len(positions))
        between = np.flatnonzero(second > first)
        weight[between] = self._rise(self.borders[first[between]], positions[between])
        yield first, 1.0 - weight
        yield second, weight

    def span(self, tile: int, positions: NDArray[np.float64]) -> slice:
        """Return which of ascending positions (n,), in pixels, a tile contributes to."""
        low = -math.inf if tile == 0 else self.borders[tile - 1] - self.overlap / 2
        high = math.inf if tile == len(self) - 1 else self.borders[tile] + self.overlap / 2
        start, stop = np.searchsorted(positions, [low, high], side="right")
        return slice(int(start), int(stop))

    def range(self, low: float, high: float) -> range:
        """Return the tiles that contribute between two positions."""
        half = self.overlap / 2
        first = int(np.searchsorted(self.borders + half, low, side="right"))
        last = int(np.searchsorted(self.borders - half, high, side="right"))
        return range(first, last + 1)


@dataclass(frozen=True)
class TileLayout:
    """The tiles of a signal of some shape, with those along the last axis counted fastest."""

    shape: tuple[int, ...]
    """Of the signal: (height, width) of a picture."""
    tile: int
    """The side of a tile without its overlap: the most samples from one tile to the next."""
    overlap: int
    """Width of the bands in which neighbours are blended."""

    def __post_init__(self) -> None:
        if not 1 <= self.overlap <= self.tile // 2:
            most = self.tile // 2
            raise ValueError(f"the overlap must be between 1 and {most}, half of a tile, not {self.overlap}")

    @property
    def title(self) -> str:
        """The number of tiles and their size, in words."""
        return f"{len(self)} tiles of {self.extent}"

    @property
    def extent(self) -> str:
        """The size of a tile in words, such as 8x8."""
        return "x".join([str(self.tile)] * len(self.shape))

    @property
    def side(self) -> int:
        """The side of a tile with its overlap; the unit of the networks' coordinates."""
        return self.tile + self.overlap

    @functools.cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The tiles along each axis, in the order of arrays: from the top down, and from left to right."""
        return tuple(Axis(length, min(self.side, length), self.overlap) for length in self.shape)

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        """The number of tiles along each axis."""
        return tuple(len(axis) for axis in self.axes)

    def __len__(self) -> int:
        return math.prod(self.counts)

    @property
    def grid(self) -> SampleGrid:
        """The samples of a tile in its network's own coordinates, the same for all tiles."""
        sides = tuple(axis.side for axis in self.axes)
        return SampleGrid(sides, tuple(own / self.side for own in sides), sides, (0,) * len(sides))

    def starts(self, tile: int) -> NDArray[np.int64]:
        """Return the first sample (D,) of a tile along each axis, in the order of arrays."""
        places = zip(self.axes, np.unravel_index(tile, self.counts), strict=True)
        return np.array([axis.starts[place] for axis, place in places])

    def blend_jet(self, tile: int, points: Jet) -> Jet:
        """Return a tile's blend weights (n, 1), with derivatives, at points (n, D) in samples with theirs."""
        axes = zip(self.axes, np.unravel_index(tile, self.counts), reversed(range(len(self.axes))), strict=True)
        return functools.reduce(
            Jet.times, [axis.weight_jet(int(place), points.column(k)) for axis, place, k in axes]
        )

    def blend_weights(self, tiles: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the blend weights (K, N) of tiles (K,) at each of their samples."""
        weights = np.ones((len(tiles), 1))
        for axis, places in zip(self.axes, np.unravel_index(tiles, self.counts), strict=True):
            each = [axis.weights(k, axis.starts[k] + np.arange(axis.side) + 0.5) for k in range(len(axis))]
            weights = (weights[:, :, None] * np.array(each)[places][:, None, :]).reshape(len(tiles), -1)
        return weights.astype(np.float32)

    def pixels(self, signal: NDArray[Any] | Colours, tiles: NDArray[np.integer]) -> NDArray[Any]:
        """Return the values (K, N, C) of tiles (K,) in those of a signal (*shape, C), in order."""
        index, axes = [], len(self.axes)
        for k, places in enumerate(np.unravel_index(tiles, self.counts)):
            own = self.axes[k].starts[places][:, None] + np.arange(self.axes[k].side)
            index.append(own.reshape(len(tiles), *(own.shape[1] if i == k else 1 for i in range(axes))))
        return np.reshape(signal[tuple(index)], (len(tiles), -1, signal.shape[-1]))
