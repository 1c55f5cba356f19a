"""No encoding: the coordinates themselves."""

from __future__ import annotations

from .._backends import Array


class IdentityEncoder:
    """gamma(v) = v: the network sees the two coordinates themselves."""

    num_features = 2
    B: Array | None = None

    @property
    def ensemble(self) -> tuple[int, ...]:
        """(): members share it."""
        return ()

    def feature_dtype(self, dtype: str) -> str:
        """Coordinates keep all their bits: with 8 of them, 256 columns could not be told apart."""
        return dtype

    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """The coordinates, as they are."""
        return coordinates

    def members(self, members: slice) -> IdentityEncoder:
        """The encoder of some of the members: this one."""
        return self

    def alone(self, member: int) -> IdentityEncoder:
        """The encoder of one member: this one."""
        return self
