"""The last layer in closed form: least squares over the hidden units, for one network or K.

With fixed hidden layers, `y = f(H W + b)` is linear in (W, b) except for f. One Gauss-Newton step for the mean
squared error solves, for each channel c with slopes `g = f'(z_c)` and errors `e = t_c - y_c`,

    (A^T A + ridge trace(A^T A) / (H + 1) I) d = A^T e,    A = sqrt(weights) g [H, 1],

the normal equations of ridge regression towards the present weights. With an identity output one step is the
exact minimum and all channels share A; a sigmoid takes a few steps. Sums and solves are in float64, since the
condition number of `A^T A` is the square of that of A. Trained hidden layers with a solved last layer are
variable projection: Golub and Pereyra (1973).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends import Array, Backend
from ..encoders.base import Encoder
from ..network.activations import Identity
from ..network.mlp import MLP
from ..pixels.training_pixels import TrainingPixels

RIDGE = 1e-9
"""Default ridge, as a share of the mean diagonal of the normal equations."""

_BLOCK_ROWS = 4096
_MOST_STEPS = 6
# The iteration ends with a step that lowers the mean squared error by a smaller share.
_LEAST_GAIN = 0.01


@dataclass(frozen=True)
class _Errors:
    """Mean squared errors of each member, of plain predictions and of clipped ones; shapes E."""

    plain: Array
    clipped: Array


@dataclass(frozen=True)
class Polish:
    """The mean squared errors before and after a polish, unclipped, and its seconds."""

    before: float
    after: float
    seconds: float


def solve_last_layer(
    mlp: MLP, encoder: Encoder, pixels: TrainingPixels, ridge: float = RIDGE, chosen: Array | None = None
) -> tuple[Array, Array]:
    """Replace the last layer of `mlp` by the least-squares solution, if that is better.

    A member keeps its old weights if the new ones raise its mean squared error over the training pixels, of its
    predictions or of the clipped ones. The ridge, above 0, is the share of the mean diagonal of the normal
    equations that is added to the diagonal. `chosen` (n,) or (*E, n) are the numbers of the pixels that count.

    Returns the mean squared errors before and after, unclipped and weighted, shapes E.
    """
    problem = _Problem(mlp, encoder, pixels, chosen)
    xp, layer = mlp.backend.xp, problem.layer
    systems, errors = problem.linearise()
    before = errors.plain
    active = before >= 0.0  # members that still gain; False for NaN
    for _ in range(1 if problem.is_linear else _MOST_STEPS):
        old_W, old_b = layer.W + 0.0, layer.b + 0.0
        dW, db = problem.solve(systems, ridge)
        layer.W[...], layer.b[...] = layer.W + dW, layer.b + db
        mlp.backend.parameters_changed(mlp.parameters)
        systems, new = problem.linearise()
        better = active & (new.plain < errors.plain) & (new.clipped <= errors.clipped)
        layer.W[...] = xp.where(better[..., None, None], layer.W, old_W)
        layer.b[...] = xp.where(better[..., None, None], layer.b, old_b)
        mlp.backend.parameters_changed(mlp.parameters)
        active = better & (new.plain < (1.0 - _LEAST_GAIN) * errors.plain)
        errors = _Errors(
            xp.where(better, new.plain, errors.plain), xp.where(better, new.clipped, errors.clipped)
        )
        if float(xp.sum(mlp.backend.asarray(active, "float64"))) == 0.0:
            break
    return before, errors.plain


def least_squares(
    backend: Backend, hidden: Array, target: Array, ridge: float, weights: Array | None = None
) -> tuple[Array, Array]:
    """Return W (K, H, C) and b (K, 1, C) for which `hidden W + b` fits targets (K, N, C) best.

    This is the step above from weights of 0, for K small problems with known hidden units (N, H) or (K, N, H),
    the same ridge, and weights (N, 1) or (K, N, 1) of the rows.
    """
    xp = backend.xp
    rows, Y = _with_ones(xp, backend.asarray(hidden, "float64")), backend.asarray(target, "float64")
    weighted = rows if weights is None else backend.asarray(weights, "float64") * rows
    right = xp.matrix_transpose(weighted)
    normal = _damped(backend, right @ rows, ridge)
    # A matrix that all members share is factorised once.
    solved = xp.linalg.solve(normal, right @ Y) if normal.ndim > 2 else xp.linalg.solve(normal, right) @ Y
    return solved[..., :-1, :], solved[..., -1:, :]


class _Problem:
    """The rows that a last layer has to fit, in blocks."""

    def __init__(self, mlp: MLP, encoder: Encoder, pixels: TrainingPixels, chosen: Array | None) -> None:
        self.backend: Backend = mlp.backend
        self.mlp, self.encoder, self.pixels, self.chosen = mlp.replica(_BLOCK_ROWS), encoder, pixels, chosen
        self.layer = self.mlp.layers[-1]
        self.size = pixels.size if chosen is None else chosen.shape[-1]
        self.is_linear = mlp.output_activation == Identity()

    def linearise(self) -> tuple[tuple[Array, Array], _Errors]:
        """Return the normal equations `(A^T A, A^T e)` at the present weights, and the errors there.

        Shapes are (*E, C, H + 1, H + 1), or (*E, 1, H + 1, H + 1) if channels share it, and (*E, C, H + 1).
        """
        sums: list[Array] = []
        for x, target, weights in self._blocks():
            for i, part in enumerate(self._block_sums(x, target, weights)):
                if i == len(sums):
                    sums.append(part)
                else:
                    sums[i] = sums[i] + part
        gram, right, plain, clipped = sums
        count = self.size * self.layer.W.shape[-1]
        return (gram, right), _Errors(plain / count, clipped / count)

    def _blocks(self) -> Iterator[tuple[Array, Array, Array | None]]:
        for start in range(0, self.size, _BLOCK_ROWS):
            rows = slice(start, min(start + _BLOCK_ROWS, self.size))
            index = None if self.chosen is None else self.chosen[..., rows]
            yield self.pixels.batch(self.encoder, rows, index)

    def _block_sums(self, x: Array, target: Array, weights: Array | None) -> Iterator[Array]:
        xp, layer = self.backend.xp, self.layer
        prediction = self.mlp.forward(x)
        inputs = self.backend.as_numbers(self.layer.x)
        slope = layer.activation.backward(xp, xp.ones_like(prediction), layer.saved)
        hidden, y, slope, t = (xp.astype(a, xp.float64) for a in (inputs, prediction, slope, target))
        w = xp.ones_like(t[..., :1]) if weights is None else xp.astype(weights, xp.float64)
        rows = _with_ones(xp, hidden)[..., None, :, :]  # (*E, 1, n, H + 1)
        error = _by_channel(xp, t - y)
        w, slope = w[..., None, :, :], _by_channel(xp, slope)
        shared = xp.sqrt(w) * rows if self.is_linear else xp.sqrt(w) * slope * rows
        yield xp.matmul(xp.matrix_transpose(shared), shared)
        yield xp.matmul(xp.matrix_transpose(rows), w * slope * error)[..., 0]
        clipped = _by_channel(xp, t - xp.clip(y, 0.0, 1.0))
        for e in (error, clipped):
            yield xp.sum(w * e * e, axis=(-3, -2, -1))

    def solve(self, systems: tuple[Array, Array], ridge: float) -> tuple[Array, Array]:
        """Return the changes of W (*E, H, C) and of b (*E, 1, C)."""
        xp, (gram, right) = self.backend.xp, systems
        damped = _damped(self.backend, gram, ridge)
        if damped.shape[-3] == 1:  # one matrix, C right-hand sides
            change = xp.linalg.solve(damped[..., 0, :, :], xp.matrix_transpose(right))
        else:
            change = xp.matrix_transpose(xp.linalg.solve(damped, right[..., None])[..., 0])
        change = xp.astype(change, self.layer.W.dtype)
        return change[..., :-1, :], change[..., -1:, :]


def _with_ones(xp: Any, hidden: Array) -> Array:
    """Return [H, 1]: the bias is the weight of a unit that is always 1."""
    return xp.concat([hidden, xp.ones_like(hidden[..., :1])], axis=-1)


def _damped(backend: Backend, gram: Array, ridge: float) -> Array:
    """Return normal equations (..., H + 1, H + 1) with a share of their mean diagonal added to the diagonal."""
    size = gram.shape[-1]
    eye = backend.asarray(np.eye(size), "float64")
    scale = backend.xp.sum(gram * eye, axis=(-2, -1), keepdims=True) / size
    return gram + ridge * scale * eye


def _by_channel(xp: Any, array: Array) -> Array:
    """Return an array (*E, n, C) as (*E, C, n, 1)."""
    return xp.matrix_transpose(array)[..., None]
