"""Losses of the residual `r = prediction - target`, written once for any `xp`.

A reported loss is the mean over pixels and channels, with weights of mean 1 over the training pixels; a weight
of 0 hides a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from ..components import from_settings

if TYPE_CHECKING:
    from ..backends import Array

LossName = Literal["mse", "mae", "huber"]


class Loss(Protocol):
    """A loss: a frozen dataclass with these methods."""

    def value(self, xp: Any, residual: Array) -> Array:
        """Return the loss of each element."""

    def gradient(self, xp: Any, residual: Array) -> Array:
        """Return its derivative with respect to the residual."""

    def __hash__(self) -> int:
        """Equal formulas are lowered once."""


@dataclass(frozen=True)
class MSE:
    """Mean squared error: `r^2`, without the factor 1/2."""

    name: ClassVar[str] = "mse"

    def value(self, xp: Any, residual: Array) -> Array:
        """Return `r^2`."""
        return residual * residual

    def gradient(self, xp: Any, residual: Array) -> Array:
        """Return `2 r`."""
        return 2.0 * residual


@dataclass(frozen=True)
class MAE:
    """Mean absolute error: `|r|`."""

    name: ClassVar[str] = "mae"
    kinks: ClassVar[tuple[float, ...]] = (0.0,)

    def value(self, xp: Any, residual: Array) -> Array:
        """Return `|r|`."""
        return xp.abs(residual)

    def gradient(self, xp: Any, residual: Array) -> Array:
        """Return `sign(r)`, which is 0 at 0."""
        return xp.sign(residual)


@dataclass(frozen=True)
class Huber:
    """Huber's loss: `r^2 / 2` up to `|r| = delta`, then `delta (|r| - delta / 2)`, which continues its slope.

    P. J. Huber, "Robust Estimation of a Location Parameter" (1964).
    """

    delta: float = 0.1

    name: ClassVar[str] = "huber"

    @property
    def kinks(self) -> tuple[float, ...]:
        """Residuals at which the slope of the gradient jumps."""
        return (-self.delta, self.delta)

    def value(self, xp: Any, residual: Array) -> Array:
        """Return `c (r - c / 2)`, with c of `gradient`: `r^2 / 2` inside, `delta (|r| - delta / 2)` outside."""
        clipped = xp.clip(residual, -self.delta, self.delta)
        return clipped * (residual - 0.5 * clipped)

    def gradient(self, xp: Any, residual: Array) -> Array:
        """Return c: r, clipped to [-delta, delta]."""
        return xp.clip(residual, -self.delta, self.delta)


LOSSES: dict[str, type[Any]] = {cls.name: cls for cls in (MSE, MAE, Huber)}
"""The built-in losses by name; their fields are settings."""


def make_loss(loss: Any, /, **settings: Any) -> Loss:
    """Return the built-in loss of a name, with its fields from the settings; an object as it is."""
    made: Loss = from_settings(LOSSES[loss], settings) if isinstance(loss, str) else loss
    return made
