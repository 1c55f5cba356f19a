"""Encoders of several kinds in one batch of networks."""

from __future__ import annotations

from collections.abc import Sequence

from ..backends import Array, Backend
from .base import Encoder


class MixedEncoder(Encoder):
    """Encoders of several kinds, one for each member; fewer features are padded with zeros.

    A weight of a feature that is always zero has no gradient and no effect, so padded networks learn as without
    padding. Some features may be coordinates, which keep their precision.
    """

    def __init__(self, backend: Backend, encoders: Sequence[Encoder], dtype: str) -> None:
        super().__init__(backend)
        self.encoders, self.dtype = encoders, dtype
        self.num_features = max(encoder.num_features for encoder in encoders)

    @property
    def ensemble(self) -> tuple[int, ...]:
        """(K,): each member has its own features."""
        return (len(self.encoders),)

    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """Return features (K, N, F) of coordinates (N, 2) or (K, N, 2)."""
        xp, features = self.backend.xp, []
        for k, encoder in enumerate(self.encoders):
            own = encoder(coordinates if coordinates.ndim == 2 else coordinates[k, ...])
            padding = self.backend.zeros((own.shape[0], self.num_features - own.shape[1]), self.dtype)
            features.append(xp.concat([own, padding], axis=-1))
        return xp.stack(features)

    def members(self, members: slice) -> MixedEncoder:
        """Return the encoders of some of the members, with the same padding."""
        part = MixedEncoder(self.backend, self.encoders[members], self.dtype)
        part.num_features = self.num_features
        return part

    def alone(self, member: int) -> Encoder:
        """Return the encoder of one member, without padding."""
        return self.encoders[member]
