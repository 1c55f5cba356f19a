"""Activations: y = f(z) and dz = dy f'(z), element by element, each formula once and on any `xp`.

Where the derivative can be written by the output y, the layer keeps y alone; the sine needs its input z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .._backends import Array


@dataclass(frozen=True)
class Identity:
    """f(z) = z."""

    name: ClassVar[str] = "identity"
    saves_input: ClassVar[bool] = False

    def forward(self, xp: Any, z: Array) -> Array:
        """y = z."""
        return z

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """dz = dy."""
        return dy


@dataclass(frozen=True)
class ReLU:
    """f(z) = max(z, 0)."""

    name: ClassVar[str] = "relu"
    saves_input: ClassVar[bool] = False

    def forward(self, xp: Any, z: Array) -> Array:
        """y = max(z, 0)."""
        return xp.maximum(z, xp.zeros_like(z))

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """dz = dy where y > 0, else 0."""
        return xp.where(saved > 0, dy, xp.zeros_like(dy))


@dataclass(frozen=True)
class Tanh:
    """f(z) = tanh z."""

    name: ClassVar[str] = "tanh"
    saves_input: ClassVar[bool] = False

    def forward(self, xp: Any, z: Array) -> Array:
        """y = tanh z."""
        return xp.tanh(z)

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """dz = dy (1 - y^2)."""
        return dy * (1.0 - saved * saved)


@dataclass(frozen=True)
class Sigmoid:
    """f(z) = 1 / (1 + exp(-z)), written as (1 + tanh(z / 2)) / 2, which overflows nowhere."""

    name: ClassVar[str] = "sigmoid"
    saves_input: ClassVar[bool] = False

    def forward(self, xp: Any, z: Array) -> Array:
        """y = (1 + tanh(z / 2)) / 2."""
        return 0.5 * (1.0 + xp.tanh(0.5 * z))

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """dz = dy y (1 - y)."""
        return dy * saved * (1.0 - saved)


@dataclass(frozen=True)
class Sine:
    """f(z) = sin(omega z), of Sitzmann et al., "Implicit Neural Representations with Periodic Activation
    Functions" (NeurIPS 2020), section 3.
    """  # noqa: D205

    omega: float = 30.0

    name: ClassVar[str] = "sine"
    saves_input: ClassVar[bool] = True

    def forward(self, xp: Any, z: Array) -> Array:
        """y = sin(omega z)."""
        return xp.sin(self.omega * z)

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """dz = dy omega cos(omega z)."""
        return dy * (self.omega * xp.cos(self.omega * saved))


ActivationFunction = Identity | ReLU | Tanh | Sigmoid | Sine


def make_activation(name: str, *, omega: float = 30.0) -> ActivationFunction:
    """Return the activation of that name; `omega` is the sine's frequency and nobody else's."""
    plain = {cls.name: cls for cls in (Identity, ReLU, Tanh, Sigmoid)}
    return Sine(omega) if name == Sine.name else plain[name]()
