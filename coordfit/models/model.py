"""A fitted network as a function of coordinates, and its renderings at any size."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._backends import Array, Backend
from ..config import FitConfig
from ..encoders.base import Encoder, OnGrid, State
from ..encoders.registry import encoding_of
from ..images.grid import PixelGrid
from ..network.buffers import first_rows
from ..network.cost import cost_of_a_row, layout_for
from ..network.mlp import make_mlp
from .format import save_model
from .rendering import CHUNK_PIXELS, FEWEST_PIXELS, PictureFacts, Rendered, as_coordinates


class Model(Rendered):
    """A coordinate network: an encoder, layers, and the facts of its picture.

    The state has the encoder's arrays that are not trained, on the host: see `Encoding.draw`. The flat
    parameters (P,) may be on the host or the device, and are copied.
    """

    def __init__(
        self,
        backend: Backend,
        config: FitConfig,
        picture: PictureFacts,
        state: State,
        parameters: Array,
        metrics: dict[str, Any] | None = None,
    ) -> None:
        self.backend, self.config, self.picture = backend, config, picture
        self.metrics = metrics or {}
        encoding = encoding_of(config, picture.size)
        flat = backend.zeros(parameters.shape, config.dtype)
        flat += backend.asarray(parameters, config.dtype)
        self.mlp = make_mlp(backend, config, layout_for(config, encoding, state, picture.channels), flat)
        self.encoder = self.mlp.give_parameters(encoding.encoder(backend, state, config.dtype))

    @property
    def layer_sizes(self) -> Sequence[int]:
        """Widths from input to output."""
        return self.mlp.layout.layer_sizes

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return self.mlp.layout.num_parameters

    def _data(self) -> tuple[Any, ...]:
        parameters = self.backend.to_numpy(self.mlp.parameters)
        return self.config, self.picture, self.encoder.state(), parameters, self.metrics

    def __call__(self, coordinates: ArrayLike) -> NDArray[np.floating]:
        """Return unclipped colours (..., C) at coordinates (..., 2): x, y in units of the longer side."""
        points = as_coordinates(coordinates)
        flat = points.reshape(-1, 2)
        colours = np.empty((len(flat), self.picture.channels), self.config.dtype)
        forward, start = _Forward(self), 0
        for features, first, last in _parts_of(self, flat):
            stop = start + last - first
            colours[start:stop] = self.backend.to_numpy(forward(features, first, last))
            start = stop
        return colours.reshape(*points.shape[:-1], self.picture.channels)

    def predict_rows(self, grid: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Yield rows as `render_rows` does, but unclipped."""
        # An encoder's tables for a grid grow with height + width, so long sides are divided.
        for top in range(0, grid.height, CHUNK_PIXELS):
            band = grid.cropped(0, top, grid.width, min(CHUNK_PIXELS, grid.height - top))
            yield from self._predict_wide_rows(band) if band.width > CHUNK_PIXELS else self._predict_band(band)

    def _predict_wide_rows(self, band: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Yield rows (1, width, C) of a grid, each assembled from windows."""
        for top in range(band.height):
            row = np.empty((1, band.width, self.picture.channels), self.config.dtype)
            for left in range(0, band.width, CHUNK_PIXELS):
                window = band.cropped(left, top, min(CHUNK_PIXELS, band.width - left), 1)
                for colours in self._predict_band(window):
                    row[:, left : left + window.width] = colours
            yield row

    def _predict_band(self, band: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Yield rows (n, width, C) of a grid with sides of at most `CHUNK_PIXELS`."""
        forward = _Forward(self)
        for features, start, stop in _parts_of_grid(self, band):
            colours = self.backend.to_numpy(forward(features, start, stop))
            yield colours.reshape(-1, band.width, colours.shape[-1])

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a `.safetensors` file, atomically; `coordfit.load` reads it."""
        save_model(path, self)


Part = tuple[OnGrid, int, int]
"""A run of pixels: a function for their features, the first pixel, and the end."""


def _parts_of_grid(model: Model, band: PixelGrid, table: Array | None = None) -> Iterator[Part]:
    """Yield whole rows of a grid, in parts of bounded size; `table` optionally has their features."""
    features: OnGrid
    if table is None:
        with model.backend.activate():
            features = model.encoder.on_grid(band.axes(), model.config.dtype)
    else:
        features = functools.partial(_rows_of, table)
    step = max(1, CHUNK_PIXELS // band.width)
    for top in range(0, band.height, step):
        yield features, top * band.width, min(band.height, top + step) * band.width


def _parts_of(model: Model, coordinates: NDArray[np.floating]) -> Iterator[Part]:
    """Yield coordinates (n, 2) from the host, in parts of bounded size on the device."""
    for start in range(0, len(coordinates), CHUNK_PIXELS):
        chunk = model.backend.asarray(coordinates[start : start + CHUNK_PIXELS], model.config.dtype)
        yield functools.partial(_encode, model.encoder, chunk), 0, chunk.shape[0]


class FixedPixels:
    """Pixels at which a model is evaluated repeatedly, with coordinates or features kept on the device.

    They are at coordinates (n, 2), or the picture's own, row by row. Known features (H W, F) of the picture's
    own pixels are used.
    """

    def __init__(
        self,
        model: Model,
        coordinates: NDArray[np.floating] | None = None,
        features: Array | None = None,
    ) -> None:
        grid = model.picture.grid
        self._model = model
        self._parts = list(
            _parts_of_grid(model, grid, features) if coordinates is None else _parts_of(model, coordinates)
        )

    def colours(self) -> Iterator[Array]:
        """Yield unclipped colours (n, C) on the device, some pixels at a time, without waiting for them."""
        forward = _Forward(self._model)
        for part in self._parts:
            yield forward(*part)


class _Forward:
    """Evaluates a model over runs of pixels, in the backend's blocks and workers."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.rows, self.most_rows = 0, CHUNK_PIXELS
        self.workers: list[_ForwardWorker] = []

    def __call__(self, features: OnGrid, start: int, stop: int) -> Array:
        """Return unclipped colours (N, C), on the device, of the pixels from `start` to `stop`."""
        colours = self.model.backend.zeros((stop - start, self.model.picture.channels), self.model.config.dtype)
        done = 0
        while done < stop - start:
            rows = min(self.most_rows, stop - start - done)
            try:
                self._run(features, start + done, colours[done : done + rows, :])
            except MemoryError:
                if rows <= FEWEST_PIXELS:
                    raise
                # From now on fewer pixels at a time; the picture stays the same.
                self.rows, self.most_rows, self.workers = 0, rows // 2, []
            else:
                done += rows
        return colours

    def _run(self, features: OnGrid, start: int, colours: Array) -> None:
        """Fill `colours` (n, C) with those of the n pixels from `start` on."""
        backend = self.model.backend
        if colours.shape[0] != self.rows:
            self._partition(colours.shape[0])
        with backend.activate():
            backend.parameters_changed(self.model.mlp.parameters)
            tasks = [functools.partial(worker.run, features, start, colours) for worker in self.workers]
            backend.run_workers(tasks)

    def _partition(self, rows: int) -> None:
        self.rows, self.workers = rows, []  # frees the memory of the old workers first
        mlp = self.model.mlp
        cost = cost_of_a_row(mlp.layout.layer_sizes, mlp.dtype, forward_alone=True)
        partitions = self.model.backend.partition(rows, 1, *cost)
        self.workers = [_ForwardWorker(self.model, partition.blocks) for partition in partitions]


class _ForwardWorker:
    """One worker's part of a run of pixels."""

    def __init__(self, model: Model, blocks: list[slice]) -> None:
        self.model, self.blocks = model, blocks
        rows = max(block.stop - block.start for block in blocks)
        self.mlp = model.mlp.replica(rows)
        self.buffer = model.encoder.buffer(model.backend.scratch, (), rows, model.config.dtype)

    def run(self, features: OnGrid, start: int, colours: Array) -> None:
        """Fill this worker's rows of `colours`."""
        for rows in self.blocks:
            pixels = slice(start + rows.start, start + rows.stop)
            x = features(pixels, first_rows(self.buffer, rows.stop - rows.start))
            colours[rows, :] = self.mlp.forward(x)


def _rows_of(table: Array, rows: slice, out: Array | None) -> Array:
    return table[rows, :]


def _encode(encoder: Encoder, coordinates: Array, rows: slice, out: Array | None) -> Array:
    return encoder(coordinates[rows, :], out=out)
