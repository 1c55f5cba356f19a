"""A pyramid of trained features, which starts as the Laplacian pyramid of the training pixels.

Level l has cells of `2^l` pixels with a value at each centre; the features of a pixel are the cubic
interpolations of all levels. It is the pyramid of `codec`, without rounding. Source: Burt and Adelson (1983).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import FitConfig
from ..signals.grid import SampleGrid
from .interpolation import CUBIC, Level
from .levels import LevelsEncoding

LUMINANCE = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
"""Makes luminance and two colour differences of red, green and blue."""
# Features of 1 for colours that differ by a quarter, as weights and learning rates suit features near 1.
_GAIN = 4.0
_MOST_CHANNELS = 3

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Pyramid(LevelsEncoding):
    """Levels of trained features: `features` at the finest, twice as many at the next, then three times."""

    name = "pyramid"
    kernel = CUBIC
    # Held-out pixels of coffee at 128x128, every second: 24.4 dB; 24.3 dB at 0, 24.2 dB at 1.
    between_rows, between_scattered = 0.1, 0.1

    @classmethod
    def title(cls, config: FitConfig) -> str:
        """Return the encoding and its settings in words."""
        return f"pyramid encoding, {config.pyramid_levels} levels"

    def nodes(self) -> list[Level]:
        """Return the cells of each level, from coarse to fine."""
        longer, found = max(self.size), []
        for halvings in reversed(range(self.levels)):
            pixels = self.spacing * 2**halvings
            counts = tuple(max(1, math.ceil(length / pixels)) for length in self.size)
            features = self.features * min(halvings + 1, _MOST_CHANNELS)
            found.append(Level(counts, 0.5 * pixels / longer, pixels / longer, features))
        return found

    def first_parameters(
        self, rng: np.random.Generator, pixels: NDArray[np.floating], known: NDArray[np.bool_]
    ) -> dict[str, Real]:
        """Return the Laplacian pyramid of luminance and colour differences; other features are near 0."""
        first = self.draw_parameters(rng)
        colours = pixels[known].astype(np.float64)
        rest = (colours - colours.mean(axis=0)) @ (_GAIN * _to_features(colours.shape[1])).T
        for values, part in zip(first.values(), self._laplacian(rest, known), strict=True):
            values[..., : part.shape[-1]] = part
        return first

    def colour_weights(self, channels: int) -> Real:
        """Return S (F, C), which makes the picture less its mean of the features of first values."""
        back = np.linalg.inv(_GAIN * _to_features(channels)).T
        return np.concatenate([np.eye(level.features, channels) @ back for level in self.nodes()])

    def _laplacian(self, rest: Real, known: NDArray[np.bool_]) -> Iterator[Real]:
        """Yield the values (*counts, c) of each level: means over cells of what coarser levels leave.

        Cells without known pixels take the mean of all. Each level is subtracted from `rest` (N, C) in place.
        """
        positions = SampleGrid.of(*self.size).positions()
        places = known.nonzero()
        for level in self.nodes():
            part = rest[:, : level.features]
            axes = zip(positions, places, level.counts, strict=True)
            cells = tuple(_cells(along, level, count)[place] for along, place, count in axes)
            cell = np.ravel_multi_index(cells, level.counts)
            count = np.bincount(cell, minlength=math.prod(level.counts))
            sums = [np.bincount(cell, channel, count.size) for channel in part.T]
            values = np.where(count, sums / np.maximum(count, 1), part.mean(axis=0)[:, None])
            drawn = values = values.reshape(-1, *level.counts)
            yield np.moveaxis(values, 0, -1)
            for A in level.matrices(self.kernel, positions):  # moves the first axis of nodes to the end
                drawn = np.tensordot(drawn, A, (1, 1))
            part -= drawn[:, known].T


def _to_features(channels: int) -> Real:
    return LUMINANCE if channels == 3 else np.eye(channels)


def _cells(positions: Real, level: Level, count: int) -> NDArray[np.int64]:
    """Return the cell of each position along an axis."""
    cells = np.floor(level.places(positions) + 0.5).astype(np.int64)
    clipped: NDArray[np.int64] = cells.clip(0, count - 1)
    return clipped
