"""Activations `y = f(z)` and `dz = dy f'(z)`, element by element, written once for any `xp`.

A layer saves its output y if that gives the derivative; the sine needs its input z. An
activation may have more: `kinks`, the places where its slope jumps, of which gradient checks keep clear;
`initializer`, the initial weights that suit it, a name or a method `(rng, n_in, n_out, first) -> (W, b)`;
`inverse(xp, y)`, from which an output layer can start at the mean colour; and `curvature(xp, saved)`, `f''(z)`
from the saved z or y, for the second derivatives of a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from ..components import from_settings

if TYPE_CHECKING:
    from ..backends import Array

ActivationName = Literal["relu", "sine", "tanh", "sigmoid", "identity"]


class ActivationFunction(Protocol):
    """An activation: a frozen dataclass with these methods."""

    @property
    def saves_input(self) -> bool:
        """Whether `backward` gets z instead of y."""

    def forward(self, xp: Any, z: Array) -> Array:
        """Return `y = f(z)`."""

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """Return `dz = dy f'(z)`, from the saved z or y."""

    def __hash__(self) -> int:
        """Equal formulas are lowered once."""


@dataclass(frozen=True)
class Identity:
    """`f(z) = z`."""

    name: ClassVar[str] = "identity"
    saves_input: ClassVar[bool] = False

    def forward(self, xp: Any, z: Array) -> Array:
        """Return `y = z`."""
        return z

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """Return `dz = dy`."""
        return dy

    def curvature(self, xp: Any, saved: Array) -> Array:
        """Return 0."""
        return xp.zeros_like(saved)

    def inverse(self, xp: Any, y: Array) -> Array:
        """Return `z = y`."""
        return y


@dataclass(frozen=True)
class ReLU:
    """`f(z) = max(z, 0)`."""

    name: ClassVar[str] = "relu"
    kinks: ClassVar[tuple[float, ...]] = (0.0,)
    saves_input: ClassVar[bool] = False

    def forward(self, xp: Any, z: Array) -> Array:
        """Return `y = max(z, 0)`."""
        return xp.maximum(z, xp.zeros_like(z))

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """Return `dz = dy` if `y > 0`, else 0."""
        return xp.where(saved > 0, dy, xp.zeros_like(dy))

    def curvature(self, xp: Any, saved: Array) -> Array:
        """Return 0, which is right but for the kink."""
        return xp.zeros_like(saved)

    def inverse(self, xp: Any, y: Array) -> Array:
        """Return `z = y`, for a positive y."""
        return y


@dataclass(frozen=True)
class Tanh:
    """`f(z) = tanh(z)`."""

    name: ClassVar[str] = "tanh"
    initializer: ClassVar[str] = "glorot"
    saves_input: ClassVar[bool] = False

    def forward(self, xp: Any, z: Array) -> Array:
        """Return `y = tanh(z)`."""
        return xp.tanh(z)

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """Return `dz = dy (1 - y^2)`."""
        return dy * (1.0 - saved * saved)

    def curvature(self, xp: Any, saved: Array) -> Array:
        """Return `-2 y (1 - y^2)`."""
        return -2.0 * saved * (1.0 - saved * saved)

    def inverse(self, xp: Any, y: Array) -> Array:
        """Return `z = atanh(y)`."""
        return xp.atanh(y)


@dataclass(frozen=True)
class Sigmoid:
    """`f(z) = 1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2`; the second form does not overflow."""

    name: ClassVar[str] = "sigmoid"
    initializer: ClassVar[str] = "glorot"
    saves_input: ClassVar[bool] = False

    def forward(self, xp: Any, z: Array) -> Array:
        """Return `y = (1 + tanh(z / 2)) / 2`."""
        return 0.5 * (1.0 + xp.tanh(0.5 * z))

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """Return `dz = dy y (1 - y)`."""
        return dy * saved * (1.0 - saved)

    def curvature(self, xp: Any, saved: Array) -> Array:
        """Return `y (1 - y) (1 - 2 y)`."""
        return saved * (1.0 - saved) * (1.0 - 2.0 * saved)

    def inverse(self, xp: Any, y: Array) -> Array:
        """Return `z = log(y / (1 - y))`."""
        return xp.log(y / (1.0 - y))


@dataclass(frozen=True)
class Sine:
    """`f(z) = sin(omega z)`.

    Sitzmann et al., "Implicit Neural Representations with Periodic Activation Functions" (2020), section 3.
    """

    omega: float = 30.0

    name: ClassVar[str] = "sine"
    initializer: ClassVar[str] = "sine"
    saves_input: ClassVar[bool] = True

    def forward(self, xp: Any, z: Array) -> Array:
        """Return `y = sin(omega z)`."""
        return xp.sin(self.omega * z)

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """Return `dz = dy omega cos(omega z)`."""
        return dy * (self.omega * xp.cos(self.omega * saved))

    def curvature(self, xp: Any, saved: Array) -> Array:
        """Return `-omega^2 sin(omega z)`."""
        return (-self.omega * self.omega) * xp.sin(self.omega * saved)

    def inverse(self, xp: Any, y: Array) -> Array:
        """Return `z = asin(y) / omega`, the nearest to 0."""
        return xp.asin(y) / self.omega


ACTIVATIONS: dict[str, type[Any]] = {cls.name: cls for cls in (ReLU, Sine, Tanh, Sigmoid, Identity)}
"""The built-in activations by name; their fields are settings."""


def make_activation(activation: Any, /, **settings: Any) -> ActivationFunction:
    """Return the built-in activation of a name, with its fields from the settings; an object as it is."""
    named = isinstance(activation, str)
    made: ActivationFunction = from_settings(ACTIVATIONS[activation], settings) if named else activation
    return made
