"""How a pyramid is trained: Adam for the latents and most weights, Muon for hidden layers' matrices.

Both are those of `coordfit.optimizers`, on NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...backends import Backend
from ...optimizers.adam import Adam
from ...optimizers.base import ElementwiseOptimizer
from ...optimizers.muon import Orthogonalizer

Real = NDArray[np.floating[Any]]

_BETA2 = 0.99
_MOMENTUM, _ITERATIONS = 0.95, 5


class PyramidOptimizer:
    """Steps on a flat buffer of parameters, with a learning rate for each of its parts.

    Parameters
    ----------
    parameters, gradient : arrays, shape (P,)
    rates : sequence of (slice, float)
        The parts and their learning rates.
    matrices : sequence of (array, array)
        Views into both buffers that Muon trains, and their learning rate `matrix_rate`.
    """

    def __init__(
        self,
        backend: Backend,
        parameters: Real,
        gradient: Real,
        rates: Sequence[tuple[slice, float]],
        matrices: Sequence[tuple[Real, Real]],
        matrix_rate: float,
    ) -> None:
        self._parameters, self._gradient, dtype = parameters, gradient, str(parameters.dtype)
        self._parts = [
            (ElementwiseOptimizer(backend, parameters[part], Adam(beta2=_BETA2), dtype=dtype), part, rate)
            for part, rate in rates
        ]
        self._matrices = [_Matrix(backend, w, gradient, matrix_rate) for w, gradient in matrices]
        self.steps = 0

    def state(self) -> dict[str, Real]:
        """Return the buffers of both optimizers by name."""
        adam = {f"{name}{i}": a for i, (part, *_) in enumerate(self._parts) for name, a in part.state.items()}
        return adam | {f"matrix{i}": matrix.momentum for i, matrix in enumerate(self._matrices)}

    def restore(self, state: Mapping[str, Real], steps: int) -> None:
        """Go on after some steps from the buffers of `state`."""
        for name, buffer in self.state().items():
            buffer[...] = state[name]
        self.steps = steps
        for part, *_ in self._parts:
            part.steps = steps

    def step(self, factor: float) -> None:
        """Take one step with the learning rates times a factor; the gradients of matrices become 0."""
        self.steps += 1
        for matrix in self._matrices:
            matrix.step(factor)
        for adam, part, rate in self._parts:
            adam.step(self._parameters[part], [self._gradient[part]], rate * factor)


class _Matrix:
    """One matrix for Muon. It is copied: its rows end in a bias, which Adam trains."""

    def __init__(self, backend: Backend, w: Real, gradient: Real, rate: float) -> None:
        self._backend, self._w, self._gradient, self._rate = backend, w, gradient, rate
        self._flat, self.momentum, self._direction = (np.zeros(w.size, w.dtype) for _ in range(3))
        self._orthogonalize = Orthogonalizer(backend, w.shape, str(w.dtype), _ITERATIONS)
        self._scale = math.sqrt(max(1.0, w.shape[0] / w.shape[1]))

    def step(self, factor: float) -> None:
        self._flat.reshape(self._w.shape)[...] = self._w
        self._backend.muon_step(
            self._flat,
            [self._gradient.reshape(-1)],
            self.momentum,
            orthogonalize=self._orthogonalize,
            learning_rate=self._rate * factor,
            momentum=_MOMENTUM,
            scale=self._scale,
            out=self._direction,
        )
        self._w[...] = self._flat.reshape(self._w.shape)
        self._gradient.fill(0)
