"""Levels of a pyramid enlarged to the picture's size: `A_y L A_x^T`, with four cubic weights in a row of A.

The weights are multiples of 2^-12 whose rows sum to 1, so that float64 products of integer latents are exact.
Products run over blocks of a few output rows or columns, in which the band of A is a small dense matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..encoders.interpolation import CUBIC
from ..signals.grid import SampleGrid

WEIGHT_BITS = 12
_COLUMNS = 64  # of a block

Real = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Block:
    """Some of the output's rows or columns, the cells that they need, and their weights (outputs, cells)."""

    outputs: slice
    cells: slice
    weights: Real

    @classmethod
    def of(
        cls,
        length: int,
        scale: int,
        outputs: slice,
        dtype: str = "float64",
        drawn: tuple[float, float] | None = None,
    ) -> Block:
        """Return the Catmull-Rom weights of cells that are `scale` of `length` pixels wide, for some outputs.

        There are `length` outputs in all; or, as `drawn` says, another number, of which some come before the
        first. Cells beyond the ends have the value of the last.
        """
        full, skipped = drawn or (length, 0)
        place = (np.arange(outputs.start, outputs.stop) + (skipped + 0.5)) * length / full / scale - 0.5
        taps = CUBIC.along(np, place, -(-length // scale))
        weights = np.rint(np.stack([weight for _, weight in taps], axis=1) * (1 << WEIGHT_BITS))
        rows = np.arange(place.size)
        weights[rows, weights.argmax(1)] += (1 << WEIGHT_BITS) - weights.sum(1)
        cell = np.stack([node for node, _ in taps], axis=1).astype(np.int64)
        cells = slice(int(cell.min()), int(cell.max()) + 1)
        matrix = np.zeros((place.size, cells.stop - cells.start))
        for k in range(4):
            matrix[rows, cell[:, k] - cells.start] += weights[:, k]
        return cls(outputs, cells, (matrix / (1 << WEIGHT_BITS)).astype(dtype))


class Upsampling:
    """The enlargement of one level (C, h, w) to (C, H, W), in strips of rows; level 0 is passed on.

    Parameters
    ----------
    size : (H, W)
    level : int
        The level has `ceil(H / 2^level)` rows.
    strips : slices
        Of the output's rows.
    grid : SampleGrid, optional
        The output, if it is not the picture's own pixels: those of another size, or a window.
    """

    def __init__(
        self,
        size: tuple[int, int],
        level: int,
        strips: list[slice],
        dtype: str = "float32",
        grid: SampleGrid | None = None,
    ) -> None:
        grid = grid or SampleGrid.of(*size)
        self.width, self._grid = grid.width, grid
        has_own_samples = grid.full_shape == size and all(start % 1 == 0 for start in grid.starts)
        self._is_passed_on = level == 0 and has_own_samples
        down, right = zip(grid.full_shape, grid.starts, strict=True)
        self._strips = [Block.of(size[0], 1 << level, strip, dtype, down) for strip in strips]
        columns = strips_of(self.width, _COLUMNS)
        self._columns = [Block.of(size[1], 1 << level, part, dtype, right) for part in columns]
        self._first = self._strips[0].cells.start
        self._rows = slice(self._first, max(block.cells.stop for block in self._strips))

    def cells(self, strips: slice) -> slice:
        """Return the rows of `L A_x^T` that some strips need."""
        blocks = self._strips[strips]
        if self._is_passed_on:
            return slice(blocks[0].outputs.start, blocks[-1].outputs.stop)
        return slice(
            min(block.cells.start for block in blocks) - self._first,
            max(block.cells.stop for block in blocks) - self._first,
        )

    def widen(self, latents: Real, out: Real | None = None) -> Real:
        """Return `L A_x^T` (C, h, W), of a window the rows that it needs; level 0 is returned as it is."""
        if self._is_passed_on:
            return latents[:, *self._grid.window]
        latents = latents[:, self._rows]
        wide = np.empty((*latents.shape[:2], self.width), latents.dtype) if out is None else out
        for block in self._columns:
            wide[..., block.outputs] = latents[..., block.cells] @ block.weights.T
        return wide

    def strip(self, wide: Real, i: int, out: Real) -> None:
        """Fill the rows of strip i (C, rows, W) with `A_y` times what `widen` returned."""
        block = self._strips[i]
        if self._is_passed_on:
            out[...] = wide[:, block.outputs]
            return
        cells = slice(block.cells.start - self._first, block.cells.stop - self._first)
        np.matmul(block.weights, wide[:, cells], out=out)

    def add_strip_gradient(self, d_out: Real, i: int, d_wide: Real, first: int = 0) -> None:
        """Add the gradient of strip i to that of `L A_x^T`, of which d_wide has the rows from `first` on."""
        block = self._strips[i]
        if self._is_passed_on:
            d_wide[:, block.outputs.start - first : block.outputs.stop - first] += d_out
            return
        d_wide[:, block.cells.start - first : block.cells.stop - first] += block.weights.T @ d_out

    def add_gradient(self, d_wide: Real, d_latents: Real) -> None:
        """Add the gradient `dL = d_wide A_x` to d_latents (C, h, w)."""
        if self._is_passed_on:
            d_latents += d_wide
            return
        for block in self._columns:
            d_latents[..., block.cells] += d_wide[..., block.outputs] @ block.weights


def strips_of(length: int, most: int) -> list[slice]:
    """Return slices of at most `most` rows that cover a length."""
    return [slice(i, min(i + most, length)) for i in range(0, length, most)]
