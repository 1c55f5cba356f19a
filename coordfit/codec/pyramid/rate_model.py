"""Bits of a pyramid's latents under a context network in floating point, and their gradient.

It sees what `contexts.Scan` shows the integer network: neighbours of the same level and channel, those in the
next coarser level, and the level's and the channel's index. Training needs no order, so that a context is a row
of shifted copies. `quantise` makes the integer network of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contexts import COARSER, INPUTS, NEIGHBOURS
from .laplace import laplace_bits
from .workers import PARTS, Workers, divided

_BATCH = 16384  # latents whose contexts are gathered at a time
_TOP, _LEFT, _RIGHT = 3, 3, 2  # the reach of NEIGHBOURS
_FEWEST_ROWS = 3  # of a batch: more than a context reaches beyond a batch and the next

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
    """Return all latents as batches of at most `most` latents, or of three rows."""
    batches: list[list[_Piece]] = []
    used = most
    for level, (channels, height, width) in enumerate(shapes):
        for channel in range(channels):
            row = 0
            while row < height:
                free = (most - used) // width
                if free < min(_FEWEST_ROWS, height - row):
                    batches.append([])
                    free, used = max(most // width, _FEWEST_ROWS), 0
                rows = min(free, height - row)
                columns = slice(used, used + rows * width)
                batches[-1].append(_Piece(level, channel, slice(row, row + rows), columns))
                used, row = columns.stop, row + rows
    return batches


class _Workspace:
    """What one worker computes of a batch: the values, and the inputs of all layers with their gradients."""

    def __init__(self, weights: Sequence[Real], most: int) -> None:
        dtype = weights[0].dtype
        self.values = np.empty(most, dtype)
        self.inputs = [np.ones((w.shape[1], most), dtype) for w in weights]
        self.d_inputs = [np.empty((w.shape[1] - 1, most), dtype) for w in weights]


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
        self,
        shapes: Sequence[tuple[int, int, int]],
        weights: list[Real],
        gradients: list[Real],
        workers: Workers | None = None,
    ) -> None:
        self.weights, self.gradients, self._workers = weights, gradients, workers or Workers(1)
        self._canvases = [_Canvas(shape, str(weights[0].dtype)) for shape in shapes]
        self.batches = _batches(shapes, _BATCH)
        most = max((batch[-1].columns.stop for batch in self.batches), default=0)
        self._spaces = [_Workspace(weights, most) for _ in range(self._workers.count)]
        self._partial = [[np.zeros_like(g) for g in gradients] for _ in range(PARTS)]

    def bits(self, y: Sequence[Real], weights: Sequence[Real] | None = None) -> float:
        """Return the bits of latents y, finest first, with these weights if there are some."""
        self._show(y)
        found = np.zeros(len(self.batches))

        def count(part: slice, worker: int) -> None:
            for i in range(part.start, part.stop):
                laws = self._forward(self._spaces[worker], self.batches[i], y, weights or self.weights)
                found[i] = laplace_bits(*laws)[0]

        self._workers.run([partial(count, part) for part in divided(len(self.batches))])
        return float(found.sum())

    def add_gradient(
        self, y: Sequence[Real], d_y: Sequence[Real], price: float, some: Sequence[int] | None = None
    ) -> float:
        """Return the bits of latents y; add `price` times their gradient to d_y and `gradients`.

        With `some` of the batches by number, both are estimates from those. A part of the batches shares rows
        with the next part: its last batch waits for the first of that one.
        """
        self._show(y)
        batches = [self.batches[i] for i in (range(len(self.batches)) if some is None else sorted(some))]
        share = len(self.batches) / len(batches)
        parts = divided(len(batches))
        begun = [Event() for _ in (*parts, None)]
        begun[-1].set()
        found = np.zeros(len(batches))

        def add(k: int, worker: int) -> None:
            part = parts[k]
            for gradient in self._partial[k]:
                gradient.fill(0)
            for i in range(part.start, part.stop):
                if i == part.stop - 1:
                    begun[k + 1].wait()
                found[i] = self._add_batch(self._spaces[worker], batches[i], y, d_y, price * share, k)
                begun[k].set()

        def cancel() -> None:
            for event in begun:
                event.set()

        self._workers.run([partial(add, k) for k in range(len(parts))], cancel)
        for gradients in self._partial[: len(parts)]:
            for whole, gradient in zip(self.gradients, gradients, strict=True):
                whole += gradient
        for i, canvas in enumerate(self._canvases):
            canvas.add_gradients(d_y[i], d_y[i + 1] if i + 1 < len(d_y) else None)
        return float(found.sum()) * share

    def _add_batch(
        self,
        space: _Workspace,
        batch: list[_Piece],
        y: Sequence[Real],
        d_y: Sequence[Real],
        price: float,
        k: int,
    ) -> float:
        """Return the bits of a batch; add the gradient to d_y, to the canvases and to those of part k."""
        bits, d_value, d_log_scale = laplace_bits(*self._forward(space, batch, y, self.weights))
        dz = np.stack([-d_value, d_log_scale])
        dz *= price
        for piece in batch:
            part = piece.of(d_y[piece.level])
            part -= dz[0, piece.columns].reshape(part.shape)
        self._backward(space, dz, self._partial[k])
        for piece in batch:
            for row, view in zip(space.d_inputs[0], self._canvases[piece.level].d_views, strict=False):
                part = piece.of(view)
                part += row[piece.columns].reshape(part.shape)
        return bits

    def _show(self, y: Sequence[Real]) -> None:
        for i, canvas in enumerate(self._canvases):
            canvas.show(y[i], y[i + 1] if i + 1 < len(y) else None)

    def _forward(
        self, space: _Workspace, batch: list[_Piece], y: Sequence[Real], weights: Sequence[Real]
    ) -> tuple[Real, Real, Real]:
        """Return the values of a batch and their laws: means and logarithms of b."""
        size = batch[-1].columns.stop
        inputs = [x[:, :size] for x in space.inputs]
        values = space.values[:size]
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

    def _backward(self, space: _Workspace, dz: Real, gradients: Sequence[Real]) -> None:
        """Add `dz x^T` of each layer to its gradient, and fill the gradients of the inputs."""
        size = dz.shape[1]
        for i in reversed(range(len(self.weights))):
            x, dx = space.inputs[i][:, :size], space.d_inputs[i][:, :size]
            gradients[i][...] += dz @ x.T
            np.matmul(self.weights[i][:, :-1].T, dz, out=dx)
            if i:
                dx *= x[:-1] > 0
            dz = dx


def context_shapes(units: int) -> list[tuple[int, int]]:
    """Return the shapes of the weights of a context network with two hidden layers."""
    return [(units, INPUTS + 1), (units, units + 1), (2, units + 1)]
