"""Fourier features `[cos(2 pi B v), sin(2 pi B v)]`, from Tancik et al. (2020), sections 3 and 6.

The encodings differ only in the rows of B, frequencies in cycles per longer side of the picture:

- `basic`: B is the identity, one cycle along each axis;
- `positional`: along each axis, frequencies at even distances on a log scale from 1 to sigma;
- `gaussian`: every entry of B is drawn from N(0, sigma^2).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend, Lattice
from ..config import FitConfig
from ..errors import ConfigError
from ..signals.grid import GridAxes
from .base import Encoder, Encoding, OnGrid, State
from .jets import Jet, joined

_MOST_FREQUENCIES = 2**16


class FourierEncoding(Encoding):
    """Fourier features; a subclass draws their frequencies B, which are stored with the model."""

    state_names = ("B",)

    @abstractmethod
    def frequencies(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return B (m, D), with a column for each coordinate: x and y of a picture."""

    def draw(self, rng: np.random.Generator, dtype: str) -> dict[str, NDArray[Any]]:
        """Draw B."""
        return {"B": self.frequencies(rng).astype(dtype)}

    def fault_of(self, state: State, dtype: str) -> str:
        """Return the fault if B is not (m, D) of `dtype`."""
        B, D = state["B"], self.dimensions
        if B.ndim != 2 or B.shape[1] != D or not 1 <= len(B) <= _MOST_FREQUENCIES or B.dtype != dtype:
            return f"its frequencies have type {B.dtype} and shape {B.shape}, not (m, {D})"
        return ""

    def num_features(self, state: State) -> int:
        """Return 2 m."""
        return 2 * len(state["B"])

    def encoder(self, backend: Backend, state: State, dtype: str) -> FourierEncoder:
        """Return the encoder on a backend."""
        return FourierEncoder(backend, backend.asarray(state["B"], dtype))

    @property
    def feature_groups(self) -> int:
        """2: the cosines, then the sines."""
        return 2

    def joined_states(self, states: Sequence[State]) -> State:
        """Return the frequencies that all share, or all frequencies, one behind the other."""
        Bs = [state["B"] for state in states]
        return {"B": Bs[0] if _are_equal(Bs) else np.concatenate(Bs)}


