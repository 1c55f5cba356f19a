"""A tiled model: thousands of small networks as one function of coordinates, and its renderings at any size.

A rendering asks those tiles alone that have a say in it. Tiles that lie alike in the grid of a rendering (all
of them, at the picture's own size and at whole multiples of it) share features and run as one batch.
"""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._backends import Backend
from ..files import forget_pages
from ..images.grid import PixelGrid
from ..models.rendering import CHUNK_PIXELS, PictureFacts, Rendered, as_coordinates
from ..network.mlp import MLP
from .file import save_tiled
from .layout import Axis, TileLayout
from .network import TileNetwork

# Rows that a batch of tiles brings at a time: their activations stay near the core.
_BATCH_ROWS = 8192


class TiledModel(Rendered):
    """The networks of a picture's tiles, blended into one picture.

    Parameters
    ----------
    network : TileNetwork
        What the tiles share.
    layout : TileLayout
        Where they lie.
    parameters : array, shape (number of tiles, p), float16 or float32 or float64
        Of each tile, without gaps: `TileNetwork.packed`. It may be a map of a file; only rows that a rendering
        needs are read.
    metrics : dict, optional
        The figures of the fit that it came from.
    """

    def __init__(
        self,
        backend: Backend,
        picture: PictureFacts,
        network: TileNetwork,
        layout: TileLayout,
        parameters: NDArray[np.floating],
        metrics: dict[str, Any] | None = None,
    ) -> None:
        self.backend, self.picture, self.network, self.layout = backend, picture, network, layout
        self.config, self.parameters, self.metrics = network.config, parameters, metrics or {}

    @property
    def num_parameters(self) -> int:
        """Trainable numbers of all networks together."""
        return len(self.layout) * self.network.layout.num_parameters

    @property
    def layer_sizes(self) -> Sequence[int]:
        """Widths of a tile's network from input to output."""
        return self.network.layout.layer_sizes

    @property
    def facts(self) -> dict[str, Any]:
        """How many networks there are and where, what they cost, and how they are stored."""
        layout, values = self.layout, self.picture.height * self.picture.width * self.picture.channels
        facts = {"tiles": len(layout), "tile": layout.tile, "overlap": layout.overlap}
        more = {"parameters_per_value": self.num_parameters / values, "stored": str(self.parameters.dtype)}
        return facts | more

    @property
    def title(self) -> str:
        """The picture, the encoding and the tiles in one line, for people."""
        return f"{super().title} per tile; {self.layout.title}"

    def _data(self) -> tuple[Any, ...]:
        parameters = np.array(self.parameters)  # and not the map of a file
        return self.picture, self.network, self.layout, parameters, self.metrics

    def __call__(self, coordinates: ArrayLike) -> NDArray[np.floating]:
        """Colours (..., C), unclipped, at coordinates (..., 2): x, y in units of the picture's longer side."""
        given = as_coordinates(coordinates)
        points = given.reshape(-1, 2).astype(np.float64) * max(self.picture.height, self.picture.width)
        colours = np.zeros((len(points), self.picture.channels), self.config.dtype)
        encoder = self.network.encoder(self.backend)
        for tile, which, weights in self._tiles_of(points):
            row, column = self.layout.place(tile)
            start = np.array([self.layout.columns.starts[column], self.layout.rows.starts[row]])
            local = self.backend.asarray((points[which] - start) / self.layout.side, self.config.dtype)
            mlp = self.networks(self.backend, np.array([tile]), len(which))
            y = self.backend.to_numpy(mlp.forward(encoder(local)))[0]
            colours[which] += y * weights[:, None]
        return colours.reshape(*given.shape[:-1], self.picture.channels)

    def _tiles_of(
        self, points: NDArray[np.float64]
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
        """Each tile that has a say at some of the points (n, 2), in pixels: which of them, and how much."""
        axes = (self.layout.columns, self.layout.rows)
        x_blend, y_blend = ([*axis.blend_weights(points[:, k])] for k, axis in enumerate(axes))
        found: dict[int, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = collections.defaultdict(list)
        for columns, x_weights in x_blend:
            for rows, y_weights in y_blend:
                weights, tiles = x_weights * y_weights, rows * len(self.layout.columns) + columns
                covered = np.flatnonzero(weights > 0.0)
                order = covered[np.argsort(tiles[covered], kind="stable")]
                ends = np.flatnonzero(np.diff(tiles[order])) + 1
                for which in np.split(order, ends) if len(order) else []:
                    found[int(tiles[which[0]])].append((which, weights[which]))
        for tile, parts in sorted(found.items()):
            yield tile, *(np.concatenate(part) for part in zip(*parts, strict=True))  # type: ignore[misc]

    def predict_rows(self, grid: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """As `render_rows`, but as the networks give them, unclipped."""
        step = self._rows_at_a_time(grid)
        for top in range(0, grid.height, step):
            band = grid.cropped(0, top, grid.width, min(step, grid.height - top))
            yield _Band(self, band).colours()
            forget_pages(self.parameters)

    def _rows_at_a_time(self, grid: PixelGrid) -> int:
        """Rows of a band: some CHUNK_PIXELS, and no less than a row of tiles where those are small."""
        tile_rows = round(self.layout.tile * grid.full_height / self.picture.height)
        by_pixels = max(1, CHUNK_PIXELS // grid.width)
        return by_pixels if by_pixels >= tile_rows else min(tile_rows, 16 * by_pixels)

    def save(self, path: str | PathLike[str], *, dtype: str | None = None) -> None:
        """Write the model to a `.safetensors` file, atomically; `coordfit.load` reads it back."""
        save_tiled(path, self, dtype)

    def networks(self, backend: Backend, tiles: NDArray[np.integer], rows: int) -> MLP:
        """The networks of some tiles on a backend, for so many rows."""
        flat = backend.asarray(self.network.unpacked(np.asarray(self.parameters[tiles])))
        return self.network.mlp(backend, flat, rows, gradient=flat)  # forward alone: nothing is written there


@dataclass(frozen=True)
class _TileSpan:
    """Where one row or column of tiles is heard in a band."""

    tile: int
    where: slice
    start: float
    """The first pixel of the band that hears it, in pixels of the picture from the tile's own first."""
    weights: NDArray[np.float64]


def _tile_spans(axis: Axis, positions: NDArray[np.float64]) -> list[_TileSpan]:
    """The tiles that are heard at ascending positions (n,) along an axis, in pixels of the picture."""
    spans = []
    for tile in axis.range(positions[0], positions[-1]):
        where = axis.span(tile, positions)
        if where.stop > where.start:
            covered = positions[where]
            spans.append(
                _TileSpan(tile, where, float(covered[0] - axis.starts[tile]), axis.weights(tile, covered))
            )
    return spans


@dataclass(frozen=True)
class _LocalGrid(PixelGrid):
    """A grid of places in a tile's own coordinates, which begins anywhere."""

    y_start: float = 0.0
    x_start: float = 0.0

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The x of each column (width,) and the y of each row (height,)."""
        x = np.arange(self.width, dtype=np.float64) * self.x_step
        y = np.arange(self.height, dtype=np.float64) * self.y_step
        return np.add(x, self.x_start), np.add(y, self.y_start)


class _Band:
    """Some whole rows of a rendering, and the tiles that are heard in it."""

    def __init__(self, model: TiledModel, grid: PixelGrid) -> None:
        self.model, self.grid = model, grid
        own = model.picture
        # Pixels of the picture for each pixel of the rendering.
        self.y_step, self.x_step = own.height / grid.full_height, own.width / grid.full_width
        rows, columns = (np.arange(n, dtype=np.float64) for n in (grid.height, grid.width))
        y = np.multiply(rows + (grid.top + 0.5), self.y_step)
        x = np.multiply(columns + (grid.left + 0.5), self.x_step)
        self.rows, self.columns = _tile_spans(model.layout.rows, y), _tile_spans(model.layout.columns, x)
        self._lock = threading.Lock()

    def colours(self) -> NDArray[np.floating]:
        """The band's colours (n, width, C), unclipped."""
        model, grid = self.model, self.grid
        # Of the even rows of tiles, and of the odd ones. A pixel hears two tiles of a row at most, and one even
        # and one odd row: so whichever worker adds first, each sum has two terms, and its bits are the same.
        self.sums = np.zeros((2, grid.height, grid.width, model.picture.channels), model.config.dtype)
        batches = collections.deque(self._batches())
        workers = model.backend.per_worker_backends()
        with model.backend.activate():
            model.backend.run_workers([functools.partial(self._work, b, batches) for b in workers])
        even, odd = self.sums
        return np.asarray(even + odd)

    def _batches(self) -> Iterator[tuple[_TileSpan, list[_TileSpan]]]:
        """Runs of tiles of a row whose pixels lie alike in them."""
        for row in self.rows:
            alike: dict[tuple[int, int], list[_TileSpan]] = collections.defaultdict(list)
            for column in self.columns:
                alike[len(column.weights), round(column.start * 2**20)].append(column)
            for columns in alike.values():
                pixels = len(row.weights) * len(columns[0].weights)
                count = max(1, _BATCH_ROWS // pixels)
                yield from ((row, columns[k : k + count]) for k in range(0, len(columns), count))

    def _work(self, backend: Backend, batches: collections.deque[tuple[_TileSpan, list[_TileSpan]]]) -> None:
        while True:
            try:
                row, columns = batches.popleft()
            except IndexError:
                return
            self._add(backend, row, columns)

    def _add(self, backend: Backend, row: _TileSpan, columns: list[_TileSpan]) -> None:
        """Add what tiles of a row say, which see the same places."""
        model = self.model
        height, width = len(row.weights), len(columns[0].weights)
        tiles = np.array([row.tile * len(model.layout.columns) + column.tile for column in columns])
        axes = self._places(row, columns[0]).axes()
        on_grid = model.network.encoder(backend).on_grid(axes, model.config.dtype)
        features = on_grid(slice(0, height * width), None)
        mlp = model.networks(backend, tiles, height * width)
        y = backend.to_numpy(mlp.forward(features)).reshape(len(tiles), height, width, -1)
        with self._lock:
            for column, colours in zip(columns, y, strict=True):
                weights = (row.weights[:, None] * column.weights)[:, :, None].astype(colours.dtype)
                self.sums[row.tile % 2, row.where, column.where] += weights * colours

    def _places(self, row: _TileSpan, column: _TileSpan) -> _LocalGrid:
        """The pixels of the rendering that a tile is heard at, in its own coordinates."""
        height, width, side = len(row.weights), len(column.weights), self.model.layout.side
        return _LocalGrid(
            height,
            width,
            height * self.y_step / side,
            width * self.x_step / side,
            height,
            width,
            y_start=row.start / side,
            x_start=column.start / side,
        )
