"""A tiled model: thousands of small networks as one function of coordinates, and its renderings at any size.

A rendering evaluates only the tiles that contribute to it. Tiles at the same place relative to the pixels of a
rendering (all of them, at the picture's own size and its whole multiples) share features and run as one batch.
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

# Rows of a batch of tiles: their activations stay in the cache.
_BATCH_ROWS = 8192


class TiledModel(Rendered):
    """The networks of a picture's tiles, blended into one picture.

    Their parameters (number of tiles, p), packed as by `TileNetwork.packed`, may be a map of a file; a
    rendering reads only the rows of its own tiles.
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
        """Number of parameters of all networks together."""
        return len(self.layout) * self.network.layout.num_parameters

    @property
    def layer_sizes(self) -> Sequence[int]:
        """Widths of a tile's network from input to output."""
        return self.network.layout.layer_sizes

    @property
    def facts(self) -> dict[str, Any]:
        """The tiles, their parameters per colour value, and the type in which they are stored, for JSON."""
        layout, values = self.layout, self.picture.height * self.picture.width * self.picture.channels
        return {
            "tiles": len(layout),
            "tile": layout.tile,
            "overlap": layout.overlap,
            "parameters_per_value": self.num_parameters / values,
            "stored": str(self.parameters.dtype),
        }

    @property
    def title(self) -> str:
        """The picture, the encoding and the tiles in one line."""
        return f"{super().title} per tile; {self.layout.title}"

    def _data(self) -> tuple[Any, ...]:
        parameters = np.array(self.parameters)  # a copy of the map of a file
        return self.picture, self.network, self.layout, parameters, self.metrics

    def __call__(self, coordinates: ArrayLike) -> NDArray[np.floating]:
        """Return unclipped colours (..., C) at coordinates (..., 2): x, y in units of the longer side."""
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
        """Yield each tile that contributes to points (n, 2), in pixels: their numbers and its weights there."""
        axes = (self.layout.columns, self.layout.rows)
        x_blend, y_blend = ([*axis.covering(points[:, k])] for k, axis in enumerate(axes))
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
        """Yield rows as `render_rows` does, but unclipped."""
        step = self._rows_at_a_time(grid)
        for top in range(0, grid.height, step):
            band = grid.cropped(0, top, grid.width, min(step, grid.height - top))
            yield _Band(self, band).colours()
            forget_pages(self.parameters)

    def _rows_at_a_time(self, grid: PixelGrid) -> int:
        """Return the rows of a band: about CHUNK_PIXELS, and at least a row of tiles if those are small."""
        tile_rows = round(self.layout.tile * grid.full_height / self.picture.height)
        by_pixels = max(1, CHUNK_PIXELS // grid.width)
        return by_pixels if by_pixels >= tile_rows else min(tile_rows, 16 * by_pixels)

    def save(self, path: str | PathLike[str], *, dtype: str | None = None) -> None:
        """Write the model to a `.safetensors` file, atomically; `coordfit.load` reads it."""
        save_tiled(path, self, dtype)

    def networks(self, backend: Backend, tiles: NDArray[np.integer], rows: int) -> MLP:
        """Return the networks of some tiles on a backend, for `rows` rows, to run forward only."""
        flat = backend.asarray(self.network.unpacked(np.asarray(self.parameters[tiles])))
        return self.network.mlp(backend, flat, rows, gradient=flat)  # the gradient is never written


@dataclass(frozen=True)
class _TileSpan:
    """The pixels of a band that one row or column of tiles contributes to."""

    tile: int
    where: slice
    start: float
    """The first of them, in pixels of the picture from the first pixel of the tile."""
    weights: NDArray[np.float64]


def _tile_spans(axis: Axis, positions: NDArray[np.float64]) -> list[_TileSpan]:
    """Return the tiles at ascending positions (n,) along an axis, in pixels of the picture."""
    spans = []
    for tile in axis.range(positions[0], positions[-1]):
        where = axis.span(tile, positions)
        if where.stop > where.start:
            covered = positions[where]
            start = float(covered[0] - axis.starts[tile])
            spans.append(_TileSpan(tile, where, start, axis.weights(tile, covered)))
    return spans


class _Band:
    """Some whole rows of a rendering, and the tiles that contribute to them."""

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
        """Return the band's unclipped colours (n, width, C)."""
        model, grid = self.model, self.grid
        # One sum over even rows of tiles and one over odd rows. A pixel has at most two tiles of a row, and at
        # most one even and one odd row: each sum has two terms, so their order does not change its bits.
        self.sums = np.zeros((2, grid.height, grid.width, model.picture.channels), model.config.dtype)
        batches = collections.deque(self._batches())
        workers = model.backend.per_worker_backends()
        with model.backend.activate():
            model.backend.run_workers([functools.partial(self._work, b, batches) for b in workers])
        even, odd = self.sums
        return np.asarray(even + odd)

    def _batches(self) -> Iterator[tuple[_TileSpan, list[_TileSpan]]]:
        """Yield tiles of a row whose pixels have the same coordinates in their tiles."""
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
        """Add the weighted colours of tiles of a row, whose pixels have the same coordinates."""
        model = self.model
        height, width = len(row.weights), len(columns[0].weights)
        tiles = np.array([row.tile * len(model.layout.columns) + column.tile for column in columns])
        axes = self._coordinates(columns[0], self.x_step), self._coordinates(row, self.y_step)
        on_grid = model.network.encoder(backend).on_grid(axes, model.config.dtype)
        features = on_grid(slice(0, height * width), None)
        mlp = model.networks(backend, tiles, height * width)
        y = backend.to_numpy(mlp.forward(features)).reshape(len(tiles), height, width, -1)
        with self._lock:
            for column, colours in zip(columns, y, strict=True):
                weights = (row.weights[:, None] * column.weights)[:, :, None].astype(colours.dtype)
                self.sums[row.tile % 2, row.where, column.where] += weights * colours

    def _coordinates(self, span: _TileSpan, step: float) -> NDArray[np.float64]:
        """Return the coordinates (n,) in their tile of a span's pixels, `step` pixels of the picture apart."""
        n, side = len(span.weights), self.model.layout.side
        step = n * step / side / n  # rounded as the steps of a `PixelGrid` are
        return np.arange(n, dtype=np.float64) * step + span.start / side
