"""The network that makes colours of a pixel's latents, in floating point, with its gradient by hand.

    O = S x + b + W_2 max(0, W_1 x + b_1)

for the features x of a pixel: the latents of all levels, enlarged. `A = [W_1 b_1; S b]` is one product. Strips
of rows go through forward and backward at once, so that their activations stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..upsampling import Upsampling, strips_of

_PIXELS = 12288  # of a strip

Real = NDArray[np.floating[Any]]


def decoder_shapes(features: int, hidden: int, colours: int) -> list[tuple[int, int]]:
    """Return the shapes of A, with the biases in its last column, and of `W_2`."""
    return [(hidden + colours, features + 1), (colours, hidden)]


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
    ) -> None:
        self.weights, self.gradients = weights, gradients
        dtype = str(weights[0].dtype)
        self.strips = strips_of(size[0], max(1, _PIXELS // size[1]))
        self._levels = [
            (level, Upsampling(size, level, self.strips, dtype))
            for level, shape in enumerate(shapes)
            if shape[0]
        ]
        ends = np.cumsum([0, *(shape[0] for shape in shapes)]).tolist()
        self._features = [slice(ends[level], ends[level + 1]) for level, _ in self._levels]
        pixels = self.strips[0].stop * size[1]
        outputs, features = weights[0].shape
        self._x = np.ones((features, pixels), dtype)
        self._z = np.empty((outputs, pixels), dtype)
        self._dz = np.empty((outputs, pixels), dtype)
        self._dx = np.empty((features - 1, pixels), dtype)
        self.size = size

    def forward(self, y: Sequence[Real]) -> Real:
        """Return the colours (C, H, W) of latents y, finest first."""
        wide = [up.widen(y[level]) for level, up in self._levels]
        colours = np.empty((self.weights[1].shape[0], *self.size), self._x.dtype)
        for i, strip in enumerate(self.strips):
            _, _, out = self._strip(wide, i)
            colours[:, strip] = out.reshape(colours[:, strip].shape)
        return colours

    def squared_error(self, y: Sequence[Real], target: Real, d_y: Sequence[Real]) -> float:
        """Return the sum of squared errors against target (C, H, W); add half its gradient to the others'."""
        wide = [up.widen(y[level]) for level, up in self._levels]
        d_wide = [np.zeros_like(w) for w in wide]
        total = 0.0
        for i, strip in enumerate(self.strips):
            x, z, out = self._strip(wide, i)
            out -= target[:, strip].reshape(out.shape)
            total += float(np.vdot(out, out))
            dx = self._backward(x, z, out)
            for (_, up), part, d_w in zip(self._levels, self._features, d_wide, strict=True):
                up.add_strip_gradient(dx[part].reshape(-1, *target[0, strip].shape), i, d_w)
        for (level, up), d_w in zip(self._levels, d_wide, strict=True):
            up.add_gradient(d_w, d_y[level])
        return total

    def _strip(self, wide: Sequence[Real], i: int) -> tuple[Real, Real, Real]:
        """Return features, hidden activations and colours of a strip's pixels, each (n, pixels)."""
        rows = self.strips[i].stop - self.strips[i].start
        pixels = rows * self.size[1]
        x, z = self._x[:, :pixels], self._z[:, :pixels]
        for (_, up), part, w in zip(self._levels, self._features, wide, strict=True):
            up.strip(w, i, x[part].reshape(-1, rows, self.size[1]))
        first, last = self.weights
        np.matmul(first, x, out=z)
        hidden, out = z[: last.shape[1]], z[last.shape[1] :]
        np.maximum(hidden, 0, out=hidden)
        out += last @ hidden
        return x, hidden, out

    def _backward(self, x: Real, hidden: Real, d_out: Real) -> Real:
        """Add to the gradients of the weights; return that of the features."""
        (first, last), count = self.weights, hidden.shape[0]
        dz, dx = self._dz[:, : x.shape[1]], self._dx[:, : x.shape[1]]
        self.gradients[1] += d_out @ hidden.T
        np.matmul(last.T, d_out, out=dz[:count])
        dz[:count] *= hidden > 0
        dz[count:] = d_out
        self.gradients[0] += dz @ x.T
        np.matmul(first[:, :-1].T, dz, out=dx)
        return dx
