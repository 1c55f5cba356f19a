"""What an encoder is."""

from __future__ import annotations

from typing import Protocol

from .._backends import Array


class Encoder(Protocol):
    """gamma(v): coordinates to features, for one network or K of them."""

    num_features: int
    B: Array | None
    """Frequencies (m, 2) or (*E, m, 2); None where features are not those of one matrix."""

    @property
    def ensemble(self) -> tuple[int, ...]:
        """(K,) where members have features of their own, () where they share them."""
        ...

    def feature_dtype(self, dtype: str) -> str:
        """Return the type in which features are kept, for a network of `dtype`."""
        ...

    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """Return features (N, F) of coordinates (N, 2), or (*E, N, F) where members differ."""
        ...

    def members(self, members: slice) -> Encoder:
        """Return the encoder of some of the members."""
        ...

    def alone(self, member: int) -> Encoder:
        """Return the encoder of one member."""
        ...
