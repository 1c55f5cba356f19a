"""A tiled model: thousands of small networks as one function of coordinates, and its renderings at any size.

A rendering evaluates only the tiles that contribute to it. Tiles at the same place relative to the pixels of a
rendering (all of them, at the picture's own size and its whole multiples) share features and run as one batch.
"""

from __future__ import annotations

import collections
import functools
import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Backend, get_backend
from ..encoders.jets import Jet, Pair
from ..files import forget_pages
from ..models.derivatives import network_jet
from ..models.rendering import CHUNK_PIXELS, Rendered, StoredNetworks
from ..network.mlp import MLP, make_mlp
from ..signals.facts import SignalFacts
from ..signals.grid import SampleGrid, points_of
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
        signal: SignalFacts,
        network: TileNetwork,
        layout: TileLayout,
        parameters: NDArray[np.floating],
        metrics: dict[str, Any] | None = None,
    ) -> None:
        self.backend, self.signal, self.network, self.layout = backend, signal, network, layout
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
        layout, values = self.layout, len(self.signal.grid) * self.signal.channels
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

    def stored(self) -> StoredNetworks:
        """Return the networks of all tiles, unpacked on the host."""
        network, mlp = self.network, self.networks(self.backend, np.array([0]), 1)
        parameters = network.unpacked(np.asarray(self.parameters))
        return StoredNetworks(network.encoder(self.backend), mlp, parameters, self.layout)

    def _data(self) -> tuple[Any, ...]:
        parameters = np.array(self.parameters)  # a copy of the map of a file
        return self.signal, self.network, self.layout, parameters, self.metrics

    def predict(self, coordinates: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return values (N, C) as the networks give them, at coordinates (N, D) of the whole signal."""
        points = coordinates.astype(np.float64) * max(self.signal.shape)
        colours = np.zeros((len(points), self.signal.channels), self.config.dtype)
        encoder = self.network.encoder(self.backend)
        for tile, which, weights in self._tiles_of(points):
            start = self.layout.starts(tile)[::-1]
            local = self.backend.asarray((points[which] - start) / self.layout.side, self.config.dtype)
            mlp = self.networks(self.backend, np.array([tile]), len(which))
            y = self.backend.to_numpy(mlp.forward(encoder(local)))[0]
            colours[which] += y * weights[:, None]
        return colours

    def jet(self, coordinates: NDArray[np.float64], pairs: Sequence[Pair] = ()) -> Jet:
        """Return values (N, C) with derivatives, those of the blend weights included; on the host."""
        shape, longest, host = (
            (len(coordinates), self.signal.channels),
            max(self.signal.shape),
            get_backend("numpy"),
        )
        encoder = self.network.encoder(host)
        value, second = np.zeros(shape), {pair: np.zeros(shape) for pair in pairs}
        first = tuple(np.zeros(shape) for _ in self.signal.shape)
        for tile, which, _ in self._tiles_of(coordinates * longest):
            points = Jet.of_points(np, coordinates[which], pairs).scaled(float(longest))
            local = points.scaled(1.0, -self.layout.starts(tile)[::-1]).scaled(1.0 / self.layout.side)
            [flat] = self.network.unpacked(np.asarray(self.parameters[tile : tile + 1]))
            own = network_jet(encoder, make_mlp(host, self.config, self.network.layout, flat), local)
            own = own.times(self.layout.blend_jet(tile, points))
            value[which] += own.value
            for sums, parts in ((first, own.first), (second.values(), own.second.values())):
                for total, part in zip(sums, parts, strict=True):
                    total[which] += part
        return Jet(value, first, second)

    def _tiles_of(
        self, points: NDArray[np.float64]
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
        """Yield each tile that contributes to points (n, D) in samples, their numbers, and its weights."""
        along = [[*axis.covering(points[:, -1 - k])] for k, axis in enumerate(self.layout.axes)]
        found: dict[int, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = collections.defaultdict(list)
        for blend in itertools.product(*along):
            tiles = np.ravel_multi_index(tuple(places for places, _ in blend), self.layout.counts)
            weights = functools.reduce(np.multiply, [own for _, own in reversed(blend)])
            covered = np.flatnonzero(weights > 0.0)
            order = covered[np.argsort(tiles[covered], kind="stable")]
            ends = np.flatnonzero(np.diff(tiles[order])) + 1
            for which in np.split(order, ends) if len(order) else []:
                found[int(tiles[which[0]])].append((which, weights[which]))
        for tile, parts in sorted(found.items()):
            yield tile, *(np.concatenate(part) for part in zip(*parts, strict=True))  # type: ignore[misc]

    def predict_rows(self, grid: SampleGrid) -> Iterator[NDArray[np.floating]]:
        """Yield lines as `render_rows` does, but as the networks give them."""
        step = self._slices_at_a_time(grid)
        for first in range(0, grid.shape[0], step):
            starts, sides = [0] * len(grid.shape), list(grid.shape)
            starts[0], sides[0] = first, min(step, grid.shape[0] - first)
            yield _Band(self, grid.cropped(*starts[::-1], *sides[::-1])).colours()
            forget_pages(self.parameters)

    def _slices_at_a_time(self, grid: SampleGrid) -> int:
        """Return the samples of a band along the first axis; those of a picture are rows.

        They are about CHUNK_PIXELS in all, and at least those of a row of tiles if these are small.
        """
        if len(grid.shape) == 1:  # one line, which is not divided
            return grid.width
        of_tiles = round(self.layout.tile * grid.full_shape[0] / self.signal.shape[0])
        by_pixels = max(1, CHUNK_PIXELS * grid.shape[0] // len(grid))
        return by_pixels if by_pixels >= of_tiles else min(of_tiles, 16 * by_pixels)

    def save(self, path: str | PathLike[str], *, dtype: str | None = None) -> None:
        """Write the model to a `.safetensors` file, atomically; `coordfit.load` reads it."""
        save_tiled(path, self, dtype)

    def networks(self, backend: Backend, tiles: NDArray[np.integer], rows: int) -> MLP:
        """Return the networks of some tiles on a backend, for `rows` rows, to run forward only."""
        flat = backend.asarray(self.network.unpacked(np.asarray(self.parameters[tiles])))
        return self.network.mlp(backend, flat, rows, gradient=flat)  # the gradient is never written


@dataclass(frozen=True)
class _TileSpan:
    """The samples of a band, along one axis, that a tile contributes to."""

    tile: int
    where: slice
    start: float
    """The first of them, in samples of the signal from the first sample of the tile."""
    weights: NDArray[np.float64]


def _tile_spans(axis: Axis, positions: NDArray[np.float64]) -> list[_TileSpan]:
    """Return the tiles at ascending positions (n,) along an axis, in samples of the signal."""
    spans = []
    for tile in axis.range(positions[0], positions[-1]):
        where = axis.span(tile, positions)
        if where.stop > where.start:
            covered = positions[where]
            start = float(covered[0] - axis.starts[tile])
            spans.append(_TileSpan(tile, where, start, axis.weights(tile, covered)))
    return spans


_Batch = tuple[list[_TileSpan], list[_TileSpan]]
"""A tile along each axis but the last, and tiles along the last."""


class _Band:
    """Some whole lines of a rendering, and the tiles that contribute to them."""

    def __init__(self, model: TiledModel, grid: SampleGrid) -> None:
        self.model, self.grid = model, grid
        # Samples of the signal for each sample of the rendering.
        self.steps = [own / full for own, full in zip(model.signal.shape, grid.full_shape, strict=True)]
        axes = zip(model.layout.axes, grid.shape, grid.starts, self.steps, strict=True)
        self.spans = [
            _tile_spans(axis, np.multiply(np.arange(count, dtype=np.float64) + (start + 0.5), step))
            for axis, count, start, step in axes
        ]
        self._lock = threading.Lock()

    def colours(self) -> NDArray[np.floating]:
        """Return the band's unclipped values (lines, width, C)."""
        model, grid = self.model, self.grid
        # Sums over even and over odd tiles along each axis but the last. A sample has at most two tiles of a
        # line, and of lines at most one of each kind: each sum has two terms, so that their order does not
        # change its bits.
        parities = (2,) * (len(grid.shape) - 1)
        self.sums = np.zeros((*parities, *grid.shape, model.signal.channels), model.config.dtype)
        batches = collections.deque(self._batches())
        workers = model.backend.per_worker_backends()
        with model.backend.activate():
            model.backend.run_workers([functools.partial(self._work, b, batches) for b in workers])
        sums = self.sums.reshape(-1, grid.lines, grid.width, model.signal.channels)
        return np.asarray(functools.reduce(np.add, sums))

    def _batches(self) -> Iterator[_Batch]:
        """Yield tiles of a line whose samples have the same coordinates in their tiles."""
        *others, columns = self.spans
        alike: dict[tuple[int, int], list[_TileSpan]] = collections.defaultdict(list)
        for column in columns:
            alike[len(column.weights), round(column.start * 2**20)].append(column)
        for line in itertools.product(*others):
            for those in alike.values():
                samples = math.prod(len(span.weights) for span in (*line, those[0]))
                count = max(1, _BATCH_ROWS // samples)
                yield from (([*line], those[k : k + count]) for k in range(0, len(those), count))

    def _work(self, backend: Backend, batches: collections.deque[_Batch]) -> None:
        while True:
            try:
                line, columns = batches.popleft()
            except IndexError:
                return
            self._add(backend, line, columns)

    def _add(self, backend: Backend, line: list[_TileSpan], columns: list[_TileSpan]) -> None:
        """Add the weighted values of tiles of a line, whose samples have the same coordinates."""
        model, spans = self.model, [*line, columns[0]]
        shape = tuple(len(span.weights) for span in spans)
        places, counts = [span.tile for span in line], model.layout.counts
        first = sum(place * math.prod(counts[k + 1 :]) for k, place in enumerate(places))
        tiles = np.array([first + column.tile for column in columns])
        *others, x = (self._coordinates(*both) for both in zip(spans, self.steps, strict=True))
        axes = x, points_of(others, np.arange(math.prod(shape[:-1])))
        features = model.network.encoder(backend).on_grid(axes, model.config.dtype)(
            slice(0, math.prod(shape)), None
        )
        mlp = model.networks(backend, tiles, math.prod(shape))
        y = backend.to_numpy(mlp.forward(features)).reshape(len(tiles), *shape, -1)
        sums = self.sums[tuple(place % 2 for place in places)]
        where = tuple(span.where for span in line)
        of_line = np.ones(())
        for span in line:
            of_line = np.multiply.outer(of_line, span.weights)
        with self._lock:
            for column, colours in zip(columns, y, strict=True):
                weights = (of_line[..., None] * column.weights)[..., None].astype(colours.dtype)
                sums[*where, column.where] += weights * colours

    def _coordinates(self, span: _TileSpan, step: float) -> NDArray[np.float64]:
        """Return the coordinates (n,) in their tile of a span's samples, `step` samples of the signal apart."""
        n, side = len(span.weights), self.model.layout.side
        step = n * step / side / n  # rounded as the steps of a `SampleGrid` are
        return np.arange(n, dtype=np.float64) * step + span.start / side
