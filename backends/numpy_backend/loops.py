"""The element-wise work of the CPU's primitives, as passes of NumPy over buffers that are already there.

`Loops` is the list of what a CPU backend needs beside matrix products. The formulas' home is in `coordfit`
(`activations.py`, `losses.py`, `optimizers.py`), written on `xp`; what stands here repeats them in place, so
that a step allocates nothing, and is held to them by the conformance tests. `numba_backend/loops.py` has the
same list compiled: one loop where NumPy takes a pass for each operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..protocols import Array, Tables

Reuse = Callable[[str, tuple[int, ...], Any], Array]
"""Gives the calling thread's own buffer for (purpose, shape, dtype); what nobody writes to stays zero."""


@dataclass(frozen=True)
class Loops:
    """The loops of one CPU backend; arrays have the shapes that `Backend`'s primitives name.

    Attributes
    ----------
    forward : of activation name
        (activation, z, b, y, reuse) -> y = f(z + b). The bias is added to z; `y` is another buffer where the
        activation keeps its input, else it is z.
    backward : of activation name
        (activation, dy, kept, reuse) -> dz = dy f'(z), in the place of dy; kept may be overwritten.
    sum_over_rows
        (dz, db, reuse) fills db.
    losses : of loss name
        (loss, prediction, target, weights, count, out, reuse) -> value, dy.
    sgd, adam
        One step over pieces of the flat buffers, shapes (members, columns); gradients are summed.
    grid_features
        (x_tables, y_tables, rows, out, reuse) fills out.
    piece : int
        Elements of the flat buffers that the optimizers' loops take at once.
    min_worker_elements : int
        Below so many elements each a second thread costs the optimizer more than it brings.
    """

    forward: Mapping[str, Callable[[Any, Array, Array, Array, Reuse], Array]]
    backward: Mapping[str, Callable[[Any, Array, Array, Reuse], Array]]
    sum_over_rows: Callable[[Array, Array, Reuse], None]
    losses: Mapping[str, Callable[[Any, Array, Array, Array | None, int, Array, Reuse], tuple[Array, Array]]]
    sgd: Callable[..., None]
    adam: Callable[..., None]
    grid_features: Callable[[Tables, Tables, slice, Array, Reuse], None]
    piece: int
    min_worker_elements: int


# -- activations: the bias is added, then f in place -----------------------------------------------------


def _identity(activation: Any, z: Array, b: Array, y: Array, reuse: Reuse) -> Array:
    z += b
    return z


def _relu(activation: Any, z: Array, b: Array, y: Array, reuse: Reuse) -> Array:
    z += b
    # Against an array of zeros NumPy's maximum runs more than twice as fast as against one zero.
    return np.maximum(z, reuse("zeros", z.shape, z.dtype), out=y)


def _tanh(activation: Any, z: Array, b: Array, y: Array, reuse: Reuse) -> Array:
    z += b
    return np.tanh(z, out=y)


def _sigmoid(activation: Any, z: Array, b: Array, y: Array, reuse: Reuse) -> Array:
    z += b
    np.multiply(z, 0.5, out=y)
    np.tanh(y, out=y)
    y += 1.0
    y *= 0.5
    return y


def _sine(activation: Any, z: Array, b: Array, y: Array, reuse: Reuse) -> Array:
    z += b
    np.multiply(z, activation.omega, out=y)
    return np.sin(y, out=y)


# -- their derivatives: dz in the place of dy --------------------------------------------------------------


def _identity_backward(activation: Any, dy: Array, y: Array, reuse: Reuse) -> Array:
    return dy


def _relu_backward(activation: Any, dy: Array, y: Array, reuse: Reuse) -> Array:
    positive = np.greater(y, 0.0, out=reuse("mask", y.shape, np.bool_))
    return np.multiply(dy, positive, out=dy)


def _tanh_backward(activation: Any, dy: Array, y: Array, reuse: Reuse) -> Array:
    y *= y
    np.subtract(1.0, y, out=y)
    return np.multiply(dy, y, out=dy)


def _sigmoid_backward(activation: Any, dy: Array, y: Array, reuse: Reuse) -> Array:
    dy *= y
    np.subtract(1.0, y, out=y)
    return np.multiply(dy, y, out=dy)


def _sine_backward(activation: Any, dy: Array, z: Array, reuse: Reuse) -> Array:
    z *= activation.omega
    np.cos(z, out=z)
    z *= activation.omega
    return np.multiply(dy, z, out=dy)


def _sum_over_rows(dz: Array, db: Array, reuse: Reuse) -> None:
    ones = reuse("ones", (1, dz.shape[-2]), dz.dtype)  # as a product the sum is three times as fast
    if ones[0, 0] != 1.0:
        ones[...] = 1.0
    np.matmul(ones, dz, out=db)


