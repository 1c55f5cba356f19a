"""A fitted network as a function of coordinates, and its renderings at any size."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend
from ..config import FitConfig
from ..encoders.base import Encoder, OnGrid, State
from ..encoders.jets import Jet, Pair
from ..encoders.registry import encoding_of
from ..network.buffers import first_rows
from ..network.cost import cost_of_a_row, layout_for
from ..network.mlp import make_mlp
from ..signals.facts import SignalFacts
from ..signals.grid import GridAxes, SampleGrid
from .derivatives import network_jet
from .format import save_model
from .rendering import CHUNK_PIXELS, FEWEST_PIXELS, Rendered, StoredNetworks


class Model(Rendered):
    """A coordinate network: an encoder, layers, and the facts of its picture.

    The state has the encoder's arrays that are not trained, on the host: see `Encoding.draw`. The flat
    parameters (P,) may be on the host or the device, and are copied.
    """

    def __init__(
        self,
        backend: Backend,
        config: FitConfig,
        signal: SignalFacts,
        state: State,
        parameters: Array,
        metrics: dict[str, Any] | None = None,
    ) -> None:
        self.backend, self.config, self.signal = backend, config, signal
        self.metrics = metrics or {}
        encoding = encoding_of(config, signal.shape)
        flat = backend.zeros(parameters.shape, config.dtype)
        flat += backend.asarray(parameters, config.dtype)
        self.mlp = make_mlp(backend, config, layout_for(config, encoding, state, signal.channels), flat)
        self.encoder = self.mlp.give_parameters(encoding.encoder(backend, state, config.dtype))

    @property
    def layer_sizes(self) -> Sequence[int]:
        """Widths from input to output."""
        return self.mlp.layout.layer_sizes

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return self.mlp.layout.num_parameters

    def stored(self) -> StoredNetworks:
        """Return the network, with its parameters on the host."""
        return StoredNetworks(self.encoder, self.mlp, self.backend.to_numpy(self.mlp.parameters)[None], None)

    def _data(self) -> tuple[Any, ...]:
        parameters = self.backend.to_numpy(self.mlp.parameters)
        return self.config, self.signal, self.encoder.state(), parameters, self.metrics

    def predict(self, coordinates: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return values (N, C) as the network gives them, at its own coordinates (N, D)."""
        colours = np.empty((len(coordinates), self.signal.channels), self.config.dtype)
        forward, start = _Forward(self), 0
        for features, first, last in _parts_of(self, coordinates):
            stop = start + last - first
            colours[start:stop] = self.backend.to_numpy(forward(features, first, last))
            start = stop
        return colours

    def jet(self, coordinates: NDArray[np.float64], pairs: Sequence[Pair] = ()) -> Jet:
        """Return values (N, C) with derivatives, as the network gives them at its coordinates (N, D)."""
        points = Jet.of_points(self.backend.xp, self.backend.asarray(coordinates, "float64"), pairs)
        return network_jet(self.encoder, self.mlp, points)

    def predict_rows(self, grid: SampleGrid) -> Iterator[NDArray[np.floating]]:
        """Yield lines as `render_rows` does, but as the network gives them."""
        # An encoder's tables for a grid grow with lines + width, so both are divided.
        for top in range(0, grid.lines, CHUNK_PIXELS):
            axes = grid.axes(slice(top, top + CHUNK_PIXELS))
            yield from (
                self._predict_wide_lines(axes) if grid.width > CHUNK_PIXELS else self._predict_lines(axes)
            )

    def _predict_wide_lines(self, axes: GridAxes) -> Iterator[NDArray[np.floating]]:
        """Yield lines (1, width, C), each assembled from parts."""
        x, others = axes
        for top in range(len(others)):
            line = np.empty((1, len(x), self.signal.channels), self.config.dtype)
            for left in range(0, len(x), CHUNK_PIXELS):
                part = slice(left, left + CHUNK_PIXELS)
                for colours in self._predict_lines((x[part], others[top : top + 1])):
                    line[:, part] = colours
            yield line

    def _predict_lines(self, axes: GridAxes) -> Iterator[NDArray[np.floating]]:
        """Yield lines (n, width, C), with axes of at most `CHUNK_PIXELS`."""
        forward = _Forward(self)
        for features, start, stop in _parts_of_grid(self, axes):
            colours = self.backend.to_numpy(forward(features, start, stop))
            yield colours.reshape(-1, len(axes[0]), colours.shape[-1])

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a `.safetensors` file, atomically; `coordfit.load` reads it."""
        save_model(path, self)


Part = tuple[OnGrid, int, int]
"""A run of pixels: a function for their features, the first pixel, and the end."""


def _parts_of_grid(model: Model, axes: GridAxes, table: Array | None = None) -> Iterator[Part]:
    """Yield whole lines of a grid, in parts of bounded size; `table` optionally has their features."""
    features: OnGrid
    if table is None:
        with model.backend.activate():
            features = model.encoder.on_grid(axes, model.config.dtype)
    else:
        features = functools.partial(_rows_of, table)
    width, lines = len(axes[0]), len(axes[1])
    step = max(1, CHUNK_PIXELS // width)
    for top in range(0, lines, step):
        yield features, top * width, min(lines, top + step) * width


def _parts_of(model: Model, coordinates: NDArray[np.floating]) -> Iterator[Part]:
    """Yield coordinates (n, D) from the host, in parts of bounded size on the device."""
    for start in range(0, len(coordinates), CHUNK_PIXELS):
        chunk = model.backend.asarray(coordinates[start : start + CHUNK_PIXELS], model.config.dtype)
        yield functools.partial(_encode, model.encoder, chunk), 0, chunk.shape[0]


class FixedPixels:
    """Pixels at which a model is evaluated repeatedly, with coordinates or features kept on the device.

    They are at coordinates (n, D), or the signal's own, line by line. Known features (N, F) of the signal's own
    samples are used.
    """

    def __init__(
        self,
        model: Model,
        coordinates: NDArray[np.floating] | None = None,
        features: Array | None = None,
    ) -> None:
        self._model = model
        if coordinates is None:
            self._parts = list(_parts_of_grid(model, model.signal.grid.axes(), features))
        else:
            self._parts = list(_parts_of(model, coordinates))

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
        colours = self.model.backend.zeros((stop - start, self.model.signal.channels), self.model.config.dtype)
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
