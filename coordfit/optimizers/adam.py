"""Adam: steps scaled by running means of the gradient and its square. Kingma and Ba (2015)."""

from __future__ import annotations

from collections.abc import Sequence

from .._backends import Array, Backend
from .base import Counted, state_names


class Adam(Counted):
    """Adam: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015), algorithm 1."""

    def __init__(
        self, backend: Backend, parameters: Array, *, dtype: str, beta1: float, beta2: float, epsilon: float
    ) -> None:
        self.backend = backend
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.state = {name: backend.zeros(parameters.shape, dtype) for name in state_names("adam")}

    def update(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        learning_rate: float | Array,
        members: slice | None = None,
        counter: Array | None = None,
    ) -> None:
        """See `Optimizer.update`."""
        self.backend.adam_step(
            parameters,
            gradients,
            self._part("first_moment", members),
            self._part("second_moment", members),
            step=self.steps if counter is None else counter,
            learning_rate=learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
        )
