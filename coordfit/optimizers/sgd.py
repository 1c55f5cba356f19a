"""Stochastic gradient descent with momentum, plain or Nesterov's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import Array


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, optionally with momentum and Nesterov's variant."""

    momentum: float = 0.0
    nesterov: bool = False

    name: ClassVar[str] = "sgd"

    @property
    def state(self) -> tuple[str, ...]:
        """The velocity, if there is momentum."""
        return ("velocity",) if self.momentum else ()

    def update(
        self,
        xp: Any,
        parameter: Array,
        gradient: Array,
        state: tuple[Array, ...],
        step: int | Array,
        learning_rate: float | Array,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return `p - learning_rate v`, or with Nesterov `p - learning_rate (g + momentum v)`, and v."""
        if not state:
            return parameter - learning_rate * gradient, ()
        velocity = self.momentum * state[0] + gradient
        direction = gradient + self.momentum * velocity if self.nesterov else velocity
        return parameter - learning_rate * direction, (velocity,)
