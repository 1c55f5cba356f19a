"""Optimizers of a pyramid: Adam for the latents and for most weights, Muon for hidden layers' matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating[Any]]

_BLOCK = 65536  # numbers of which Adam takes a step at a time


class Adam:
    """Adam on a flat buffer, with a learning rate for each of its parts. Source: Kingma and Ba (2015)."""

    def __init__(self, parameters: Real, gradient: Real, rates: Sequence[tuple[slice, float]]) -> None:
        self.parameters, self.gradient, self._rates = parameters, gradient, rates
        self._first, self._second = np.zeros_like(parameters), np.zeros_like(parameters)
        self._buffer = np.empty(_BLOCK, parameters.dtype)
        self.steps = 0

    def step(self, factor: float) -> None:
        """Take one step with the learning rates times a factor; beta 0.9 and 0.99."""
        self.steps += 1
        factor /= 1 - 0.9**self.steps
        slow = 1 / (1 - 0.99**self.steps)
        for part, rate in self._rates:
            for begin in range(part.start, part.stop, _BLOCK):
                self._step_block(slice(begin, min(begin + _BLOCK, part.stop)), rate * factor, slow)

    def _step_block(self, at: slice, rate: float, slow: float) -> None:
        g, m, v = self.gradient[at], self._first[at], self._second[at]
        buffer = self._buffer[: g.size]
        m *= 0.9
        np.multiply(g, 0.1, out=buffer)
        m += buffer
        v *= 0.99
        np.multiply(g, g, out=buffer)
        buffer *= 0.01
        v += buffer
        np.multiply(v, slow, out=buffer)
        np.sqrt(buffer, out=buffer)
        buffer += 1e-8
        np.divide(m, buffer, out=buffer)
        buffer *= rate
        self.parameters[at] -= buffer


class Muon:
    """Steps along the nearest orthogonal matrix to the momentum. Source: Jordan et al. (2024), Muon."""

    def __init__(self, matrices: Sequence[tuple[Real, Real]], rate: float) -> None:
        self._matrices = [(w, gradient, np.zeros_like(w)) for w, gradient in matrices]
        self._rate = rate

    def step(self, factor: float) -> None:
        """Take one step, and set the gradients to 0, so that Adam takes none."""
        for w, gradient, momentum in self._matrices:
            momentum *= 0.95
            momentum += gradient
            longer = max(1.0, w.shape[0] / w.shape[1])
            w -= self._rate * factor * longer**0.5 * orthogonalized(gradient + 0.95 * momentum)
            gradient.fill(0)


def orthogonalized(matrix: Real) -> Real:
    """Return a matrix with the same singular vectors, and singular values near 1.

    Five steps of `X <- a X + (b A + c A^2) X` with `A = X X^T`.
    """
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (2.0315 * a @ a - 4.775 * a) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
