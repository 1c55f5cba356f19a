"""Encoders gamma(v): coordinates to features, after Tancik et al. (2020), section 3 and 6.

All but `none` are Fourier features [cos(2 pi B v), sin(2 pi B v)]; they differ in the rows of B alone,
frequencies in cycles per longer side of the picture:

- `basic`: B is the identity, one cycle along each axis;
- `positional`: along each axis, frequencies spaced evenly on a log scale from 1 to sigma;
- `gaussian`: every entry of B is drawn from N(0, sigma^2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend, Lattice


class FourierEncoder:
    """gamma(v) = [cos(2 pi B v), sin(2 pi B v)].

    Parameters
    ----------
    B : array, shape (m, 2) shared by the members, or (*E, m, 2)
        Frequencies in cycles per longer side of the picture; columns for x and y.
    """

    def __init__(self, backend: Backend, B: Array) -> None:
        self.backend, self.B = backend, B
        self.num_features: int = 2 * B.shape[-2]

    @property
    def ensemble(self) -> tuple[int, ...]:
        """(K,) where members have frequencies of their own, () where they share them."""
        return tuple(self.B.shape[:-2])

    def feature_dtype(self, dtype: str) -> str:
        """In which dtype features are kept, for a network of `dtype`: all lie between -1 and 1."""
        return self.backend.stored_dtype(dtype)

    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """Features (N, 2 m), or (*E, N, 2 m) where B or the coordinates differ by member."""
        return self.backend.fourier_features(coordinates, self.B, out=out)

    def of_pixels(self, index: Array, lattice: Lattice, dtype: str, out: Array | None = None) -> Array:
        """The same for pixels of a lattice by number, index (N,) or (*E, N)."""
        return self.backend.pixel_fourier_features(index, lattice, self.B, dtype=dtype, out=out)

    def members(self, members: slice) -> FourierEncoder:
        """The encoder of some of the members; itself where they share it."""
        return self if self.B.ndim == 2 else FourierEncoder(self.backend, self.B[members, ...])

    def alone(self, member: int) -> FourierEncoder:
        """The encoder of one member; itself where they share it."""
        return self if self.B.ndim == 2 else FourierEncoder(self.backend, self.B[member, ...])


def frequency_matrix(
    encoding: str, num_frequencies: int, sigma: float, rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """B of shape (m, 2) on the host, or None for the encoding `none`.

    Parameters
    ----------
    encoding : {"none", "basic", "positional", "gaussian"}
    num_frequencies : int
        m for `gaussian`; `positional` takes m // 2 (at least 1) along each axis; `basic` has 2 always.
    sigma : float
        Standard deviation of the Gaussian frequencies, or the highest positional one; cycles per longer side.
    """
    if encoding == "none":
        return None
    if encoding == "basic":
        return np.eye(2)
    if encoding == "positional":
        along_axis = np.geomspace(1.0, sigma, max(1, num_frequencies // 2))
        return np.concatenate([np.outer(along_axis, axis) for axis in np.eye(2)])
    return rng.normal(0.0, sigma, (num_frequencies, 2))
