"""The linear algebra of Gauss-Newton in the space of residuals: J, the tangent kernel `J J^T`, and its solver.

The gradient of an output with respect to a layer's weights is the outer product of the layer's input a and of
the output's derivative d with respect to the layer's z, so the kernel of one channel is

    (J J^T)_nm = sum over layers of (a_n . a_m + 1) (d_n . d_m).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backends import Array, Backend
from ..network.mlp import MLP

# Conjugate gradients end when this share of the residual is left, or after this number of iterations.
_TOLERANCE, _MOST_ITERATIONS = 0.03, 25
_PANEL = 64


class Jacobian:
    """The Jacobian J of the outputs at the last `forward` of one network, as products with it.

    The network must not run forward meanwhile, as its layers' inputs and outputs are used. The rows of J have
    factors `scale` (N, 1): square roots of the pixels' weights.
    """

    def __init__(self, mlp: MLP, scale: Array | None = None) -> None:
        self.backend: Backend = mlp.backend
        self.mlp, self.xp = mlp, mlp.backend.xp
        numbers = mlp.backend.as_numbers
        self.inputs = [numbers(layer.x) for layer in mlp.layers]
        self.slopes = [
            layer.activation.backward(self.xp, self.xp.ones_like(saved), saved)
            for layer, saved in ((layer, numbers(layer.saved)) for layer in mlp.layers)
        ]
        if scale is not None:
            self.slopes[-1] = self.slopes[-1] * scale

    def times(self, direction: Array) -> Array:
        """Return `J v` (N, C) for a flat direction v (P,), by a forward pass of tangents."""
        matmul, tangent = self.backend.matmul, None
        for x, slope, layer, (dW, db) in zip(
            self.inputs, self.slopes, self.mlp.layers, self._views(direction), strict=True
        ):
            dz = matmul(x, dW) + db
            if tangent is not None:
                dz = dz + matmul(tangent, layer.W)
            tangent = slope * dz
        return tangent

    def transposed_times(self, dy: Array) -> Array:
        """Return `J^T u` (P,) for u (N, C), by a backward pass that changes no buffer of the network."""
        xp, matmul = self.xp, self.backend.matmul
        flat = self.backend.zeros(self.mlp.parameters.shape, self.mlp.dtype)
        dz = dy * self.slopes[-1]
        for i, (dW, db) in reversed(list(enumerate(self._views(flat)))):
            dW[...] = matmul(self.inputs[i], dz, transpose_a=True)
            db[...] = xp.sum(dz, axis=-2, keepdims=True)
            if i:
                dz = matmul(dz, self.mlp.layers[i].W, transpose_b=True) * self.slopes[i - 1]
        return flat

    def inner_products(self) -> list[Array]:
        """Return `a_n . a_m + 1` (N, N) of each layer's inputs, which the kernels of all colours share."""
        products = []
        for x in self.inputs:
            product = self.backend.matmul(x, x, transpose_b=True)
            product += 1.0
            products.append(product)
        return products

    def kernel(self, colour: Array, inner_products: list[Array]) -> Array:
        """Return the block (N, N) of `J J^T` for the residuals `u . r_n` of all pixels in a colour u (1, C)."""
        total = None
        for inner, d in zip(inner_products, self._derivatives(colour), strict=True):
            part = self.backend.matmul(d, d, transpose_b=True)
            part *= inner
            if total is None:
                total = part
            else:
                total += part
        return total

    def _derivatives(self, colour: Array) -> list[Array]:
        """Return `d(u . y) / dz` (N, n_out) of each layer, from first to last, for u (1, C)."""
        dz = self.slopes[-1] * colour
        found = [dz]
        for layer, slope in zip(self.mlp.layers[:0:-1], self.slopes[-2::-1], strict=True):
            dz = self.backend.matmul(dz, layer.W, transpose_b=True) * slope
            found.append(dz)
        return found[::-1]

    def _views(self, flat: Array) -> Iterator[tuple[Array, Array]]:
        return self.mlp.layout.views(self.xp, flat)


