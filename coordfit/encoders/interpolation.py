"""Interpolation between nodes at even distances: linear of 2 taps, cubic of 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Array
from .jets import Jet


@dataclass(frozen=True)
class Kernel:
    """A separable interpolation kernel.

    Attributes
    ----------
    taps : int
        Nodes that a position needs along an axis.
    weights : callable
        Returns the weights of these nodes, for the distance t in [0, 1] from the last node before the position.
    """

    taps: int
    weights: Callable[[Array], tuple[Array, ...]]

    def along(self, xp: Any, places: Array, count: int) -> list[tuple[Array, Array]]:
        """Return the node and the weight of each tap, for places counted in nodes from the first of `count`.

        Nodes are whole numbers in the places' type. Beyond the ends, nodes repeat the first and the last.
        """
        _, cell, t = self._cell(xp, places, count)
        return [*zip(self._nodes(xp, cell, count), self.weights(t), strict=True)]

    def jets_along(self, xp: Any, places: Jet, count: int) -> list[tuple[Array, Jet]]:
        """Return the node and the weight of each tap, with the derivatives of the weight; see `along`."""
        free, cell, t = self._cell(xp, places.value, count)
        inside = xp.astype(cell + t == free, free.dtype)
        slopes, curvatures = (inside * self._derivative(xp, t, order) for order in (1, 2))
        jets = [
            places.chain(w, slopes[:, k : k + 1], curvatures[:, k : k + 1])
            for k, w in enumerate(self.weights(t))
        ]
        return [*zip(self._nodes(xp, cell, count), jets, strict=True)]

    def _derivative(self, xp: Any, t: Array, order: int) -> Array:
        """Return the first or second derivatives (n, taps) of the weights at t (n, 1)."""
        K = np.polynomial.polynomial.polyder(self.polynomials(), order)
        powers = xp.concat([xp.ones_like(t), *(t**k for k in range(1, len(K)))], axis=-1)
        return powers @ xp.asarray(K)

    def _cell(self, xp: Any, places: Array, count: int) -> tuple[Array, Array, Array]:
        """Return places from the first cell, the node before each in the cells, and the distance from it."""
        margin = self.taps // 2 - 1
        cells = count - 1.0 + 2 * margin
        free = places + float(margin)
        place = xp.clip(free, 0.0, cells)
        cell = xp.clip(xp.floor(place), 0.0, cells - 1.0)
        return free, cell, place - cell

    def _nodes(self, xp: Any, cell: Array, count: int) -> list[Array]:
        first = 2 * (self.taps // 2 - 1)
        return [xp.clip(cell + float(k - first), 0.0, count - 1.0) for k in range(self.taps)]

    def matrix(self, places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """Return A (n, count) such that `A v` interpolates the values v of an axis's nodes."""
        A, each = np.zeros((len(places), count)), np.arange(len(places))
        for node, weight in self.along(np, places, count):
            A[each, node.astype(np.int64)] += weight
        return A

    def polynomials(self) -> NDArray[np.float64]:
        """Return K (taps, taps) such that the weights are `[1, t, t^2, ...] K`, of t as `weights` takes it."""
        t = np.arange(self.taps, dtype=np.float64)
        # Coefficients are quarters at the finest, and solving leaves rounding errors.
        solved = np.linalg.solve(np.vander(t, increasing=True), np.stack(self.weights(t), axis=-1))
        return np.asarray(np.rint(4.0 * solved) / 4.0)


def _linear(t: Array) -> tuple[Array, ...]:
    return 1.0 - t, t


def _catmull_rom(t: Array) -> tuple[Array, ...]:
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


LINEAR = Kernel(2, _linear)
CUBIC = Kernel(4, _catmull_rom)
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
