"""Optimizers on the flat buffer: one pass over parameters, gradient and state, for one network or K.

An element-wise optimizer is a rule (`Adam`, `SGD`): a formula that the backends lower, in one primitive
(`Backend.optimizer_step`). Others, such as Muon, are classes with `of`, which makes one from the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .._backends import Array, Backend, UpdateRule


class Optimizer(Protocol):
    """Updates a flat parameter buffer (*E, P) from the workers' flat gradient buffers, which are summed."""

    state: dict[str, Array]
    """Buffers that a checkpoint must hold, by name, each of shape (*E, P)."""
    steps: int
    """Steps taken so far."""

    def update(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        learning_rate: float | Array,
        members: slice | None = None,
        counter: Array | None = None,
    ) -> None:
        """Do the arithmetic of step number `steps`, in place.

        Parameters
        ----------
        parameters : array, shape (*E, P)
            Of all members, or of those that `members` names.
        gradients : arrays of the same shape
            Summed in their order; the first may be overwritten.
        learning_rate : float, or array of shape (*E, 1) where members differ
            Of the same members.
        counter : integer array of shape (1,), optional
            The step's number on the device instead of `steps`, for steps that are recorded.
        """

    def step(self, parameters: Array, gradients: Sequence[Array], learning_rate: float | Array) -> None:
        """Count one step and do its arithmetic for all members."""


class Counted:
    """What every optimizer does in the same way: the count of its steps, and members' parts of its state."""

    steps = 0
    state: dict[str, Array]

    def step(
        self: Optimizer, parameters: Array, gradients: Sequence[Array], learning_rate: float | Array
    ) -> None:
        """Count one step and do its arithmetic for all members."""
        self.steps += 1
        self.update(parameters, gradients, learning_rate)

    def _part(self, name: str, members: slice | None) -> Array:
        return self.state[name] if members is None else self.state[name][members, ...]


class ElementwiseOptimizer(Counted):
    """An optimizer whose update is a rule for each element.

    Parameters
    ----------
    parameters : array, shape (*E, P)
    rule : UpdateRule
        Its state has the names of the buffers in `state`.
    """

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
            [self._part(name, members) for name in self.state],
            step=self.steps if counter is None else counter,
            learning_rate=learning_rate,
        )
