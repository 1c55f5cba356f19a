"""First and second derivatives of a fitted function, by hand, in float64 whatever the network's own type.

They are carried forward from the coordinates through encoder and layers: see `encoders.jets`. Points are taken
some at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backends import Array
from ..encoders.base import Encoder
from ..encoders.jets import Jet, Pair
from ..errors import ConfigError
from ..network.activations import ActivationFunction
from ..network.mlp import MLP

if TYPE_CHECKING:
    from .rendering import Rendered

Real = NDArray[np.float64]

_POINTS_AT_ONCE = 4096
KINDS = ("gradient-norm", "laplacian")
"""What can be drawn beside the derivative along a coordinate."""


def network_jet(encoder: Encoder, mlp: MLP, points: Jet) -> Jet:
    """Return the output (N, C) of one network with its derivatives, for coordinates (N, D) with theirs.

    Raises
    ------
    ConfigError
        Second derivatives are asked for, and an activation from outside has no `curvature`.
    """
    backend, x = mlp.backend, encoder.jet(points)
    xp = backend.xp
    for layer in mlp.layers:
        f, z = layer.activation, x.linear(*(backend.asarray(array, "float64") for array in (layer.W, layer.b)))
        y = f.forward(xp, z.value)
        saved = z.value if f.saves_input else y
        x = z.chain(y, f.backward(xp, xp.ones_like(y), saved), _curvature(f, xp, saved) if z.second else 0.0)
    return x


def _curvature(activation: ActivationFunction, xp: Any, saved: Array) -> Array:
    method = getattr(activation, "curvature", None)
    if method is None:
        raise ConfigError(
            f"{activation!r} has no second derivative; give it a method `curvature(xp, saved)` for f''(z)"
        )
    return method(xp, saved)


class Derivatives:
    """Derivatives of a model's function at points, in the signal's own units or per sample."""

    def __init__(self, model: Rendered, per: str = "unit") -> None:
        if per not in ("unit", "sample"):
            raise ValueError(f"per must be unit or sample, not {per!r}")
        facts = model.signal
        self.model, self.D, self.C = model, facts.dimensions, facts.channels
        self.spread = np.broadcast_to(facts.spread, self.C)
        # The length of a network's unit along each coordinate.
        self.units = facts.units if per == "unit" else np.full(self.D, float(max(facts.shape)))

    def gradient(self, points: ArrayLike) -> Real:
        """Return the derivatives (..., C, D) along each coordinate."""
        return self._at(points, self._gradient, (self.D,))

    def hessian(self, points: ArrayLike) -> Real:
        """Return the second derivatives (..., C, D, D)."""
        return self._at(points, self._hessian, (self.D, self.D))

    def laplacian(self, points: ArrayLike) -> Real:
        """Return the sum (..., C) of second derivatives along each coordinate."""
        return self._at(points, self._laplacian, ())

    def kind(self, name: str, coordinates: Real) -> Real:
        """Return a derivative (N, C) by its kind or coordinate, at networks' coordinates (N, D)."""
        if name == "laplacian":
            return self._laplacian(coordinates)
        gradient = self._gradient(coordinates)
        if name == "gradient-norm":
            return np.asarray(np.sqrt(np.square(gradient).sum(axis=-1)))
        return gradient[..., self.model.signal.coordinate_names.index(name)]

    def _at(self, points: ArrayLike, kind: Any, more: tuple[int, ...]) -> Real:
        given = self.model.signal.checked_points(points)
        found = kind(self.model.signal.to_network(given.reshape(-1, self.D)))
        has_channels = self.model.signal.has_channels
        return np.asarray(found.reshape(*given.shape[:-1], *((self.C,) if has_channels else ()), *more))

    def _gradient(self, coordinates: Real) -> Real:
        found = np.empty((len(coordinates), self.C, self.D))
        for part, jet in self._jets(coordinates, ()):
            for k, derivative in enumerate(jet.first):
                found[part, :, k] = self._on_host(derivative) * (self.spread / self.units[k])
        return found

    def _hessian(self, coordinates: Real) -> Real:
        found = np.empty((len(coordinates), self.C, self.D, self.D))
        pairs = [*itertools.combinations_with_replacement(range(self.D), 2)]
        for part, jet in self._jets(coordinates, pairs):
            for (j, k), derivative in jet.second.items():
                scale = self.spread / (self.units[j] * self.units[k])
                found[part, :, j, k] = found[part, :, k, j] = self._on_host(derivative) * scale
        return found

    def _laplacian(self, coordinates: Real) -> Real:
        found = np.zeros((len(coordinates), self.C))
        for part, jet in self._jets(coordinates, [(k, k) for k in range(self.D)]):
            for (k, _), derivative in jet.second.items():
                found[part] += self._on_host(derivative) * (self.spread / self.units[k] ** 2)
        return found

    def _jets(self, coordinates: Real, pairs: Sequence[Pair]) -> Iterator[tuple[slice, Jet]]:
        for start in range(0, len(coordinates), _POINTS_AT_ONCE):
            part = slice(start, start + _POINTS_AT_ONCE)
            yield part, self.model.jet(coordinates[part].astype(np.float64), pairs)

    def _on_host(self, part: Any) -> Any:
        return part if isinstance(part, float) else self.model.backend.to_numpy(part)
