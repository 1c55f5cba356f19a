"""Bits of a pyramid's latents under a context network in floating point, and their gradient.

It sees what `contexts.Scan` shows the integer network: neighbours of the same level and channel, those in the
next coarser level, and the level's and the channel's index. Training needs no order, so that a context is a row
of shifted copies. `quantise` makes the integer network of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contexts import COARSER, INPUTS, NEIGHBOURS
from .laplace import laplace_bits

_BATCH = 16384  # latents whose contexts are gathered at a time
_TOP, _LEFT, _RIGHT = 3, 3, 2  # the reach of NEIGHBOURS

Real = NDArray[np.floating[Any]]


class _Canvas:
    """A level with a border of zeros, the next coarser level at twice its size, and the gradients of both."""

    def __init__(self, shape: tuple[int, int, int], dtype: str) -> None:
        channels, height, width = self.shape = shape
        coarse = -(-height // 2) + 2, -(-width // 2) + 2
        self.own = np.zeros((channels, height + _TOP, width + _LEFT + _RIGHT), dtype)
        self.above = np.zeros((channels, coarse[0], 2, coarse[1], 2), dtype)
        self.d_own, self.d_above = np.zeros_like(self.own), np.zeros_like(self.above)
        self.views = self._shifted(self.own, self.above)
        self.d_views = self._shifted(self.d_own, self.d_above)

    def _shifted(self, own: Real, above: Real) -> list[Real]:
        """Return the level as each context input sees it, (C, H, W) views."""
        height, width = self.shape[1:]
        doubled = above.reshape(above.shape[0], 2 * above.shape[1], 2 * above.shape[3])
        near = [own[:, _TOP + dy :, _LEFT + dx :] for dy, dx in NEIGHBOURS]
        far = [doubled[:, 2 + 2 * dy :, 2 + 2 * dx :] for dy, dx in COARSER]
        return [view[:, :height, :width] for view in (*near, *far)]

    def show(self, y: Real, coarser: Real | None) -> None:
        """Take the values of the level (C, H, W) and of the coarser level (C', h, w)."""
        self.own[:, _TOP:, _LEFT:-_RIGHT] = y
        if coarser is not None:
            shared = min(y.shape[0], coarser.shape[0])
            self.above[:shared, 1:-1, :, 1:-1, :] = coarser[:shared, :, None, :, None]
        self.d_own.fill(0)
        self.d_above.fill(0)

    def add_gradients(self, d_y: Real, d_coarser: Real | None) -> None:
        """Add what the contexts' gradients say to those of the level and of the coarser one."""
        d_y += self.d_own[:, _TOP:, _LEFT:-_RIGHT]
        if d_coarser is not None:
            shared = min(d_y.shape[0], d_coarser.shape[0])
            rows = self.d_above[:shared, 1:-1, 0] + self.d_above[:shared, 1:-1, 1]
            d_coarser[:shared] += rows[:, :, 1:-1, 0]
            d_coarser[:shared] += rows[:, :, 1:-1, 1]


@dataclass(frozen=True)
class _Piece:
    """Rows of one channel of one level, and the columns of the batch that hold their latents."""

    level: int
    channel: int
    rows: slice
    columns: slice

    def of(self, view: Real) -> Real:
        """Return its latents in a view (C, H, W)."""
        return view[self.channel, self.rows]


def _batches(shapes: Sequence[tuple[int, int, int]], most: int) -> list[list[_Piece]]:
    """Return all latents as batches of at most `most` latents, or of one row."""
    batches: list[list[_Piece]] = []
    used = most
    for level, (channels, height, width) in enumerate(shapes):
        for channel in range(channels):
            row = 0
            while row < height:
                free = (most - used) // width
                if free < 1:
                    batches.append([])
                    free, used = most // width, 0
                rows = min(max(free, 1), height - row)
                columns = slice(used, used + rows * width)
                batches[-1].append(_Piece(level, channel, slice(row, row + rows), columns))
                used, row = columns.stop, row + rows
    return batches


class RateModel:
    """A context network with two hidden layers of ReLU, and what it needs for the levels of one pyramid.

    Attributes
    ----------
    weights : list of arrays
        W (n_out, n_in + 1) of the three layers, the bias in the last column.
    gradients : list of arrays
        Of the same shapes.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int, int]], weights: list[Real], gradients: list[Real]
    ) -> None:
        self.weights, self.gradients = weights, gradients
        dtype = str(weights[0].dtype)
        self._canvases = [_Canvas(shape, dtype) for shape in shapes]
        self.batches = _batches(shapes, _BATCH)
        most = max((batch[-1].columns.stop for batch in self.batches), default=0)
        self._values = np.empty(most, dtype)
        self._inputs = [np.ones((w.shape[1], most), dtype) for w in weights]
        self._d_inputs = [np.empty((w.shape[1] - 1, most), dtype) for w in weights]

    def bits(self, y: Sequence[Real], weights: Sequence[Real] | None = None) -> float:
        """Return the bits of latents y, finest first, with these weights if there are some."""
        self._show(y)
        return sum(laplace_bits(*self._forward(batch, y, weights or self.weights))[0] for batch in self.batches)

    def add_gradient(
        self, y: Sequence[Real], d_y: Sequence[Real], price: float, some: Sequence[int] | None = None
    ) -> float:
        """Return the bits of latents y; add `price` times their gradient to d_y and `gradients`.

        With `some` of the batches by number, both are estimates from those.
        """
        self._show(y)
        bits = 0.0
        batches = self.batches if some is None else [self.batches[i] for i in some]
        price *= len(self.batches) / len(batches)
        for batch in batches:
            batch_bits, d_value, d_log_scale = laplace_bits(*self._forward(batch, y, self.weights))
            bits += batch_bits
            dz = np.stack([-d_value, d_log_scale])
            dz *= price
            for piece in batch:
                part = piece.of(d_y[piece.level])
                part -= dz[0, piece.columns].reshape(part.shape)
            self._backward(dz)
            self._scatter(batch)
        for i, canvas in enumerate(self._canvases):
            canvas.add_gradients(d_y[i], d_y[i + 1] if i + 1 < len(d_y) else None)
        return bits * len(self.batches) / len(batches)

    def _show(self, y: Sequence[Real]) -> None:
        for i, canvas in enumerate(self._canvases):
            canvas.show(y[i], y[i + 1] if i + 1 < len(y) else None)

    def _forward(
        self, batch: list[_Piece], y: Sequence[Real], weights: Sequence[Real]
    ) -> tuple[Real, Real, Real]:
        """Return the values of a batch and their laws: means and logarithms of b."""
        size = batch[-1].columns.stop
        inputs = [x[:, :size] for x in self._inputs]
        values = self._values[:size]
        self._gather(batch, inputs[0], values, y)
        for w, x, after in zip(weights, inputs, inputs[1:], strict=False):
            np.matmul(w, x, out=after[:-1])
            np.maximum(after[:-1], 0, out=after[:-1])
        mean, log_scale = weights[-1] @ inputs[-1]
        return values, mean, log_scale

    def _gather(self, batch: list[_Piece], x: Real, values: Real, y: Sequence[Real]) -> None:
        for piece in batch:
            at = piece.columns
            for k, view in enumerate(self._canvases[piece.level].views):
                part = piece.of(view)
                x[k, at].reshape(part.shape)[...] = part
            x[INPUTS - 2, at] = piece.level
            x[INPUTS - 1, at] = piece.channel
            part = piece.of(y[piece.level])
            values[at].reshape(part.shape)[...] = part

    def _backward(self, dz: Real) -> None:
        """Add `dz x^T` of each layer to its gradient, and fill the gradients of the inputs."""
        size = dz.shape[1]
        for i in reversed(range(len(self.weights))):
            x, dx = self._inputs[i][:, :size], self._d_inputs[i][:, :size]
            self.gradients[i] += dz @ x.T
            np.matmul(self.weights[i][:, :-1].T, dz, out=dx)
            if i:
                dx *= x[:-1] > 0
            dz = dx

    def _scatter(self, batch: list[_Piece]) -> None:
        for piece in batch:
            for row, view in zip(self._d_inputs[0], self._canvases[piece.level].d_views, strict=False):
                part = piece.of(view)
                part += row[piece.columns].reshape(part.shape)


def context_shapes(units: int) -> list[tuple[int, int]]:
    """Return the shapes of the weights of a context network with two hidden layers."""
    return [(units, INPUTS + 1), (units, units + 1), (2, units + 1)]
