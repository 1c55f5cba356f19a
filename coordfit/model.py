"""A fitted network as a function of coordinates, and its renderings at any size."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import memory
from ._backends import Array, Backend, DeviceUnavailableError, get_backend
from .activations import make_activation
from .config import FitConfig
from .encoders import Encoder, GridFeatures, make_encoder
from .files import escaped
from .mlp import MLP, first_rows
from .pixel_grid import PixelGrid
from .training_step import cost_of_a_row, feature_buffer

# Pixels that a rendering computes at a time; memory is bounded by this and not by the picture.
CHUNK_PIXELS = 65_536
# Where memory is short, so many at a time and no fewer.
FEWEST_PIXELS = 256


@dataclass(frozen=True)
class PictureFacts:
    """What a model remembers of the picture that it was fitted to."""

    height: int
    width: int
    channels: int
    bit_depth: int = 8
    name: str = "array"

    @property
    def grid(self) -> PixelGrid:
        """The picture's own pixels."""
        return PixelGrid.of_picture(self.height, self.width)


class Rendered:
    """What every model does alike: pictures of any size from rows that it predicts, and copies of itself.

    A copy computes on the same backend. A pickle holds data alone, and is read onto a backend of the same kind,
    or onto the CPU where there is none.
    """

    backend: Backend
    config: FitConfig
    picture: PictureFacts

    @property
    def num_parameters(self) -> int:
        """Trainable numbers."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The picture and the encoding in one line, for people."""
        config, own = self.config, self.picture
        encoding = {"none": "no encoding", "basic": "basic encoding"}.get(
            config.encoding, f"{config.encoding} encoding, sigma {config.resolved_sigma:g}"
        )
        return f"{own.name}, {own.width}x{own.height}: {encoding}"

    def __repr__(self) -> str:
        name, where = type(self).__name__, self.backend.device
        return f"<{name} of {escaped(self.title)}; {self.num_parameters} parameters on {where}>"

    def _data(self) -> tuple[Any, ...]:
        """What the model is made of, on the host: the arguments of its class after the backend."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        backend = self.backend
        device = backend.name if backend.device == "cpu" else backend.device
        threads = getattr(backend, "threads", None)
        settings = {"fused": backend.fused, "precision": backend.precision, "threads": threads}
        return _unpickled, (type(self), device, settings, self._data())

    def __copy__(self) -> Self:
        kind: Callable[..., Self] = type(self)
        return kind(self.backend, *self._data())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        kind: Callable[..., Self] = type(self)
        return kind(self.backend, *copy.deepcopy(self._data(), memo))

    def render(
        self,
        height: int | None = None,
        width: int | None = None,
        *,
        crop: tuple[int, int, int, int] | None = None,
    ) -> NDArray[np.floating]:
        """The picture (height, width, C) in [0, 1] at any size; the fitted picture's own by default.

        Parameters
        ----------
        height, width : int, optional
            In pixels. With one of them alone, the other follows the picture's shape.
        crop : (left, top, width, height), optional
            In pixels of that rendering; only these are computed.
        """
        grid = self.grid(height, width, crop=crop)
        shape = (grid.height, grid.width, self.picture.channels)
        memory.check(memory.need_of_rendering(*shape, self.config.dtype), self.backend, "this rendering")
        rendering = np.empty(shape, self.config.dtype)
        row = 0
        for rows in self.render_rows(grid):
            rendering[row : row + len(rows)] = rows
            row += len(rows)
        return rendering

    def grid(
        self,
        height: int | None = None,
        width: int | None = None,
        *,
        crop: tuple[int, int, int, int] | None = None,
    ) -> PixelGrid:
        """The pixels that `render` computes for the same arguments; ValueError where they make no sense."""
        return rendering_grid(self.picture, height, width, crop=crop)

    def render_rows(self, grid: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Whole rows (n, width, C) in [0, 1] of a grid from the top, a bounded number at a time."""
        for colours in self.predict_rows(grid):
            yield np.clip(colours, 0.0, 1.0, out=colours)

    def predict_rows(self, grid: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """As `render_rows`, but as the network gives them, unclipped."""
        raise NotImplementedError


def _unpickled(
    kind: Callable[..., Rendered], device: str, settings: dict[str, Any], data: tuple[Any, ...]
) -> Rendered:
    """Make a model from its data."""
    try:
        backend = get_backend(device, **settings)
    except (DeviceUnavailableError, ValueError):  # another machine's device, or a backend of the user's own
        backend = get_backend("cpu")
    return kind(backend, *data)


def as_coordinates(coordinates: ArrayLike) -> NDArray[Any]:
    """Coordinates (..., 2) on the host as an array of numbers; ValueError where they are none."""
    array = np.asarray(coordinates)
    if array.dtype.kind not in "iuf" or array.ndim < 1 or array.shape[-1] != 2:
        raise ValueError(f"coordinates must be numbers of shape (..., 2), not {array.dtype} {array.shape}")
    return array


class Model(Rendered):
    """A coordinate network: the encoder's frequencies, the layers, and the picture's facts.

    Parameters
    ----------
    B : array, shape (m, 2), or None
        Frequencies of the encoder on the host.
    parameters : array, shape (P,)
        In the order of `ParameterLayout`, on the host or the device. Copied.
    metrics : dict, optional
        The figures of the fit that it came from.
    """

    def __init__(
        self,
        backend: Backend,
        config: FitConfig,
        picture: PictureFacts,
        B: NDArray[np.floating] | None,
        parameters: Array,
        metrics: dict[str, Any] | None = None,
    ) -> None:
        self.backend, self.config, self.picture = backend, config, picture
        self.metrics = metrics or {}
        self.encoder = make_encoder(backend, B, config.dtype)
        sizes = layer_sizes(config, self.encoder.num_features, picture.channels)
        flat = backend.zeros(parameters.shape, config.dtype)
        flat += backend.asarray(parameters, config.dtype)
        self.mlp = MLP(
            backend,
            sizes,
            flat,
            make_activation(config.activation, omega=config.omega),
            make_activation(config.output_activation, omega=config.omega),
            rows=1,
            dtype=config.dtype,
        )

    @property
    def num_parameters(self) -> int:
        """Trainable numbers."""
        return self.mlp.layout.num_parameters

    def _data(self) -> tuple[Any, ...]:
        B = None if self.encoder.B is None else self.backend.to_numpy(self.encoder.B)
        return self.config, self.picture, B, self.backend.to_numpy(self.mlp.parameters), self.metrics

    def __call__(self, coordinates: ArrayLike) -> NDArray[np.floating]:
        """Colours (..., C), unclipped, at coordinates (..., 2): x, y in units of the longer side."""
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
        """As `render_rows`, but as the network gives them, unclipped."""
        # The tables of `GridFeatures` grow with height + width, so that long sides are taken in parts.
        for top in range(0, grid.height, CHUNK_PIXELS):
            band = grid.cropped(0, top, grid.width, min(CHUNK_PIXELS, grid.height - top))
            yield from self._predict_wide_rows(band) if band.width > CHUNK_PIXELS else self._predict_band(band)

    def _predict_wide_rows(self, band: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Rows (1, width, C) of a grid, each put together from windows."""
        for top in range(band.height):
            row = np.empty((1, band.width, self.picture.channels), self.config.dtype)
            for left in range(0, band.width, CHUNK_PIXELS):
                window = band.cropped(left, top, min(CHUNK_PIXELS, band.width - left), 1)
                for colours in self._predict_band(window):
                    row[:, left : left + window.width] = colours
            yield row

    def _predict_band(self, band: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Rows (n, width, C) of a grid whose sides are no longer than `CHUNK_PIXELS`."""
        forward = _Forward(self)
        for features, start, stop in _parts_of_grid(self, band):
            colours = self.backend.to_numpy(forward(features, start, stop))
            yield colours.reshape(-1, band.width, colours.shape[-1])

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a `.safetensors` file, atomically; `coordfit.load` reads it back."""
        from .model_file import save_model

        save_model(path, self)


Features = Callable[[slice, Array | None], Array]
"""Gives the features (n, F) of a run of pixels, in a buffer where one is offered."""


Part = tuple[Features, int, int]
"""What gives the features of a run of pixels, the first of them, and where it ends."""


def _parts_of_grid(model: Model, band: PixelGrid, table: Array | None = None) -> Iterator[Part]:
    """Whole rows of a grid, a bounded number of pixels at a time; `table` has their features where known."""
    features: Features
    if table is None:
        with model.backend.activate():
            features = GridFeatures(model.backend, model.encoder, band.axes(), model.config.dtype)
    else:
        features = functools.partial(_rows_of, table)
    step = max(1, CHUNK_PIXELS // band.width)
    for top in range(0, band.height, step):
        yield features, top * band.width, min(band.height, top + step) * band.width


def _parts_of(model: Model, coordinates: NDArray[np.floating]) -> Iterator[Part]:
    """Coordinates (n, 2) on the host, moved to the device a bounded number at a time."""
    for start in range(0, len(coordinates), CHUNK_PIXELS):
        chunk = model.backend.asarray(coordinates[start : start + CHUNK_PIXELS], model.config.dtype)
        yield functools.partial(_encode, model.encoder, chunk), 0, chunk.shape[0]


class Watch:
    """Some pixels at which a model is looked at again and again: where they lie is moved to the device once.

    Parameters
    ----------
    coordinates : array, shape (n, 2), optional
        On the host; None for the picture's own pixels, row by row.
    features : array, shape (H W, F), optional
        Of the picture's own pixels, where they are known: on the device.
    """

    def __init__(
        self,
        model: Model,
        coordinates: NDArray[np.floating] | None = None,
        features: Array | None = None,
    ) -> None:
        grid = model.picture.grid
        if coordinates is None and model.encoder.B is None:
            coordinates = grid.coordinates(np.arange(grid.height * grid.width))
        self._model = model
        self._parts = list(
            _parts_of_grid(model, grid, features) if coordinates is None else _parts_of(model, coordinates)
        )

    def colours(self) -> Iterator[Array]:
        """Colours (n, C), unclipped, on the device, some pixels at a time: asked for, and not waited for."""
        forward = _Forward(self._model)
        for part in self._parts:
            yield forward(*part)


class _Forward:
    """Runs a model forward over runs of pixels, in the backend's blocks and workers."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.rows, self.most_rows = 0, CHUNK_PIXELS
        self.workers: list[_ForwardWorker] = []

    def __call__(self, features: Features, start: int, stop: int) -> Array:
        """Colours (N, C), unclipped, on the device, of the pixels from `start` to `stop`."""
        colours = self.model.backend.zeros((stop - start, self.model.picture.channels), self.model.config.dtype)
        done = 0
        while done < stop - start:
            rows = min(self.most_rows, stop - start - done)
            try:
                self._run(features, start + done, colours[done : done + rows, :])
            except MemoryError:
                if rows <= FEWEST_PIXELS:
                    raise
                self._take_less(rows // 2)
            else:
                done += rows
        return colours

    def _run(self, features: Features, start: int, colours: Array) -> None:
        """Fill `colours` (n, C) with those of n pixels from `start` on."""
        backend = self.model.backend
        if colours.shape[0] != self.rows:
            self._share_out(colours.shape[0])
        for worker in self.workers:
            worker.begin(features, start, colours)
        with backend.activate():
            backend.parameters_changed(self.model.mlp.parameters)
            backend.run_workers([worker.run for worker in self.workers])

    def _take_less(self, rows: int) -> None:
        """Where memory is short, fewer pixels at a time from now on: the picture is the same."""
        self.rows, self.most_rows, self.workers = 0, rows, []

    def _share_out(self, rows: int) -> None:
        self.rows, self.workers = rows, []  # those of other sizes give their memory back first
        mlp = self.model.mlp
        cost = cost_of_a_row(mlp.layout.layer_sizes, mlp.dtype, forward_alone=True)
        shares = self.model.backend.share_out(rows, 1, *cost)
        self.workers = [_ForwardWorker(self.model, share.blocks) for share in shares]


class _ForwardWorker:
    """One worker's share of a run of pixels."""

    def __init__(self, model: Model, blocks: list[slice]) -> None:
        self.model, self.blocks = model, blocks
        rows = max(block.stop - block.start for block in blocks)
        self.mlp = model.mlp.replica(rows)
        self.buffer = feature_buffer(model.backend.scratch, model.encoder, (), rows, model.config.dtype)

    def begin(self, features: Features, start: int, colours: Array) -> None:
        """Note what `run` is to work on."""
        self.features, self.start, self.colours = features, start, colours

    def run(self) -> None:
        """Fill this worker's rows of `colours`."""
        for rows in self.blocks:
            there = slice(self.start + rows.start, self.start + rows.stop)
            x = self.features(there, first_rows(self.buffer, rows.stop - rows.start))
            self.colours[rows, :] = self.mlp.forward(x)


def rendering_grid(
    own: PictureFacts,
    height: int | None,
    width: int | None,
    *,
    crop: tuple[int, int, int, int] | None,
) -> PixelGrid:
    """The pixels of a picture's rendering at some size, or of a window of it; ValueError where it is none."""
    if height is None and width is None:
        height, width = own.height, own.width
    elif height is None and width is not None:
        height = max(1, round(width * own.height / own.width))
    elif width is None and height is not None:
        width = max(1, round(height * own.width / own.height))
    if height is None or width is None or height < 1 or width < 1:
        raise ValueError(f"a rendering needs 1 pixel at least, not {width}x{height}")
    grid = own.grid.resized(height, width)
    return grid if crop is None else grid.cropped(*crop)


def _rows_of(table: Array, rows: slice, out: Array | None) -> Array:
    return table[rows, :]


def _encode(encoder: Encoder, coordinates: Array, rows: slice, out: Array | None) -> Array:
    return encoder(coordinates[rows, :], out=out)


def layer_sizes(config: FitConfig, num_features: int, channels: int) -> tuple[int, ...]:
    """Widths from the features to the channels: `depth` layers, all but the last of `hidden_size` units."""
    return (num_features, *[config.hidden_size] * (config.depth - 1), channels)
