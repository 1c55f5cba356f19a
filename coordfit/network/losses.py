"""Losses of the residual r = prediction - target, each formula once and on any `xp`.

Every loss is averaged over pixels and channels, and reports its own value: a run with MAE shows MAE.
With weights w, of mean 1 over the training pixels, the average is of w times the loss; 0 hides a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .._backends import Array


@dataclass(frozen=True)
class MSE:
    """Mean squared error: r^2, without the factor 1/2."""

    name: ClassVar[str] = "mse"

    def value(self, xp: Any, residual: Array) -> Array:
        """r^2."""
        return residual * residual

    def gradient(self, xp: Any, residual: Array) -> Array:
        """2 r."""
        return 2.0 * residual


@dataclass(frozen=True)
class MAE:
    """Mean absolute error: |r|."""

    name: ClassVar[str] = "mae"

    def value(self, xp: Any, residual: Array) -> Array:
        """|r|."""
        return xp.abs(residual)

    def gradient(self, xp: Any, residual: Array) -> Array:
        """sign(r), and 0 at r = 0."""
        return xp.sign(residual)


@dataclass(frozen=True)
class Huber:
    """Huber's loss: r^2 / 2 up to |r| = delta, then delta (|r| - delta / 2), whose slope goes on smoothly.

    P. J. Huber, "Robust Estimation of a Location Parameter" (1964).
    """

    delta: float = 0.1

    name: ClassVar[str] = "huber"

    def value(self, xp: Any, residual: Array) -> Array:
        """c (r - c / 2), with c as in `gradient`: r^2 / 2 inside, delta (|r| - delta / 2) outside."""
        clipped = xp.clip(residual, -self.delta, self.delta)
        return clipped * (residual - 0.5 * clipped)

    def gradient(self, xp: Any, residual: Array) -> Array:
        """c: r, held between -delta and delta."""
        return xp.clip(residual, -self.delta, self.delta)


Loss = MSE | MAE | Huber


def make_loss(name: str, *, delta: float = 0.1) -> Loss:
    """Return the loss of that name; `delta` is Huber's and nobody else's."""
    return Huber(delta) if name == Huber.name else {cls.name: cls for cls in (MSE, MAE)}[name]()
