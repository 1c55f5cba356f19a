"""A dense multi-resolution grid of trained features: Mueller et al. (2022), section 3, without the hashing.

L levels are arrays (H_l, W_l, F) of nodes at even distances over the picture, each twice as fine as the one
before; the features of a pixel are the bilinear interpolations of all levels. On whole grids of pixels they are
products `A_y L A_x^T`. For other pixels the four nodes around each are gathered, and gradients are summed cell
by cell: with pixels sorted by cell, a cell's sum is a difference of running sums. This needs only the array API
standard, and adds in the same order at every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from ..config import FitConfig
from .base import Axes, Encoder, Encoding, OnGrid, PixelLattice, Size, State

# First values lie between -1e-4 and 1e-4, as in the paper, so that unused features stay flat.
_FIRST = 1e-4
# Smoothness for every second row and column, and for scattered known pixels: on held-out pixels the first costs
# nothing, and with half of chelsea hidden the second improves 27.0 dB to 29.4 dB.
_BETWEEN_ROWS, _BETWEEN_SCATTERED = 10.0, 100.0
# The largest table for a grid of pixels, in numbers; without one, nodes are gathered.
_MOST_TABLE = 2**24


@dataclass(frozen=True)
class Level:
    """The nodes of one level, `step` apart in coordinates from `start`, the centre of the first pixel."""

    rows: int
    columns: int
    start: float
    step: float


@dataclass(frozen=True)
class Grid(Encoding):
    """Levels of trained features.

    Attributes
    ----------
    size : (height, width)
        Of the picture.
    levels, features : int
        L and F.
    spacing : float
        Pixels between nodes of the finest level.
    smoothness : float
        Weight of the penalty: the mean squared second difference of nodes, summed over the levels. First
        differences would pull to the mean, which costs 0.8 dB with half of a picture hidden.
    """

    size: Size
    levels: int
    features: int
    spacing: float
    smoothness: float

    name = "grid"
    learns = True

    @classmethod
    def of(cls, config: FitConfig, size: Size) -> Self:
        """Return the grid for a picture of this size; by default no finer than the training pixels."""
        spacing, smoothness = (2.0, _BETWEEN_ROWS) if config.train_on == "every-second" else (1.0, 0.0)
        if config.grid_smoothness is not None:
            smoothness = config.grid_smoothness
        spacing = config.grid_spacing or spacing
        return cls(size, config.grid_levels, config.grid_features, spacing, smoothness)

    @classmethod
    def title(cls, config: FitConfig) -> str:
        """Return the encoding and its settings in words."""
        return f"grid encoding, {config.grid_levels} x {config.grid_features} features"

    def nodes(self) -> list[Level]:
        """Return the nodes of each level, from coarse to fine."""
        longer, found = max(self.size), []
        for halvings in reversed(range(self.levels)):
            pixels = self.spacing * 2**halvings
            rows, columns = (max(2, math.ceil((length - 1) / pixels) + 1) for length in self.size)
            found.append(Level(rows, columns, 0.5 / longer, pixels / longer))
        return found

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return (H_l, W_l, F) of each level."""
        return {f"level{i}": (n.rows, n.columns, self.features) for i, n in enumerate(self.nodes())}

    def draw_parameters(self, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        """Draw values near 0."""
        return {name: rng.uniform(-_FIRST, _FIRST, shape) for name, shape in self.parameter_shapes().items()}

    def num_features(self, state: State) -> int:
        """Return L F."""
        return self.levels * self.features

    def encoder(self, backend: Backend, state: State, dtype: str) -> GridEncoder:
        """Return the encoder on a backend, without parameters."""
        return GridEncoder(backend, self, dtype)

    @classmethod
    def settings_for_spacing(cls, config: FitConfig, spacing: float) -> dict[str, Any]:
        """Return the spacing of training pixels for the finest nodes, and a smoothness for holes."""
        suited = {"grid_spacing": spacing, "grid_smoothness": _BETWEEN_SCATTERED}
        return {name: value for name, value in suited.items() if getattr(config, name) is None}

    @classmethod
    def settings_of_mean(cls, config: FitConfig, count: int) -> dict[str, Any]:
        """Return settings for the features of `count` encoders, since each learns its own."""
        return {"grid_features": count * config.grid_features}

    @property
    def feature_groups(self) -> int:
        """L: the features of each level are together."""
        return self.levels


class _Places(NamedTuple):
    """The cell of each pixel in a level, (N,) or (*E, N), and its position in the cell."""

    cell: Array
    right: Array
    down: Array


class GridEncoder(Encoder):
    """Levels interpolated at coordinates.

    Parameters
    ----------
    parameters, gradients : mappings of arrays, shapes (*E, H_l, W_l, F)
        Of the levels from coarse to fine; none before `with_parameters`.
    """

    learns: ClassVar[bool] = True

    def __init__(
        self,
        backend: Backend,
        grid: Grid,
        dtype: str,
        parameters: Mapping[str, Array] | None = None,
        gradients: Mapping[str, Array] | None = None,
    ) -> None:
        super().__init__(backend)
        self.grid, self.dtype = grid, dtype
        self.parameters, self.gradients = parameters or {}, gradients or {}
        self.levels = [*self.parameters.values()]
        self.nodes, self.num_features = grid.nodes(), grid.levels * grid.features
        self._places: list[_Places] = []
        self._run: tuple[_OnGrid, slice] | None = None
        self._on_pixels: tuple[PixelLattice, _OnGrid] | None = None

    @property
    def ensemble(self) -> tuple[int, ...]:
        """(K,) if there are parameters of K members."""
        return tuple(self.levels[0].shape[:-3]) if self.levels else ()

    def with_parameters(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> GridEncoder:
        """Return an encoder on these arrays, shapes (*E, H_l, W_l, F)."""
        return GridEncoder(self.backend, self.grid, self.dtype, parameters, gradients)

    # -- any pixels ----------------------------------------------------------------------------------

    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """Return features (*E, N, L F) of coordinates (N, 2), or (*E, N, 2)."""
        self._run, self._places = None, [self._placed(coordinates, nodes) for nodes in self.nodes]
        parts = [self._interpolated(*level) for level in zip(self.levels, self._places, strict=True)]
        return self._joined(parts, out)

    def _placed(self, coordinates: Array, nodes: Level) -> _Places:
        column, right = self._along(coordinates[..., 0], nodes, nodes.columns)
        row, down = self._along(coordinates[..., 1], nodes, nodes.rows)
        return _Places(row * nodes.columns + column, right[..., None], down[..., None])

    def _along(self, positions: Array, nodes: Level, count: int) -> tuple[Array, Array]:
        """Return the node before each position along an axis, and the distance from it, clipped to the axis."""
        xp = self.backend.xp
        along = xp.clip((positions - nodes.start) * (1.0 / nodes.step), 0.0, count - 1.0)
        node = xp.clip(xp.floor(along), 0.0, count - 2.0)
        return xp.astype(node, xp.int64), along - node

    def _interpolated(self, level: Array, places: _Places) -> Array:
        """Return a level's features (*E, N, F)."""
        rows, columns, features = level.shape[-3:]
        nodes = self.backend.xp.reshape(level, (*level.shape[:-3], rows * columns, features))
        cell, right, down = places
        corners = [self.backend.take_rows(nodes, cell + k) for k in (0, 1, columns, columns + 1)]
        upper, lower = (left + right * (rest - left) for left, rest in (corners[:2], corners[2:]))
        return upper + down * (lower - upper)

    def _joined(self, parts: Sequence[Array], out: Array | None) -> Array:
        """Return the features (*E, N, F) of all levels as one array."""
        F = self.grid.features
        if out is None or out.shape != (*parts[0].shape[:-1], self.num_features):
            return self.backend.xp.concat(parts, axis=-1)
        for i, part in enumerate(parts):
            out[..., i * F : (i + 1) * F] = part
        return out

    def backward(self, dx: Array, *, accumulate: bool = False) -> None:
        """Fill (or add to) the gradients, from dx (*E, N, L F) for the pixels of the last call."""
        F = self.grid.features
        for i, gradient in enumerate(self.gradients.values()):
            if not accumulate:
                gradient[...] = 0.0
            d = dx[..., i * F : (i + 1) * F]
            if self._run is None:
                self._scatter(d, self._places[i], gradient)
            else:
                on_grid, rows = self._run
                on_grid.backward(d, rows, i, gradient)

    def _scatter(self, d: Array, places: _Places, gradient: Array) -> None:
        """Add d (*E, N, F) to the four nodes around each pixel."""
        xp, (cell, right, down) = self.backend.xp, places
        rows, columns, F = gradient.shape[-3:]
        upper, lower = (1.0 - down) * d, down * d
        corners = [(1.0 - right) * upper, right * upper, (1.0 - right) * lower, right * lower]
        sums, last = _cell_sums(self.backend, xp.concat(corners, axis=-1), cell, rows * columns)
        lines = xp.reshape(gradient, (*gradient.shape[:-2], columns * F))
        for k in range(4):
            y, x = divmod(k, 2)
            of_cells = xp.take(sums[..., k * F : (k + 1) * F], last, axis=-2)
            part = xp.reshape(of_cells, lines.shape)[..., : rows - 1, : (columns - 1) * F]
            lines[..., y : rows - 1 + y, x * F : (columns - 1 + x) * F] += part

    # -- grids of pixels -----------------------------------------------------------------------------

    def on_grid(self, axes: Axes, dtype: str) -> OnGrid:
        """Return a function for the features of runs of a grid's pixels."""
        largest = max(
            len(a) * n for a, n in zip(axes, (self.nodes[-1].columns, self.nodes[-1].rows), strict=True)
        )
        return _OnGrid(self, axes) if largest <= _MOST_TABLE else super().on_grid(axes, dtype)

    def of_run(self, pixels: PixelLattice, rows: slice, out: Array | None = None) -> Array:
        """Return the features of training pixels in order, from `rows.start` to `rows.stop`."""
        if self._on_pixels is None or self._on_pixels[0] is not pixels:
            self._on_pixels = pixels, _OnGrid(self, pixels.axes())
        on_grid = self._on_pixels[1]
        self._run = on_grid, rows
        return on_grid(rows, out)

    # -- the penalty ---------------------------------------------------------------------------------

    def penalty(self) -> Array | float:
        """Return smoothness times the mean squared curvature along both axes, summed over levels; shape E."""
        xp, total = self.backend.xp, 0.0
        for level in self.levels:
            for before, here, after in _neighbours(level):
                curvature = before - 2.0 * here + after
                total = total + xp.sum(curvature * curvature, axis=(-3, -2, -1)) * self._weight(level)
        return total

    def add_penalty_gradient(self) -> None:
        """Add the gradient of the penalty."""
        if not self.grid.smoothness:
            return
        for level, gradient in zip(self.levels, self.gradients.values(), strict=True):
            of_axes = zip(_neighbours(level), _neighbours(gradient), strict=True)
            for (before, here, after), (of_before, of_here, of_after) in of_axes:
                d = (2.0 * self._weight(level)) * (before - 2.0 * here + after)
                of_before += d
                of_here -= 2.0 * d
                of_after += d

    def _weight(self, level: Array) -> float:
        return self.grid.smoothness / float(math.prod(level.shape[-3:]))


def _neighbours(level: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Yield views of three consecutive nodes, along y and then along x, if the axis is long enough."""
    if level.shape[-3] > 2:
        yield level[..., :-2, :, :], level[..., 1:-1, :, :], level[..., 2:, :, :]
    if level.shape[-2] > 2:
        yield level[..., :-2, :], level[..., 1:-1, :], level[..., 2:, :]


class _OnGrid:
    """The features of runs of a grid's pixels: `A_y L A_x^T` for the rows of pixels of each run."""

    def __init__(self, encoder: GridEncoder, axes: Axes) -> None:
        self.encoder, self.backend, self.width = encoder, encoder.backend, len(axes[0])
        self.tables = [
            tuple(
                self.backend.asarray(_interpolation(positions, nodes, count), encoder.dtype)
                for positions, count in zip(axes, (nodes.columns, nodes.rows), strict=True)
            )
            for nodes in encoder.nodes
        ]

    def __call__(self, rows: slice, out: Array | None = None) -> Array:
        """Return features (*E, n, L F) of the pixels from `rows.start` to `rows.stop`."""
        lines, skipped = self._lines(rows)
        n = rows.stop - rows.start
        parts = []
        for level, (A_x, A_y) in zip(self.encoder.levels, self.tables, strict=True):
            reshape, matmul = self.backend.xp.reshape, self.backend.matmul
            *ensemble, height, _, F = level.shape
            along_x = reshape(matmul(A_x, level), (*ensemble, height, self.width * F))
            y = reshape(matmul(A_y[lines, :], along_x), (*ensemble, -1, F))
            parts.append(y[..., skipped : skipped + n, :])
        return self.encoder._joined(parts, out)

    def backward(self, d: Array, rows: slice, i: int, gradient: Array) -> None:
        """Add `A_y^T d A_x` to a level's gradient, for d (*E, n, F) of a run of pixels."""
        xp, matmul, (A_x, A_y) = self.backend.xp, self.backend.matmul, self.tables[i]
        lines, skipped = self._lines(rows)
        *ensemble, height, _, F = gradient.shape
        whole = self.backend.zeros((*ensemble, (lines.stop - lines.start) * self.width, F), self.encoder.dtype)
        whole[..., skipped : skipped + d.shape[-2], :] = d
        whole = xp.reshape(whole, (*ensemble, lines.stop - lines.start, self.width * F))
        along_y = matmul(A_y[lines, :], whole, transpose_a=True)
        along_y = xp.reshape(along_y, (*ensemble, height, self.width, F))
        gradient += matmul(A_x, along_y, transpose_a=True)

    def _lines(self, rows: slice) -> tuple[slice, int]:
        """Return the lines of pixels of a run, and the number of pixels before it in the first line."""
        first, skipped = divmod(rows.start, self.width)
        return slice(first, -(-rows.stop // self.width)), skipped


def _interpolation(positions: NDArray[np.float64], nodes: Level, count: int) -> NDArray[np.float64]:
    """Return A (n, count) such that `A v` interpolates values v at the nodes of an axis linearly."""
    along = np.clip((positions - nodes.start) / nodes.step, 0.0, count - 1.0)
    node = np.minimum(along.astype(np.int64), count - 2)
    A, each = np.zeros((len(positions), count)), np.arange(len(positions))
    A[each, node], A[each, node + 1] = 1.0 - (along - node), along - node
    return A


def _cell_sums(backend: Backend, values: Array, cell: Array, count: int) -> tuple[Array, Array]:
    """Return the sums of the values (*E, N, m) of each cell, computed in float64, and their rows.

    Parameters
    ----------
    cell : integer array, shape (N,) shared by the members, or (*E, N)
    count : int
        Number of cells of a member.

    Returns
    -------
    sums : array, shape (*E, N + 1, m), or (K N + 1, m) if members have their own cells
        The row of a cell's last pixel, in the order of cells, has its sum; the last row is 0.
    last : integer array, shape (count,) or (K count,)
        The row of each cell's sum; the last row for cells without pixels.
    """
    xp = backend.xp
    if cell.ndim > 1:
        first = xp.reshape(backend.arange(0, cell.shape[0]) * count, (-1, 1))
        count = count * cell.shape[0]
        cell = xp.reshape(cell + first, (-1,))
        values = xp.reshape(values, (-1, values.shape[-1]))
    order = xp.argsort(cell)
    cell, in_order = xp.take(cell, order), xp.take(values, order, axis=-2)
    # The name in the standard, which NumPy has since 2.1, or the older one.
    running_sum = next(getattr(xp, name) for name in ("cumulative_sum", "cumsum") if hasattr(xp, name))
    sums = running_sum(xp.astype(in_order, xp.float64), axis=-2)
    zero = xp.zeros_like(sums[..., :1, :])
    before = xp.take(xp.concat([zero, sums], axis=-2), xp.searchsorted(cell, cell), axis=-2)
    of_pixels = xp.astype(xp.concat([sums - before, zero], axis=-2), values.dtype)
    ends = xp.searchsorted(cell, backend.arange(-1, count), side="right")
    return of_pixels, xp.where(ends[1:] > ends[:-1], ends[1:] - 1, cell.shape[0])
