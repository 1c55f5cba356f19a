"""Trained features on several levels of nodes, interpolated at the pixels: what `grid` and `pyramid` share.

On whole grids of pixels the features of a level are products `A_y L A_x^T`. For other pixels the nodes around
each are gathered, and gradients are summed node by node. Both need only the array API standard.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend
from ..config import FitConfig
from ..signals.grid import GridAxes
from .base import Encoder, Encoding, OnGrid, PixelLattice, Size, State
from .interpolation import Kernel, Level
from .jets import Jet, joined
from .node_sums import node_sums

# First values lie between -1e-4 and 1e-4, as in Mueller et al. (2022), so that unused features stay flat.
_FIRST = 1e-4
# The largest table for a grid of pixels, in numbers; without one, nodes are gathered.
_MOST_TABLE = 2**24


@dataclass(frozen=True)
class LevelsEncoding(Encoding):
    """Levels of trained features; settings are those of the encoding's name, such as `grid_levels`.

    Attributes
    ----------
    size : tuple of int
        The samples along each axis: (height, width) of a picture.
    levels, features : int
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

    learns = True
    kernel: ClassVar[Kernel]
    between_rows: ClassVar[float]
    """Smoothness for every second row and column."""
    between_scattered: ClassVar[float]
    """Smoothness for scattered known pixels."""

    @classmethod
    def of(cls, config: FitConfig, size: Size) -> Self:
        """Return the levels for a picture of this size; by default no finer than the training pixels."""
        every_second = config.train_on == "every-second"
        spacing, smoothness = (2.0, cls.between_rows) if every_second else (1.0, 0.0)
        asked: dict[str, Any] = {
            part: getattr(config, f"{cls.name}_{part}")
            for part in ("levels", "features", "spacing", "smoothness")
        }
        usual: dict[str, Any] = {"size": size, "spacing": spacing, "smoothness": smoothness}
        return cls(**usual | {part: value for part, value in asked.items() if value is not None})

    @abstractmethod
    def nodes(self) -> list[Level]:
        """Return the nodes of each level, from coarse to fine."""

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return (*counts, F_l) of each level."""
        return {f"level{i}": level.shape for i, level in enumerate(self.nodes())}

    def draw_parameters(self, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        """Draw values near 0."""
        return {name: rng.uniform(-_FIRST, _FIRST, shape) for name, shape in self.parameter_shapes().items()}

    def num_features(self, state: State) -> int:
        """Return the sum of F_l over the levels."""
        return sum(level.features for level in self.nodes())

    def encoder(self, backend: Backend, state: State, dtype: str) -> LevelsEncoder:
        """Return the encoder on a backend, without parameters."""
        return LevelsEncoder(backend, self, dtype)

    @classmethod
    def settings_for_spacing(cls, config: FitConfig, spacing: float) -> dict[str, Any]:
        """Return the spacing of training pixels for the finest nodes, and a smoothness for holes."""
        suited = {f"{cls.name}_spacing": spacing, f"{cls.name}_smoothness": cls.between_scattered}
        return {name: value for name, value in suited.items() if getattr(config, name) is None}

    @classmethod
    def settings_of_mean(cls, config: FitConfig, count: int) -> dict[str, Any]:
        """Return settings for the features of `count` encoders, since each learns its own."""
        return {f"{cls.name}_features": count * getattr(config, f"{cls.name}_features")}

    @property
    def feature_groups(self) -> list[int]:
        """The first feature of each level but the coarsest: those of a level are together."""
        return list(itertools.accumulate(level.features for level in self.nodes()))[:-1]


Taps = list[tuple[Array, Array]]
"""The node and the weight of each tap along an axis, each of shape (N,) or (*E, N)."""


class LevelsEncoder(Encoder):
    """Levels interpolated at coordinates.

    Parameters
    ----------
    parameters, gradients : mappings of arrays, shapes (*E, *counts, F_l)
        Of the levels from coarse to fine; none before `with_parameters`.
    """

    learns: ClassVar[bool] = True

    def __init__(
        self,
        backend: Backend,
        encoding: LevelsEncoding,
        dtype: str,
        parameters: Mapping[str, Array] | None = None,
        gradients: Mapping[str, Array] | None = None,
    ) -> None:
        super().__init__(backend)
        self.encoding, self.dtype, self.kernel = encoding, dtype, encoding.kernel
        self.parameters, self.gradients = parameters or {}, gradients or {}
        self.levels = [*self.parameters.values()]
        self.nodes = encoding.nodes()
        ends = [*itertools.accumulate(level.features for level in self.nodes)]
        self.num_features = ends[-1]
        self._features = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
        self._axes = len(encoding.size)
        self._taps: list[list[Taps]] = []
        self._run: tuple[_OnGrid, slice] | None = None
        self._on_pixels: tuple[PixelLattice, _OnGrid] | None = None

    @property
    def ensemble(self) -> tuple[int, ...]:
        """(K,) if there are parameters of K members."""
        return tuple(self.levels[0].shape[: -self._axes - 1]) if self.levels else ()

    def with_parameters(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> LevelsEncoder:
        """Return an encoder on these arrays, shapes (*E, *counts, F_l)."""
        return LevelsEncoder(self.backend, self.encoding, self.dtype, parameters, gradients)

    # -- any pixels ----------------------------------------------------------------------------------

    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """Return features (*E, N, F) of coordinates (N, D), or (*E, N, D)."""
        self._run = None
        self._taps = [self._taps_of(level, coordinates) for level in self.nodes]
        parts = [self._interpolated(*level) for level in zip(self.levels, self._taps, strict=True)]
        return self.joined_levels(parts, out)

    def _taps_of(self, level: Level, coordinates: Array) -> list[Taps]:
        """Return the taps along each axis, in the order of arrays."""
        taps, stride = [], 1
        for k, count in enumerate(level.counts[::-1]):
            taps.append(self._along(level.places(coordinates[..., k]), count, stride))
            stride *= count
        return taps[::-1]

    def _along(self, places: Array, count: int, stride: int) -> Taps:
        """Return the taps along an axis, with nodes as integers times `stride`."""
        xp = self.backend.xp
        taps = self.kernel.along(xp, places, count)
        return [(xp.astype(node, xp.int64) * stride, weight[..., None]) for node, weight in taps]

    def _interpolated(self, level: Array, taps: list[Taps]) -> Array:
        """Return a level's features (*E, N, F_l)."""
        axes = self._axes
        ensemble, counts, features = level.shape[: -axes - 1], level.shape[-axes - 1 : -1], level.shape[-1]
        return self._summed(self.backend.xp.reshape(level, (*ensemble, math.prod(counts), features)), taps, 0)

    def _summed(self, nodes: Array, taps: list[Taps], first: Array | int) -> Array:
        """Return the sum of weighted nodes (*E, N, F_l) over the taps of all axes, from the node `first`."""
        along, *others = taps
        return sum(
            weight
            * (
                self._summed(nodes, others, first + node)
                if others
                else self.backend.take_rows(nodes, first + node)
            )
            for node, weight in along
        )

    def joined_levels(self, parts: Sequence[Array], out: Array | None) -> Array:
        """Return the features (*E, N, F) of all levels as one array."""
        if out is None or out.shape != (*parts[0].shape[:-1], self.num_features):
            return self.backend.xp.concat(parts, axis=-1)
        for features, part in zip(self._features, parts, strict=True):
            out[..., features] = part
        return out

    def backward(self, dx: Array, *, accumulate: bool = False) -> None:
        """Fill (or add to) the gradients, from dx (*E, N, F) for the pixels of the last call."""
        for i, gradient in enumerate(self.gradients.values()):
            if not accumulate:
                gradient[...] = 0.0
            d = dx[..., self._features[i]]
            if self._run is None:
                self._scatter(d, self._taps[i], gradient)
            else:
                on_grid, rows = self._run
                on_grid.backward(d, rows, i, gradient)

    def _scatter(self, d: Array, taps: list[Taps], gradient: Array) -> None:
        """Add d (*E, N, F_l) to the nodes around each pixel."""
        xp, count = self.backend.xp, math.prod(gradient.shape[-self._axes - 1 : -1])
        nodes, parts = [], []
        for corner in itertools.product(*taps):
            nodes.append(functools.reduce(operator.add, [node for node, _ in corner]))
            parts.append(functools.reduce(operator.mul, [weight for _, weight in corner]) * d)
        sums = node_sums(self.backend, xp.concat(parts, axis=-2), xp.concat(nodes, axis=-1), count)
        gradient += xp.reshape(sums, gradient.shape)

    def jet(self, points: Jet) -> Jet:
        """Return features with their derivatives, which are those of the weights of the nodes."""
        xp = self.backend.xp
        return joined(
            xp, [self._level_jet(*level, points) for level in zip(self.nodes, self.levels, strict=True)]
        )

    def _level_jet(self, level: Level, values: Array, points: Jet) -> Jet:
        xp, along = self.backend.xp, []
        nodes = self.backend.asarray(xp.reshape(values, (-1, values.shape[-1])), "float64")
        stride = 1
        for k, count in enumerate(level.counts[::-1]):
            places = points.column(k).scaled(1.0 / level.step, -level.start / level.step)
            taps = self.kernel.jets_along(xp, places, count)
            along.append([(xp.astype(node[:, 0], xp.int64) * stride, weight) for node, weight in taps])
            stride *= count
        corners = []
        for corner in itertools.product(*along):
            weight = functools.reduce(Jet.times, [weight for _, weight in corner])
            node = functools.reduce(operator.add, [node for node, _ in corner])
            corners.append(weight.times(Jet.constant(xp.take(nodes, node, axis=0), weight)))
        return functools.reduce(Jet.plus, corners)

    # -- grids of pixels -----------------------------------------------------------------------------

    def on_grid(self, axes: GridAxes, dtype: str) -> OnGrid:
        """Return a function for the features of runs of a grid's points."""
        sides = zip((len(axes[1]), len(axes[0])), self.nodes[-1].counts, strict=self._axes == 2)
        largest = max(positions * count for positions, count in sides)
        has_tables = self._axes == 2 and largest <= _MOST_TABLE
        return _OnGrid(self, axes) if has_tables else super().on_grid(axes, dtype)

    def of_run(self, pixels: PixelLattice, rows: slice, out: Array | None = None) -> Array:
        """Return the features of training pixels in order, from `rows.start` to `rows.stop`."""
        if self._axes != 2:
            return super().of_run(pixels, rows, out)
        if self._on_pixels is None or self._on_pixels[0] is not pixels:
            self._on_pixels = pixels, _OnGrid(self, pixels.axes())
        on_grid = self._on_pixels[1]
        self._run = on_grid, rows
        return on_grid(rows, out)

    # -- the penalty ---------------------------------------------------------------------------------

    def penalty(self) -> Array | float:
        """Return smoothness times the mean squared curvature along all axes, summed over levels; shape E."""
        xp, total = self.backend.xp, 0.0
        for level in self.levels:
            for before, here, after in _neighbours(level, self._axes):
                curvature = before - 2.0 * here + after
                of_a_member = tuple(range(-self._axes - 1, 0))
                total = total + xp.sum(curvature * curvature, axis=of_a_member) * self._weight(level)
        return total

    def add_penalty_gradient(self) -> None:
        """Add the gradient of the penalty."""
        if not self.encoding.smoothness:
            return
        for level, gradient in zip(self.levels, self.gradients.values(), strict=True):
            of_axes = zip(*(_neighbours(array, self._axes) for array in (level, gradient)), strict=True)
            for (before, here, after), (of_before, of_here, of_after) in of_axes:
                d = (2.0 * self._weight(level)) * (before - 2.0 * here + after)
                of_before += d
                of_here -= 2.0 * d
                of_after += d

    def _weight(self, level: Array) -> float:
        return self.encoding.smoothness / float(math.prod(level.shape[-self._axes - 1 :]))


