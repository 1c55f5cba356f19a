"""Encoders gamma(v): coordinates to features, after Tancik et al. (2020), section 3 and 6.

All but `none` are Fourier features [cos(2 pi B v), sin(2 pi B v)]; they differ in the rows of B alone,
frequencies in cycles per longer side of the picture:

- `basic`: B is the identity, one cycle along each axis;
- `positional`: along each axis, frequencies spaced evenly on a log scale from 1 to sigma;
- `gaussian`: every entry of B is drawn from N(0, sigma^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ._backends import Array, Backend, Lattice
from .fit_options import EncodingName

ENCODINGS: tuple[EncodingName, ...] = get_args(EncodingName)


class IdentityEncoder:
    """gamma(v) = v: the network sees the two coordinates themselves."""

    num_features = 2
    B: Array | None = None
    ensemble: tuple[int, ...] = ()

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


class MixedEncoder:
    """Encoders of several kinds, one for each member; the features of those that have fewer end in zeros.

    A weight that meets a zero in every pixel has no gradient and no effect: padded networks learn what they
    would learn without the padding.
    """

    B: Array | None = None

    def __init__(self, backend: Backend, encoders: Sequence[Encoder], dtype: str) -> None:
        self.backend, self.encoders, self.dtype = backend, encoders, dtype
        self.num_features: int = max(encoder.num_features for encoder in encoders)

    @property
    def ensemble(self) -> tuple[int, ...]:
        """(K,): each member has features of its own."""
        return (len(self.encoders),)

    def feature_dtype(self, dtype: str) -> str:
        """Some of the features may be coordinates, which keep all their bits."""
        return dtype

    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """Features (K, N, F) of coordinates (N, 2), or (K, N, 2) where members have their own."""
        xp, features = self.backend.xp, []
        for k, encoder in enumerate(self.encoders):
            own = encoder(coordinates if coordinates.ndim == 2 else coordinates[k, ...])
            padding = self.backend.zeros((own.shape[0], self.num_features - own.shape[1]), self.dtype)
            features.append(xp.concat([own, padding], axis=-1))
        return xp.stack(features)

    def members(self, members: slice) -> MixedEncoder:
        """The encoders of some of the members, padded as before."""
        part = MixedEncoder(self.backend, self.encoders[members], self.dtype)
        part.num_features = self.num_features
        return part

    def alone(self, member: int) -> Encoder:
        """The encoder of one member, without padding."""
        return self.encoders[member]


Encoder = IdentityEncoder | FourierEncoder | MixedEncoder


class GridFeatures:
    """The features of a grid's pixels, run by run, for one network: in training, evaluation and rendering.

    For Fourier features one table for the columns and one for the rows of the grid stand for all its pixels;
    memory is (height + width) m, not height width m, and there are as many sines to take.

    Parameters
    ----------
    axes : pair of arrays, shapes (width,) and (height,)
        The x of each column and the y of each row.
    """

    def __init__(
        self,
        backend: Backend,
        encoder: Encoder,
        axes: tuple[NDArray[np.float64], NDArray[np.float64]],
        dtype: str,
    ) -> None:
        self.backend, self.encoder, self.axes, self.dtype = backend, encoder, axes, dtype
        if encoder.B is not None:
            self._x_tables, self._y_tables = (self._tables(axes[i], i) for i in (0, 1))

    def __call__(self, rows: slice, out: Array | None = None) -> Array:
        """Features (n, F) of the pixels from `rows.start` to `rows.stop`, counted row by row."""
        if self.encoder.B is None:
            x, y = self.axes
            row, column = np.divmod(np.arange(rows.start, rows.stop), len(x))
            return self.backend.asarray(np.stack([x[column], y[row]], axis=-1), self.dtype)
        return self.backend.grid_fourier_features(self._x_tables, self._y_tables, rows, out=out)

    def _tables(self, positions: NDArray[np.float64], axis: int) -> tuple[Array, Array]:
        coordinates = np.zeros((len(positions), 2))
        coordinates[:, axis] = positions
        features = self.encoder(self.backend.asarray(coordinates, self.dtype))
        m = features.shape[-1] // 2
        return features[:, :m], features[:, m:]


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


def make_encoder(backend: Backend, B: NDArray[np.floating] | None, dtype: str) -> Encoder:
    """The encoder for a frequency matrix (m, 2) or (*E, m, 2), or for None, on the backend's device."""
    return IdentityEncoder() if B is None else FourierEncoder(backend, backend.asarray(B, dtype))


def join_encoders(backend: Backend, encoders: Sequence[Encoder], dtype: str) -> Encoder:
    """One encoder for K members: shared where all are alike, with an ensemble axis, or mixed."""
    Bs = [encoder.B for encoder in encoders]
    if all(B is None for B in Bs):
        return encoders[0]
    if any(B is None for B in Bs) or len({B.shape for B in Bs if B is not None}) > 1:
        return MixedEncoder(backend, encoders, dtype)
    host = [backend.to_numpy(B) for B in Bs]
    if all(np.array_equal(B, host[0]) for B in host):
        return encoders[0]
    return FourierEncoder(backend, backend.xp.stack(Bs))
