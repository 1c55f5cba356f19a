"""Optimizers on the flat buffer: one pass over parameters, gradient and state, for one network or K.

An element-wise optimizer is a rule (`Adam`, `SGD`): a formula that the backends lower, in one primitive
(`Backend.optimizer_step`). Others, such as Muon, are classes with `of`, which makes one from the settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..backends import Array, Backend, UpdateRule


class Optimizer(ABC):
    """Updates a flat parameter buffer (*E, P) from the workers' flat gradient buffers."""

    state: dict[str, Array]
    """Buffers of a checkpoint by name, each of shape (*E, P)."""
    steps = 0
    """Steps taken so far."""

    @abstractmethod
    def update(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        learning_rate: float | Array,
        members: slice | None = None,
        counter: Array | None = None,
    ) -> None:
        """Do the arithmetic of step number `steps`, in place.

        Parameters and gradients (*E, P) are those of all members, or of `members`; gradients are summed in
        their order, and the first may be overwritten. The learning rate is a number, or an array (*E, 1).
        Recorded steps have their number in the integer array `counter` (1,).
        """

    def step(self, parameters: Array, gradients: Sequence[Array], learning_rate: float | Array) -> None:
        """Count one step and do its arithmetic for all members."""
        self.steps += 1
        self.update(parameters, gradients, learning_rate)

    def _state_of(self, members: slice | None) -> list[Array]:
        return [state if members is None else state[members, ...] for state in self.state.values()]


class ElementwiseOptimizer(Optimizer):
    """An optimizer with a rule for each element, which names the buffers of its state."""

    def __init__(self, backend: Backend, parameters: Array, rule: UpdateRule, *, dtype: str) -> None:
        self.backend, self.rule = backend, rule
        self.state = {name: backend.zeros(parameters.shape, dtype) for name in rule.state}

    def update(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        learning_rate: float | Array,
        members: slice | None = None,
        counter: Array | None = None,
    ) -> None:
        """See `Optimizer.update`."""
        self.backend.optimizer_step(
            self.rule,
            parameters,
            gradients,
            self._state_of(members),
            step=self.steps if counter is None else counter,
            learning_rate=learning_rate,
        )