def _neighbours(level: Array, axes: int) -> Iterator[tuple[Array, Array, Array]]:
    """Yield views of three consecutive nodes, along each axis that is long enough; x is the last."""
    for later in reversed(range(1, axes + 1)):
        if level.shape[-later - 1] > 2:
            whole = (slice(None),) * later
            before, here, after = (
                level[..., part, *whole] for part in (slice(None, -2), slice(1, -1), slice(2, None))
            )
            yield before, here, after


class _OnGrid:
    """The features of runs of a grid's pixels, with two axes: `A_y L A_x^T` for the lines of each run."""

    def __init__(self, encoder: LevelsEncoder, axes: GridAxes) -> None:
        self.encoder, self.backend, self.width = encoder, encoder.backend, len(axes[0])
        positions = axes[1][:, 0], axes[0]
        self.tables = [
            [self.backend.asarray(A, encoder.dtype) for A in level.matrices(encoder.kernel, positions)]
            for level in encoder.nodes
        ]

    def __call__(self, rows: slice, out: Array | None = None) -> Array:
        """Return features (*E, n, F) of the pixels from `rows.start` to `rows.stop`."""
        lines, skipped = self._lines(rows)
        n = rows.stop - rows.start
        parts = []
        for level, (A_y, A_x) in zip(self.encoder.levels, self.tables, strict=True):
            reshape, matmul = self.backend.xp.reshape, self.backend.matmul
            *ensemble, height, _, F = level.shape
            along_x = reshape(matmul(A_x, level), (*ensemble, height, self.width * F))
            y = reshape(matmul(A_y[lines, :], along_x), (*ensemble, -1, F))
            parts.append(y[..., skipped : skipped + n, :])
        return self.encoder.joined_levels(parts, out)

    def backward(self, d: Array, rows: slice, i: int, gradient: Array) -> None:
        """Add `A_y^T d A_x` to a level's gradient, for d (*E, n, F) of a run of pixels."""
        xp, matmul, (A_y, A_x) = self.backend.xp, self.backend.matmul, self.tables[i]
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