class CholeskySolver:
    """Solves `(A + mu I) x = b` for a positive definite `A + mu I` (n, n), by panels of its factor L.

    Panels turn nearly all work into products, which BLAS does four times as fast as LAPACK factors a matrix of
    this size. NumPy and the array API standard have no triangular solve, so diagonal blocks are inverted.
    """

    def __init__(self, backend: Backend, matrix: Array, mu: float) -> None:
        xp, n = backend.xp, matrix.shape[-1]
        self.backend, self.factor = backend, matrix + 0.0
        xp.reshape(self.factor, (-1,))[:: n + 1] += mu
        self.panels = [slice(start, min(start + _PANEL, n)) for start in range(0, n, _PANEL)]
        self.inverses = [self._factor_panel(panel) for panel in self.panels]

    def _factor_panel(self, panel: slice) -> Array:
        """Fill a panel of L, and return the inverse of its diagonal block."""
        L, matmul, linalg = self.factor, self.backend.matmul, self.backend.xp.linalg
        previous = slice(panel.start, None)
        rest = L[previous, panel]
        if panel.start:
            done = slice(0, panel.start)
            rest = rest - matmul(L[previous, done], L[panel, done], transpose_b=True)
        size = panel.stop - panel.start
        diagonal = linalg.cholesky(rest[:size, :])
        inverse = linalg.inv(diagonal)
        L[panel, panel] = diagonal
        if panel.stop < L.shape[-1]:
            L[panel.stop :, panel] = matmul(rest[size:, :], inverse, transpose_b=True)
        return inverse

    def __call__(self, b: Array) -> Array:
        """Return x (n, k) for b (n, k)."""
        matmul, factor = self.backend.matmul, self.factor
        x = b + 0.0
        for panel, inverse in zip(self.panels, self.inverses, strict=True):
            known = slice(0, panel.start)
            rest = x[panel, :] - matmul(factor[panel, known], x[known, :]) if panel.start else x[panel, :]
            x[panel, :] = matmul(inverse, rest)
        n = x.shape[-2]
        for panel, inverse in zip(self.panels[::-1], self.inverses[::-1], strict=True):
            known = slice(panel.stop, n)
            rest = x[panel, :]
            if panel.stop < n:
                rest = rest - matmul(factor[known, panel], x[known, :], transpose_a=True)
            x[panel, :] = matmul(inverse, rest, transpose_a=True)
        return x


class Preconditioner:
    """`J J^T + mu I` without the blocks between different colours, the orthogonal rows of `colours` (C, C)."""

    def __init__(self, jacobian: Jacobian, colours: Array) -> None:
        self.backend, self.colours = jacobian.backend, colours
        inner = jacobian.inner_products()
        self.kernels = self._for_each(lambda c: jacobian.kernel(colours[c : c + 1, :], inner))
        self.solvers: list[CholeskySolver] = []
        diagonals = [_mean_diagonal(self.backend.xp, kernel) for kernel in self.kernels]
        self.mean_diagonal = sum(diagonals) / len(diagonals)

    def factor(self, mu: float) -> bool:
        """Factor the blocks for this mu; return False if rounding makes one of them indefinite."""
        try:
            self.solvers = self._for_each(lambda c: CholeskySolver(self.backend, self.kernels[c], mu))
        except np.linalg.LinAlgError:
            return False
        return True

    def __call__(self, v: Array) -> Array:
        """Return the solution (N, C) of the simplified system for v (N, C)."""
        matmul = self.backend.matmul
        turned = matmul(v, self.colours, transpose_b=True)
        solved = self._for_each(lambda c: self.solvers[c](turned[:, c : c + 1]))
        return matmul(self.backend.xp.concat(solved, axis=-1), self.colours)

    def _for_each(self, work: Callable[[int], Any]) -> list[Any]:
        """Return `work(c)` for each colour, computed by the workers."""
        results: list[Any] = [None] * self.colours.shape[0]

        def run(c: int) -> None:
            results[c] = work(c)

        self.backend.run_workers([functools.partial(run, c) for c in range(len(results))])
        return results


def principal_colours(mlp: MLP) -> Array:
    """Return orthogonal directions (C, C) in the space of colours, as rows, whose kernels hardly interact.

    Through the hidden layers, the kernel of channels c and d is nearly `W_c . W_d` times a common matrix, for
    the last layer's W. So it is nearly block diagonal in the axes of `W^T W`.
    """
    W = np.asarray(mlp.backend.to_numpy(mlp.layers[-1].W), np.float64)
    return mlp.backend.asarray(np.linalg.eigh(W.T @ W)[1].T, mlp.dtype)


def conjugate_gradients(
    xp: Any, product: Callable[[Array], Array], precondition: Callable[[Array], Array], b: Array
) -> tuple[Array, Array]:
    """Return an approximate x with `A x = b`, for a positive definite A given as a product, and `b - A x`.

    It starts at `precondition(b)`, and ends when `|b - A x| <= _TOLERANCE |b|` or after `_MOST_ITERATIONS`.
    """
    limit = _TOLERANCE**2 * dot(xp, b, b)
    x = precondition(b)
    left = b - product(x)
    direction, old = None, 1.0
    for _ in range(_MOST_ITERATIONS):
        if dot(xp, left, left) <= limit:
            break
        z = precondition(left)
        new = dot(xp, left, z)
        direction = z if direction is None else z + (new / old) * direction
        image = product(direction)
        curvature = dot(xp, direction, image)
        if not curvature > 0.0:  # rounding, or NaN
            break
        x, left, old = x + (new / curvature) * direction, left - (new / curvature) * image, new
    return x, left


def _mean_diagonal(xp: Any, matrix: Array) -> float:
    n = matrix.shape[-1]
    return float(xp.sum(xp.reshape(matrix, (-1,))[:: n + 1])) / float(n)


def dot(xp: Any, a: Array, b: Array) -> float:
    """Return the inner product of two arrays."""
    return float(xp.sum(a * b))
