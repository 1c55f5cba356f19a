"""The network that makes colours of a pixel's latents, in floating point, with its gradient by hand.

    O = S x + b + W_2 max(0, W_1 x + b_1)

for the features x of a pixel: the latents of all levels, enlarged. `A = [W_1 b_1; S b]` is one product. Strips
of rows go through forward and backward at once, so that their activations stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..upsampling import Upsampling, strips_of
from .workers import Workers, divided

_PIXELS = 24576  # of a strip

Real = NDArray[np.floating[Any]]


def decoder_shapes(features: int, hidden: int, colours: int) -> list[tuple[int, int]]:
    """Return the shapes of A, with the biases in its last column, and of `W_2`."""
    return [(hidden + colours, features + 1), (colours, hidden)]


class _Workspace:
    """What one worker computes of a strip: features, hidden activations and colours, and their gradients."""

    def __init__(self, outputs: int, features: int, pixels: int, dtype: str) -> None:
        self.x = np.ones((features, pixels), dtype)
        self.z, self.dz = (np.empty((outputs, pixels), dtype) for _ in range(2))
        self.dx = np.empty((features - 1, pixels), dtype)


@dataclass
class _Part:
    """Some neighbouring strips, and what they add: gradients of the weights, and of each level widened."""

    strips: slice
    cells: list[slice]
    d_wide: list[Real]
    gradients: list[Real]
    squares: float = 0.0

    def clear(self) -> None:
        """Begin a new sum."""
        self.squares = 0.0
        for array in (*self.d_wide, *self.gradients):
            array.fill(0)


class DecoderNetwork:
    """The decoder of one picture's size.

    Attributes
    ----------
    weights, gradients : lists of arrays
        A and `W_2`, as `decoder_shapes` says.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        size: tuple[int, int],
        weights: list[Real],
        gradients: list[Real],
        workers: Workers | None = None,
    ) -> None:
        self.weights, self.gradients, self._workers = weights, gradients, workers or Workers(1)
        dtype = str(weights[0].dtype)
        self.size, self.strips = size, strips_of(size[0], max(1, _PIXELS // size[1]))
        used = [level for level, shape in enumerate(shapes) if shape[0]]
        self._levels = [(level, Upsampling(size, level, self.strips, dtype)) for level in used]
        ends = np.cumsum([0, *(shape[0] for shape in shapes)]).tolist()
        self._features = [slice(ends[level], ends[level + 1]) for level in used]
        self._wide = [np.empty((*shapes[level][:2], size[1]) if level else 0, dtype) for level in used]
        outputs, features = weights[0].shape
        pixels = self.strips[0].stop * size[1]
        self._spaces = [_Workspace(outputs, features, pixels, dtype) for _ in range(self._workers.count)]
        self._parts = [self._part(strips, shapes) for strips in divided(len(self.strips))]

    def _part(self, strips: slice, shapes: Sequence[tuple[int, int, int]]) -> _Part:
        cells = [up.cells(strips) for _, up in self._levels]
        sizes = [
            (shapes[level][0], rows.stop - rows.start, self.size[1])
            for (level, _), rows in zip(self._levels, cells, strict=True)
        ]
        d_wide = [np.empty(size, self.weights[0].dtype) for size in sizes]
        return _Part(strips, cells, d_wide, [np.empty_like(w) for w in self.weights])

    def forward(self, y: Sequence[Real]) -> Real:
        """Return the colours (C, H, W) of latents y, finest first."""
        wide = self._widened(y)
        colours = np.empty((self.weights[1].shape[0], *self.size), self.weights[0].dtype)

        def draw(part: _Part, worker: int) -> None:
            for i in range(part.strips.start, part.strips.stop):
                _, _, out = self._strip(self._spaces[worker], wide, i)
                colours[:, self.strips[i]] = out.reshape(colours[:, self.strips[i]].shape)

        self._workers.run([partial(draw, part) for part in self._parts])
        return colours

    def squared_error(self, y: Sequence[Real], target: Real, d_y: Sequence[Real]) -> float:
        """Return the sum of squared errors against target (C, H, W); add half its gradient to the others'."""
        wide = self._widened(y)

        def add_part(part: _Part, worker: int) -> None:
            part.clear()
            for i in range(part.strips.start, part.strips.stop):
                self._add_strip(part, self._spaces[worker], wide, i, target)

        def add_level(j: int, worker: int) -> None:
            level, up = self._levels[j]
            for part in self._parts:
                up.add_gradient(part.d_wide[j], d_y[level][:, part.cells[j]])

        self._workers.run([partial(add_part, part) for part in self._parts])
        self._workers.run([partial(add_level, j) for j in reversed(range(len(self._levels)))])
        for part in self._parts:
            for whole, gradient in zip(self.gradients, part.gradients, strict=True):
                whole += gradient
        return sum(part.squares for part in self._parts)

    def _widened(self, y: Sequence[Real]) -> list[Real]:
        """Return `L A_x^T` of all levels; level 0 is not copied."""
        wide = list(self._wide)

        def widen(j: int, worker: int) -> None:
            level, up = self._levels[j]
            wide[j] = up.widen(y[level], self._wide[j])

        self._workers.run([partial(widen, j) for j in reversed(range(len(wide)))])
        return wide

    def _strip(self, space: _Workspace, wide: Sequence[Real], i: int) -> tuple[Real, Real, Real]:
        """Return features, hidden activations and colours of a strip's pixels, each (n, pixels)."""
        rows = self.strips[i].stop - self.strips[i].start
        pixels = rows * self.size[1]
        x, z = space.x[:, :pixels], space.z[:, :pixels]
        for (_, up), part, w in zip(self._levels, self._features, wide, strict=True):
            up.strip(w, i, x[part].reshape(-1, rows, self.size[1]))
        first, last = self.weights
        np.matmul(first, x, out=z)
        hidden, out = z[: last.shape[1]], z[last.shape[1] :]
        np.maximum(hidden, 0, out=hidden)
        out += last @ hidden
        return x, hidden, out

    def _add_strip(self, part: _Part, space: _Workspace, wide: Sequence[Real], i: int, target: Real) -> None:
        """Add a strip's squared error and gradients to a part."""
        strip = target[:, self.strips[i]]
        x, hidden, d_out = self._strip(space, wide, i)
        d_out -= strip.reshape(d_out.shape)
        part.squares += float(np.vdot(d_out, d_out))
        (first, last), count = self.weights, hidden.shape[0]
        dz, dx = space.dz[:, : x.shape[1]], space.dx[:, : x.shape[1]]
        part.gradients[1] += d_out @ hidden.T
        np.matmul(last.T, d_out, out=dz[:count])
        dz[:count] *= hidden > 0
        dz[count:] = d_out
        part.gradients[0] += dz @ x.T
        np.matmul(first[:, :-1].T, dz, out=dx)
        for j, (_, up) in enumerate(self._levels):
            d_level = dx[self._features[j]].reshape(-1, *strip[0].shape)
            up.add_strip_gradient(d_level, i, part.d_wide[j], part.cells[j].start)
