"""Features of a pixel grid, run by run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from .base import Encoder


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
