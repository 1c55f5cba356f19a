"""What training asks of a signal, be it a picture, an array with any number of axes, or scattered points."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .facts import Frame
from .grid import SampleGrid


class Signal:
    """Values in [0, 1] at samples, which are the points of a grid unless a subclass has others."""

    name: str
    notes: tuple[str, ...]
    """A short sentence for each change to the source."""
    bit_depth: int
    frame: Frame | None = None
    known: NDArray[np.bool_] | None = None
    """The samples (*samples) that training may see; None for all."""
    unknown: NDArray[np.bool_] | None = None
    """The samples (*samples) without a value; None if there are none."""
    is_picture: ClassVar[bool] = False
    """Whether it can be drawn, enlarged and compared with the files of other codecs."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the samples along each axis of the signal's grid, in the order of arrays."""
        raise NotImplementedError

    @property
    def samples(self) -> tuple[int, ...]:
        """Return the shape of masks and weights: that of the grid, or (N,) of scattered points."""
        return self.shape

    @property
    def channels(self) -> int:
        """Return C."""
        raise NotImplementedError

    @property
    def pixels(self) -> NDArray[np.float32]:
        """Return the values (*samples, C) in [0, 1]."""
        raise NotImplementedError

    @property
    def colours(self) -> Any:
        """Return the values; of a large picture only those that are read become float32."""
        return self.pixels

    def shown(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the picture (H, W, C) that stands for values (*shape, C) in [0, 1]; a picture is its own."""
        return values

    @property
    def values_on_grid(self) -> NDArray[np.floating]:
        """Return the values (*shape, C) in [0, 1]; those of scattered points are means of cells."""
        return self.pixels

    @property
    def in_own_units(self) -> NDArray[np.floating]:
        """Return the values as they were given, in floating point; those of a picture are in [0, 1]."""
        return self.pixels

    @property
    def digest(self) -> str:
        """Return the SHA-256 of all that training sees, in hexadecimal."""
        raise NotImplementedError

    @property
    def grid(self) -> SampleGrid:
        """Return the grid of the samples, or that of a rendering."""
        return SampleGrid.of(*self.shape)

    @property
    def coordinates(self) -> NDArray[np.float64] | None:
        """Return the coordinates (N, D) of scattered points; None if the samples are those of `grid`."""
        return None

    def coordinates_of(self, samples: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the coordinates (n, D) of samples (n,) by number."""
        points = self.coordinates
        return self.grid.coordinates(samples) if points is None else points[samples]

    @property
    def num_values(self) -> int:
        """Return the number of values that a file of the signal holds."""
        raise NotImplementedError

    @property
    def size_facts(self) -> dict[str, Any]:
        """Return the size for the metrics of a fit."""
        return {"shape": list(self.samples)}

    def own_figures(self, psnr: float | None) -> dict[str, float | None]:
        """Return an error that is told by its PSNR in the signal's own units; empty for a picture."""
        return {}

    def other_bits_per_pixel(self, psnr: float | None) -> dict[str, float | None]:
        """Return the bits per sample of other files: plain ones, and for a picture those of other codecs."""
        raise NotImplementedError

    @property
    def extent(self) -> str:
        """Return the size in words, the last axis first: 768x512 of a picture."""
        return "x".join(str(side) for side in self.samples[::-1])
