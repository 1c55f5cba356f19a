"""Interpolation between nodes at even distances: linear of 2 taps, cubic of 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._backends import Array


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
        margin = self.taps // 2 - 1
        cells = count - 1.0 + 2 * margin
        place = xp.clip(places + float(margin), 0.0, cells)
        cell = xp.clip(xp.floor(place), 0.0, cells - 1.0)
        weights = self.weights(place - cell)
        return [(xp.clip(cell + float(k - 2 * margin), 0.0, count - 1.0), w) for k, w in enumerate(weights)]

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
    """The nodes of one level, `step` apart in coordinates from `start`, with `features` numbers each."""

    rows: int
    columns: int
    start: float
    step: float
    features: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (H_l, W_l, F_l)."""
        return self.rows, self.columns, self.features

    def places(self, positions: Array) -> Array:
        """Return positions along an axis, counted in nodes."""
        return (positions - self.start) * (1.0 / self.step)

    def matrices(
        self, kernel: Kernel, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return `A_x` (width, W_l) and `A_y` (height, H_l) for the columns and rows of a grid of pixels."""
        return kernel.matrix(self.places(x), self.columns), kernel.matrix(self.places(y), self.rows)
