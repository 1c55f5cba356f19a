"""Stochastic gradient descent with momentum, plain or Nesterov's."""

from __future__ import annotations

from collections.abc import Sequence

from .._backends import Array, Backend
from .base import Counted, state_names


class SGD(Counted):
    """Stochastic gradient descent, with momentum and Nesterov's variant where asked for."""

    def __init__(
        self, backend: Backend, parameters: Array, *, dtype: str, momentum: float, nesterov: bool
    ) -> None:
        self.backend, self.momentum, self.nesterov = backend, momentum, nesterov
        self.state = {name: backend.zeros(parameters.shape, dtype) for name in state_names("sgd", momentum)}

    def update(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        learning_rate: float | Array,
        members: slice | None = None,
        counter: Array | None = None,
    ) -> None:
        """See `Optimizer.update`."""
        self.backend.sgd_step(
            parameters,
            gradients,
            self._part("velocity", members) if self.momentum else None,
            learning_rate=learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
        )
