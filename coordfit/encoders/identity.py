"""No encoding: the coordinates themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..backends import Array, Backend
from ..config import FitConfig
from .base import Encoder, Encoding, State
from .jets import Jet


@dataclass(frozen=True)
class NoEncoding(Encoding):
    """No encoding: `gamma(v) = v`."""

    name = "none"
    dimensions: int = 2
    gives_coordinates = True

    @classmethod
    def title(cls, config: FitConfig) -> str:
        """Return the encoding in words."""
        return "no encoding"

    def num_features(self, state: State) -> int:
        """Return D."""
        return self.dimensions

    def encoder(self, backend: Backend, state: State, dtype: str) -> IdentityEncoder:
        """Return the encoder on a backend."""
        return IdentityEncoder(backend, self.dimensions)


class IdentityEncoder(Encoder):
    """The identity `gamma(v) = v`; coordinates keep their precision, even if features are stored in 16 bits."""

    is_cacheable = False

    def __init__(self, backend: Backend, dimensions: int = 2) -> None:
        super().__init__(backend)
        self.num_features = dimensions

    def buffer(
        self,
        scratch: Callable[[tuple[int, ...], str], Array | None],
        ensemble: tuple[int, ...],
        rows: int,
        dtype: str,
    ) -> None:
        """Return None, as the features are the coordinates."""

    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """Return the coordinates."""
        return coordinates

    def jet(self, points: Jet) -> Jet:
        """Return the coordinates."""
        return points
