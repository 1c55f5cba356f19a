"""Interpolation between nodes at even distances: linear of 2 taps, cubic of 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._backends import Array
from .jets import Jet

Weights = Callable[[Array], tuple[Array, ...]]


@dataclass(frozen=True)
class Kernel:
    """A separable interpolation kernel.

    Attributes
    ----------
    taps : int
        Nodes that a position needs along an axis.
    weights, slopes, curvatures : callables
        Return the weights of these nodes, and their first and second derivatives, for the distance t in [0, 1]
        from the last node before the position.
    """

    taps: int
    weights: Weights
    slopes: Weights
    curvatures: Weights

    def along(self, xp: Any, places: Array, count: int) -> list[tuple[Array, Array]]:
        """Return the node and the weight of each tap, for places counted in nodes from the first of `count`.

        Nodes are whole numbers in the places' type. Beyond the ends, nodes repeat the first and the last.
        """
        cell, t, _ = self._cell(xp, places, count)
        return [*zip(self._nodes(xp, cell, count), self.weights(t), strict=True)]

    def jets_along(self, xp: Any, places: Jet, count: int) -> list[tuple[Array, Jet]]:
        """Return the node and the weight of each tap, with the derivatives of the weight; see `along`."""
        cell, t, inside = self._cell(xp, places.value, count)
        parts = zip(self.weights(t), self.slopes(t), self.curvatures(t), strict=True)
        jets = [places.chain(w, slope * inside, curvature * inside) for w, slope, curvature in parts]
        return [*zip(self._nodes(xp, cell, count), jets, strict=True)]

    def _cell(self, xp: Any, places: Array, count: int) -> tuple[Array, Array, Array]:
        """Return the node before each place, the distance from it, and 0 beyond the ends, else 1."""
        margin = self.taps // 2 - 1
        cells = count - 1.0 + 2 * margin
        free = places + float(margin)
        place = xp.clip(free, 0.0, cells)
        cell = xp.clip(xp.floor(place), 0.0, cells - 1.0)
        return cell, place - cell, xp.astype(place == free, places.dtype)

    def _nodes(self, xp: Any, cell: Array, count: int) -> list[Array]:
        first = 2 * (self.taps // 2 - 1)
        return [xp.clip(cell + float(k - first), 0.0, count - 1.0) for k in range(self.taps)]

    def matrix(self, places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """Return A (n, count) such that `A v` interpolates the values v of an axis's nodes."""
        A, each = np.zeros((len(places), count)), np.arange(len(places))
        for node, weight in self.along(np, places, count):
            A[each, node.astype(np.int64)] += weight
        return A


def _linear(t: Array) -> tuple[Array, ...]:
    return 1.0 - t, t


def _catmull_rom(t: Array) -> tuple[Array, ...]:
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


def _slopes_of_linear(t: Array) -> tuple[Array, ...]:
    return 0.0 * t - 1.0, 0.0 * t + 1.0


def _curvatures_of_linear(t: Array) -> tuple[Array, ...]:
    return 0.0 * t, 0.0 * t


def _slopes_of_catmull_rom(t: Array) -> tuple[Array, ...]:
    return (
        (-1.5 * t + 2.0) * t - 0.5,
        (4.5 * t - 5.0) * t,
        (-4.5 * t + 4.0) * t + 0.5,
        (1.5 * t - 1.0) * t,
    )


def _curvatures_of_catmull_rom(t: Array) -> tuple[Array, ...]:
    return -3.0 * t + 2.0, 9.0 * t - 5.0, -9.0 * t + 4.0, 3.0 * t - 1.0


LINEAR = Kernel(2, _linear, _slopes_of_linear, _curvatures_of_linear)
CUBIC = Kernel(4, _catmull_rom, _slopes_of_catmull_rom, _curvatures_of_catmull_rom)
"""Keys (1981), a = -1/2, also known as Catmull-Rom."""


@dataclass(frozen=True)
class Level:
    """The nodes of one level, `step` apart in coordinates from `start`, with `features` numbers each.

    There are `counts` along the axes, in the order of arrays.
    """

    counts: tuple[int, ...]
    start: float
    step: float
    features: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (*counts, F_l)."""
        return *self.counts, self.features

    def places(self, positions: Array) -> Array:
        """Return positions along an axis, counted in nodes."""
        return (positions - self.start) * (1.0 / self.step)

    def matrices(self, kernel: Kernel, positions: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Return `A_k` (n_k, counts[k]) for the positions (n_k,) of a grid of points along each axis."""
        return [
            kernel.matrix(self.places(along), count)
            for along, count in zip(positions, self.counts, strict=True)
        ]
