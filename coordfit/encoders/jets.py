"""Values with their first and second derivatives along the coordinates, carried forward through formulas.

This is forward-mode differentiation by hand: each step of a network has its rule here, and the derivatives of a
model are those rules one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..backends import Array

Pair = tuple[int, int]
"""Two coordinates j <= k of a second derivative."""
Part = Array | float
"""A derivative (N, F), or a number if it is the same everywhere."""


@dataclass(frozen=True)
class Jet:
    """Values (N, F) of a function of D coordinates, with derivatives.

    Attributes
    ----------
    value : array (N, F)
    first : tuple of D parts
        The derivative along each coordinate.
    second : mapping of pairs to parts
        Second derivatives along two coordinates; those that are asked for.
    """

    value: Array
    first: tuple[Part, ...]
    second: Mapping[Pair, Part]

    @classmethod
    def of_points(cls, xp: Any, points: Array, pairs: Iterable[Pair] = ()) -> Jet:
        """Return the coordinates (N, D) themselves, with the second derivatives to be carried along."""
        D = points.shape[-1]
        unit = xp.eye(D, dtype=points.dtype)
        return cls(points, tuple(unit[k : k + 1, :] for k in range(D)), dict.fromkeys(pairs, 0.0))

    @classmethod
    def constant(cls, value: Array, like: Jet) -> Jet:
        """Return values that do not depend on the coordinates, with the same derivatives as another jet."""
        return cls(value, (0.0,) * len(like.first), dict.fromkeys(like.second, 0.0))

    def linear(self, W: Array, b: Part = 0.0) -> Jet:
        """Return `x W + b`."""
        first = tuple(_product(part, W) for part in self.first)
        return Jet(self.value @ W + b, first, {pair: _product(part, W) for pair, part in self.second.items()})

    def chain(self, y: Array, slope: Part, curvature: Part) -> Jet:
        """Return `y = f(x)`, element by element, from f(x), f'(x) and f''(x)."""
        first = tuple(_scaled(slope, part) for part in self.first)
        second = {
            (j, k): _scaled(curvature, _scaled(self.first[j], self.first[k])) + _scaled(slope, part)
            for (j, k), part in self.second.items()
        }
        return Jet(y, first, second)

    def times(self, other: Jet) -> Jet:
        """Return the product `x y`, element by element."""
        x, y = self.value, other.value
        first = tuple(_scaled(dx, y) + _scaled(x, dy) for dx, dy in zip(self.first, other.first, strict=True))
        second = {
            (j, k): _scaled(part, y)
            + _scaled(self.first[j], other.first[k])
            + _scaled(self.first[k], other.first[j])
            + _scaled(x, other.second[j, k])
            for (j, k), part in self.second.items()
        }
        return Jet(x * y, first, second)

    def plus(self, other: Jet) -> Jet:
        """Return the sum `x + y`."""
        first = tuple(dx + dy for dx, dy in zip(self.first, other.first, strict=True))
        return Jet(
            self.value + other.value, first, {pair: d + other.second[pair] for pair, d in self.second.items()}
        )

    def scaled(self, factor: float, shift: Part = 0.0) -> Jet:
        """Return `factor x + shift`."""
        return self.chain(factor * self.value + shift, factor, 0.0)

    def column(self, k: int) -> Jet:
        """Return the k-th of the F values, (N, 1)."""

        def own(part: Part) -> Part:
            return part if isinstance(part, float) else part[:, k : k + 1]

        first = tuple(own(part) for part in self.first)
        return Jet(self.value[:, k : k + 1], first, {pair: own(part) for pair, part in self.second.items()})


def joined(xp: Any, jets: Sequence[Jet]) -> Jet:
    """Return the values of several jets side by side, (N, F_1 + F_2 + ...)."""

    def together(parts: Sequence[Part]) -> Part:
        whole = [xp.broadcast_to(xp.asarray(p), jet.value.shape) for p, jet in zip(parts, jets, strict=True)]
        return xp.concat(whole, axis=-1)

    first = tuple(together(parts) for parts in zip(*(jet.first for jet in jets), strict=True))
    second = {pair: together([jet.second[pair] for jet in jets]) for pair in jets[0].second}
    return Jet(xp.concat([jet.value for jet in jets], axis=-1), first, second)


def _is_zero(part: Part) -> bool:
    return isinstance(part, float) and part == 0.0


def _product(part: Part, W: Array) -> Part:
    return 0.0 if _is_zero(part) else part @ W


def _scaled(a: Part, b: Part) -> Part:
    return 0.0 if _is_zero(a) or _is_zero(b) else a * b