# -- losses: the residual becomes the gradient of each element, `value` its loss --------------------------


def _mse(loss: Any, residual: Array, value: Array) -> None:
    np.multiply(residual, residual, out=value)
    residual *= 2.0


def _mae(loss: Any, residual: Array, value: Array) -> None:
    np.abs(residual, out=value)
    np.sign(residual, out=residual)


def _huber(loss: Any, residual: Array, value: Array) -> None:
    # With c = clip(r, -delta, delta), the gradient, the loss is c r - c^2 / 2 on both sides of delta.
    np.copyto(value, residual)
    np.clip(residual, -loss.delta, loss.delta, out=residual)
    value *= 2.0
    value -= residual
    value *= residual
    value *= 0.5


def _loss_of(of_residual: Callable[[Any, Array, Array], None]) -> Callable[..., tuple[Array, Array]]:
    def value_and_gradient(
        loss: Any,
        prediction: Array,
        target: Array,
        weights: Array | None,
        count: int,
        out: Array,
        reuse: Reuse,
    ) -> tuple[Array, Array]:
        residual = np.subtract(prediction, target, out=out)
        value = reuse("loss", residual.shape, residual.dtype)
        of_residual(loss, residual, value)
        if weights is not None:
            value *= weights
            residual *= weights
        residual *= 1.0 / count
        return np.add.reduce(value, axis=(-2, -1)) / count, residual

    return value_and_gradient


# -- optimizers -------------------------------------------------------------------------------------------


def _summed(gradients: Sequence[Array]) -> Array:
    """The sum of the workers' gradients of one piece, left in the first of them."""
    first, *others = gradients
    for other in others:
        first += other
    return first


def _sgd(
    p: Array,
    gradients: Sequence[Array],
    v: Array | None,
    learning_rate: float | Array,
    momentum: float,
    nesterov: bool,
    reuse: Reuse,
) -> None:
    g = _summed(gradients)
    t = reuse("step", p.shape, p.dtype)
    direction = g
    if v is not None:
        v *= momentum
        v += g
        direction = v
        if nesterov:
            direction = np.multiply(v, momentum, out=t)
            direction += g
    p -= np.multiply(direction, learning_rate, out=t)


def _adam(
    p: Array,
    gradients: Sequence[Array],
    m: Array,
    v: Array,
    step_size: float | Array,
    beta1: float,
    beta2: float,
    epsilon: float,
    reuse: Reuse,
) -> None:
    """m <- beta1 m + g;  v <- beta2 v + g^2;  p <- p - step_size m / (sqrt(v) + epsilon)."""
    g = _summed(gradients)
    t = reuse("step", p.shape, p.dtype)
    m *= beta1
    m += g
    v *= beta2
    v += np.multiply(g, g, out=t)
    np.sqrt(v, out=t)
    t += epsilon
    np.divide(m, t, out=t)
    t *= step_size
    p -= t


# -- features of a grid -----------------------------------------------------------------------------------


def _grid_features(x_tables: Tables, y_tables: Tables, rows: slice, out: Array, reuse: Reuse) -> None:
    (cos_x, sin_x), (cos_y, sin_y) = x_tables, y_tables
    width, m = cos_x.shape
    start = rows.start
    while start < rows.stop:  # the pixels of one row of the grid after the other
        row, column = divmod(start, width)
        stop = min(rows.stop, start + width - column)
        there = slice(start - rows.start, stop - rows.start)
        columns = slice(column, column + stop - start)
        cosines, sines = out[there, :m], out[there, m:]
        t = reuse("grid", (stop - start, m), out.dtype)
        np.multiply(cos_x[columns], cos_y[row], out=cosines)
        cosines -= np.multiply(sin_x[columns], sin_y[row], out=t)
        np.multiply(sin_x[columns], cos_y[row], out=sines)
        sines += np.multiply(cos_x[columns], sin_y[row], out=t)
        start = stop


NUMPY_LOOPS = Loops(
    forward={"identity": _identity, "relu": _relu, "tanh": _tanh, "sigmoid": _sigmoid, "sine": _sine},
    backward={
        "identity": _identity_backward,
        "relu": _relu_backward,
        "tanh": _tanh_backward,
        "sigmoid": _sigmoid_backward,
        "sine": _sine_backward,
    },
    sum_over_rows=_sum_over_rows,
    losses={"mse": _loss_of(_mse), "mae": _loss_of(_mae), "huber": _loss_of(_huber)},
    sgd=_sgd,
    adam=_adam,
    grid_features=_grid_features,
    piece=262_144,  # stays in cache from the first pass to the last; smaller ones cost more in calls
    min_worker_elements=400_000,
)