@dataclass(frozen=True)
class Basic(FourierEncoding):
    """One cycle along each axis."""

    dimensions: int = 2
    name = "basic"

    def frequencies(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the identity."""
        return np.eye(self.dimensions)


@dataclass(frozen=True)
class _OfSigma(FourierEncoding):
    """Fourier features with a number of frequencies, and sigma in cycles per longer side."""

    num_frequencies: int
    sigma: float | tuple[float, ...]
    """One for all axes, or one for each coordinate."""
    dimensions: int = 2

    has_sigma = True

    def __post_init__(self) -> None:
        if isinstance(self.sigma, tuple) and len(self.sigma) != self.dimensions:
            raise ConfigError(
                f"sigma has {len(self.sigma)} numbers, and points have {self.dimensions} coordinates; give one "
                "for each, or one for all"
            )


class Positional(_OfSigma):
    """`num_frequencies // D` frequencies (at least 1) along each axis, from 1 to sigma on a log scale."""

    name = "positional"
    sigma_times = 3.0

    def frequencies(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the frequencies along x, then those along y and further axes."""
        D = self.dimensions
        sigmas, count = np.broadcast_to(self.sigma, D), max(1, self.num_frequencies // D)
        along = [np.geomspace(1.0, sigma, count) for sigma in sigmas]
        return np.concatenate([np.outer(f, axis) for f, axis in zip(along, np.eye(D), strict=True)])


class Gaussian(_OfSigma):
    """Every entry of B is drawn from N(0, sigma^2), with the sigma of its coordinate."""

    name = "gaussian"

    def frequencies(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw B."""
        return rng.normal(0.0, self.sigma, (self.num_frequencies, self.dimensions))

    @classmethod
    def settings_of_mean(cls, config: FitConfig, count: int) -> dict[str, Any]:
        """Return settings for the frequencies of `count` encoders, since each draws its own."""
        return {"num_frequencies": count * config.num_frequencies}


class FourierEncoder(Encoder):
    """The map `gamma(v) = [cos(2 pi B v), sin(2 pi B v)]`.

    Parameters
    ----------
    B : array, shape (m, D) shared by the members, or `(*E, m, D)`
        Frequencies in cycles per longest side of the signal, on the device.
    """

    def __init__(self, backend: Backend, B: Array) -> None:
        super().__init__(backend)
        self.B, self.num_features = B, 2 * B.shape[-2]

    @property
    def ensemble(self) -> tuple[int, ...]:
        """(K,) if members have their own frequencies, () if they share them."""
        return tuple(self.B.shape[:-2])

    def feature_dtype(self, dtype: str) -> str:
        """Return the type of stored hidden units, since features lie between -1 and 1."""
        return self.backend.stored_dtype(dtype)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return B on the host."""
        return {"B": self.backend.to_numpy(self.B)}

    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """Return features (N, 2 m), or `(*E, N, 2 m)` if B or the coordinates differ by member."""
        return self.backend.fourier_features(coordinates, self.B, out=out)

    def of_pixels(self, index: Array, lattice: Lattice, dtype: str, out: Array | None = None) -> Array:
        """Return the features of pixels of a lattice by number, for index (N,) or `(*E, N)`."""
        return self.backend.pixel_fourier_features(index, lattice, self.B, dtype=dtype, out=out)

    def on_grid(self, axes: GridAxes, dtype: str) -> OnGrid:
        """Return a function for the features of runs of a grid's points, from tables for columns and lines.

        They take `(lines + width) m` numbers and sines, and not `lines width m`.
        """
        along, lines = (np.zeros((len(part), self.B.shape[-1])) for part in axes)
        along[:, 0], lines[:, 1:] = axes
        x_table, line_table = (self(self.backend.asarray(part, dtype)) for part in (along, lines))

        def features(rows: slice, out: Array | None = None) -> Array:
            return self.backend.grid_fourier_features(x_table, line_table, rows, out=out)

        return features

    def jet(self, points: Jet) -> Jet:
        """Return features with their derivatives: of `cos p`, with `p = 2 pi B v`, they are `-sin p p'`."""
        xp = self.backend.xp
        cycles = points.linear(xp.matrix_transpose(self.backend.asarray(self.B, "float64")))
        phase = cycles.scaled(2.0 * np.pi, -2.0 * np.pi * xp.round(cycles.value))
        cos, sin = xp.cos(phase.value), xp.sin(phase.value)
        return joined(xp, [phase.chain(cos, -sin, -cos), phase.chain(sin, cos, -sin)])

    def members(self, members: slice) -> FourierEncoder:
        """Return the encoder of some of the members; itself if they share it."""
        return self if self.B.ndim == 2 else FourierEncoder(self.backend, self.B[members, ...])

    def alone(self, member: int) -> FourierEncoder:
        """Return the encoder of one member; itself if they share it."""
        return self if self.B.ndim == 2 else FourierEncoder(self.backend, self.B[member, ...])

    def joined(self, others: Sequence[Encoder]) -> Encoder | None:
        """Return one encoder for all: this one if they are alike, or one with an ensemble axis."""
        if not all(isinstance(other, FourierEncoder) for other in others):
            return None
        Bs = [encoder.state()["B"] for encoder in (self, *others)]
        if len({B.shape for B in Bs}) > 1:
            return None
        return self if _are_equal(Bs) else FourierEncoder(self.backend, self.backend.asarray(np.stack(Bs)))


def _are_equal(Bs: Sequence[NDArray[Any]]) -> bool:
    return all(np.array_equal(B, Bs[0]) for B in Bs)
