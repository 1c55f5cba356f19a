"""Adam: steps scaled by running means of the gradient and its square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import Array


@dataclass(frozen=True)
class Adam:
    """Adam: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015), algorithm 1.

    The moments are plain sums, `m <- beta1 m + g` and `v <- beta2 v + g^2`; the factors `1 - beta` of the paper
    are in the scalars, with the bias corrections. Numerator and denominator are divided by
    `r = sqrt((1 - beta2) / (1 - beta2^t))`, which saves one operation for each parameter.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    name: ClassVar[str] = "adam"
    state: ClassVar[tuple[str, ...]] = ("first_moment", "second_moment")

    def update(
        self,
        xp: Any,
        parameter: Array,
        gradient: Array,
        state: tuple[Array, ...],
        step: int | Array,
        learning_rate: float | Array,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return `p - k m / (sqrt(v) + epsilon / r)` and the moments m and v."""
        m, v = state
        m = self.beta1 * m + gradient
        v = self.beta2 * v + gradient * gradient
        root = ((1.0 - self.beta2) / (1.0 - self.beta2**step)) ** 0.5
        step_size = learning_rate * ((1.0 - self.beta1) / (1.0 - self.beta1**step) / root)
        return parameter - step_size * (m / (xp.sqrt(v) + self.epsilon / root)), (m, v)
