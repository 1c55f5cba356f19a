"""The known samples around hidden ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]
"""Samples by number, the last axis counted fastest."""


class Neighbourhood:
    """The nearest known samples within a radius.

    Parameters
    ----------
    known : boolean array (*shape)
    count : int
        k, the known samples that a hidden one needs.
    radius : int
        In samples.
    """

    def __init__(self, known: Mask, count: int, radius: int) -> None:
        self.count, self.shape = count, known.shape
        padded = np.pad(known, radius)
        self._known, self._pad, self._padded = padded.reshape(-1), radius, padded.shape
        offsets = box(radius, known.ndim)
        squares = np.square(offsets).sum(axis=1)
        near = np.flatnonzero(squares <= radius * radius)
        order = offsets[near[np.argsort(squares[near], kind="stable")]]
        self._steps, self._padded_steps = order @ strides(self.shape), order @ strides(self._padded)

    def of(self, samples: Numbers) -> tuple[Numbers, Mask]:
        """Return the nearest known samples (m, k) of m samples, and which of n samples (n,) have as many."""
        places = tuple(place + self._pad for place in np.unravel_index(samples, self.shape))
        is_known = self._known[np.ravel_multi_index(places, self._padded)[:, None] + self._padded_steps]
        rank = np.cumsum(is_known, axis=1, dtype=np.int32)
        has_enough = rank[:, -1] >= self.count
        is_taken = (is_known & (rank <= self.count))[has_enough]
        _, offsets = np.nonzero(is_taken)
        return samples[has_enough, None] + self._steps[offsets].reshape(-1, self.count), has_enough


def box(radius: int, axes: int) -> Numbers:
    """Return the offsets (n, D) of all samples up to a radius along each axis."""
    return np.indices((2 * radius + 1,) * axes).reshape(axes, -1).T - radius


def strides(shape: tuple[int, ...]) -> Numbers:
    """Return how far numbers of samples lie apart along each axis."""
    return np.array([math.prod(shape[k + 1 :]) for k in range(len(shape))])
