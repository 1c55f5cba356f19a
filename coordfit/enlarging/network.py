"""A network from the 7x7 pixels around a pixel of one channel to the four quarters of that pixel.

    y = S x + W_3 [max(0, W_2 [max(0, W_1 [x, log(s) / 2, 1]), 1]), 1]

The pixels less the one in the middle, over their root mean square s, are x; y is in the same units. So the
network need not learn brightness and contrast. `bench/enlarging_weights.py` trains the weights.
"""

from __future__ import annotations

import base64
import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .weights import FRACTION_BITS, UNITS, WEIGHTS

Array = NDArray[np.float32]

RADIUS = 3
SIDE = 2 * RADIUS + 1
PIXELS = SIDE * SIDE
_LEAST_SPREAD, _USUAL_SPREAD = 0.004, 0.05  # of colours in [0, 1]


class Activations(NamedTuple):
    """What `backward` of a training needs: the inputs of each layer, (n_in + 1, N)."""

    x: Array
    first: Array
    second: Array


class EnlargingNetwork:
    """The weights `W_1, W_2, W_3, S`, views of one flat array; each but S ends in a bias."""

    def __init__(self, flat: Array, units: int) -> None:
        shapes = weight_shapes(units)
        ends = np.cumsum([0, *map(math.prod, shapes)]).tolist()
        self.flat = flat
        self.weights = [
            flat[a:b].reshape(shape) for (a, b), shape in zip(itertools.pairwise(ends), shapes, strict=True)
        ]

    @classmethod
    def shipped(cls) -> Self:
        """Return the network of the shipped weights."""
        integers = np.frombuffer(base64.b85decode(WEIGHTS), "<i2")
        return cls(np.ldexp(integers.astype(np.float32), -FRACTION_BITS), UNITS)

    def forward(self, x: Array) -> tuple[Array, Activations]:
        """Return the four quarters (4, N) of inputs (PIXELS + 2, N), and all activations."""
        first, second, last, skip = self.weights
        a, b = (np.ones((w.shape[0] + 1, x.shape[1]), np.float32) for w in (first, second))
        np.maximum(first @ x, 0, out=a[:-1])
        np.maximum(second @ a, 0, out=b[:-1])
        return last @ b + skip @ x[:PIXELS], Activations(x, a, b)


def weight_shapes(units: int) -> list[tuple[int, int]]:
    """Return the shapes of the weights of a network with two hidden layers."""
    return [(units, PIXELS + 2), (units, units + 1), (4, units + 1), (4, PIXELS)]


def inputs(rows: Array, width: int) -> tuple[Array, Array, Array]:
    """Return inputs (PIXELS + 2, N), root mean squares s (N,) and middles (N,).

    `rows` (n + 2 RADIUS, width + 2 RADIUS) of one channel hold the N = n width pixels and their surroundings.
    """
    windows = np.lib.stride_tricks.sliding_window_view(rows, (SIDE, SIDE))
    count = windows.shape[0] * width
    x = np.ones((PIXELS + 2, count), np.float32)
    x[:PIXELS] = windows.reshape(count, PIXELS).T
    middle = x[PIXELS // 2].copy()
    x[:PIXELS] -= middle
    spread = np.sqrt(np.square(x[:PIXELS]).mean(0)) + np.float32(_LEAST_SPREAD)
    x[:PIXELS] /= spread
    x[PIXELS] = np.log(spread / np.float32(_USUAL_SPREAD)) / 2
    return x, spread, middle


@functools.cache
def symmetries() -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the eight turns and reflections: the order of the inputs, and of the quarters."""
    found = []
    for turns in range(4):
        for step in (1, -1):
            orders = (
                np.rot90(np.arange(count).reshape(side, side), turns)[:, ::step].ravel()
                for side, count in ((SIDE, PIXELS), (2, 4))
            )
            pixels, quarters = orders
            found.append((np.append(pixels, [PIXELS, PIXELS + 1]), quarters))
    return found
