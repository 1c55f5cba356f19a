"""The element-wise work of the CPU's primitives, compiled by Numba: one loop over memory for each.

The same list as in `numpy_loops.py`, which takes a pass of NumPy for each operation; so these are three to
four times as fast, and Adam with them. What NumPy computes with vector instructions that Numba lacks (tanh,
sine) is taken from there. Kernels are compiled for the dtypes that they meet and kept in Numba's cache beside
this file, so only the first run waits for the compiler.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numba
import numpy as np

from .base import Array, Tables
from .numpy_loops import NUMPY_LOOPS, Loops, Reuse

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile for whatever types come; the interpreter's lock is free while it runs."""
    # "contract" allows fused multiply-add, and nothing that could change with the order of a sum.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        compiled: Any = numba.njit(cache=True, **options)(kernel)
    except RuntimeError:  # nowhere to write the cache
        compiled = numba.njit(**options)(kernel)
    return cast(Kernel, compiled)


# -- activations: z (E, N, H) and b (E, H) ----------------------------------------------------------------


@compiled
def add_bias(z: Array, b: Array) -> None:
    """Z <- z + b."""
    members, rows, units = z.shape
    for e in range(members):
        for i in range(rows):
            for j in range(units):
                z[e, i, j] += b[e, j]


@compiled
def add_bias_and_clip(z: Array, b: Array) -> None:
    """Z <- max(z + b, 0); a NaN stays one."""
    members, rows, units = z.shape
    zero = z.dtype.type(0)
    for e in range(members):
        for i in range(rows):
            for j in range(units):
                t = z[e, i, j] + b[e, j]
                z[e, i, j] = zero if t <= zero else t


@compiled
def mask(dy: Array, y: Array) -> None:
    """Dy <- dy where y > 0, else 0; y has the shape of dy."""
    members, rows, units = dy.shape
    zero = dy.dtype.type(0)
    for e in range(members):
        for i in range(rows):
            for j in range(units):
                dy[e, i, j] = dy[e, i, j] if y[e, i, j] > zero else zero


@compiled
def column_sums(dz: Array, db: Array) -> None:
    """Db <- the sum of dz over rows."""
    members, rows, units = dz.shape
    for e in range(members):
        for j in range(units):
            db[e, j] = 0
        for i in range(rows):
            for j in range(units):
                db[e, j] += dz[e, i, j]


def of_members(a: Array) -> Array:
    """(*E, N, H) as (members, N, H), contiguous as the kernels want it."""
    if a.ndim != 3:
        a = a[None] if a.ndim == 2 else a.reshape(-1, *a.shape[-2:])
    return a if a.flags.c_contiguous else np.ascontiguousarray(a)


def vectors(b: Array, reuse: Reuse) -> Array:
    """(*E, 1, H) as contiguous (members, H): a view where b is contiguous, else a copy."""
    if not b.flags.c_contiguous:
        copy = reuse("vectors", b.shape, b.dtype)
        copy[...] = b
        b = copy
    return b if b.ndim == 2 else b.reshape(-1, b.shape[-1])


def _forward_with(kernel: Callable[..., None]) -> Callable[..., Array]:
    def forward(activation: Any, z: Array, b: Array, y: Array, reuse: Reuse) -> Array:
        whole = of_members(z)
        kernel(whole, vectors(b, reuse))
        return z if z.flags.c_contiguous else whole.reshape(z.shape)

    return forward


def _relu_backward(activation: Any, dy: Array, y: Array, reuse: Reuse) -> Array:
    dz = of_members(dy)
    mask(dz, of_members(y))
    return dy if dy.flags.c_contiguous else dz.reshape(dy.shape)


def _sum_over_rows(dz: Array, db: Array, reuse: Reuse) -> None:
    sums = vectors(db, reuse)
    column_sums(of_members(dz), sums)
    if not db.flags.c_contiguous:
        db[...] = sums.reshape(db.shape)


# -- losses: all arrays (E, N, C), or (1, N, C) where members share them ----------------------------------

_KINDS = {"mse": 0, "mae": 1, "huber": 2}
_MSE, _MAE = 0, 1


@compiled
def _residual_loss(
    kind: int,
    delta: float,
    prediction: Array,
    target: Array,
    weights: Array | None,
    scale: float,
    dy: Array,
    sums: Array,
) -> None:
    members, rows, channels = prediction.shape
    for e in range(members):
        of_target = e % target.shape[0]
        total = 0.0
        for i in range(rows):
            weight = 1.0 if weights is None else weights[e % weights.shape[0], i, 0]
            for c in range(channels):
                r: Any = np.float64(prediction[e, i, c]) - np.float64(target[of_target, i, c])
                if kind == _MSE:
                    value, slope = r * r, r + r
                elif kind == _MAE:
                    value, slope = abs(r), np.sign(r)
                else:
                    slope = min(max(r, -delta), delta)
                    value = slope * (r - 0.5 * slope)
                total += weight * value
                dy[e, i, c] = weight * slope * scale
        sums[e] = total * scale


def _residual_loss_of(kind: int) -> Callable[..., tuple[Array, Array]]:
    def value_and_gradient(
        loss: Any,
        prediction: Array,
        target: Array,
        weights: Array | None,
        count: int,
        out: Array,
        reuse: Reuse,
    ) -> tuple[Array, Array]:
        ensemble, dtype = prediction.shape[:-2], prediction.dtype
        dy = out if out.flags.c_contiguous else np.empty(prediction.shape, dtype)
        sums = np.empty(prediction[..., 0, 0].size, dtype)
        _residual_loss(
            kind,
            float(getattr(loss, "delta", 0.0)),
            of_members(prediction),
            of_members(target),
            None if weights is None else of_members(weights),
            1.0 / count,
            of_members(dy),
            sums,
        )
        return sums.reshape(ensemble)[()], dy

    return value_and_gradient


# -- optimizers: pieces (members, columns), rates (members,) or (1,) --------------------------------------
#
# What is None is None at compile time: each case has a loop of its own without a branch in it.


@compiled
def _gradient(g: Array, h: Array | None, e: int, i: int) -> Any:
    if h is None:
        return g[e, i]
    g[e, i] += h[e, i]
    return g[e, i]


@compiled
def _sgd_kernel(
    p: Array, g: Array, h: Array | None, v: Array | None, rates: Array, momentum: float, nesterov: bool
) -> None:
    number = p.dtype.type
    beta = number(momentum)
    for e in range(p.shape[0]):
        rate = number(rates[e % rates.size])
        for i in range(p.shape[1]):
            direction = gradient = _gradient(g, h, e, i)
            if v is not None:
                v[e, i] = velocity = beta * v[e, i] + gradient
                direction = gradient + beta * velocity if nesterov else velocity
            p[e, i] -= rate * direction


@compiled
def _adam_kernel(
    p: Array,
    g: Array,
    h: Array | None,
    m: Array,
    v: Array,
    rates: Array,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    number = p.dtype.type
    b1, b2, floor = number(beta1), number(beta2), number(epsilon)
    for e in range(p.shape[0]):
        rate = number(rates[e % rates.size])
        for i in range(p.shape[1]):
            gradient = _gradient(g, h, e, i)
            m[e, i] = first = b1 * m[e, i] + gradient
            v[e, i] = second = b2 * v[e, i] + gradient * gradient
            p[e, i] -= rate * first / (np.sqrt(second) + floor)


def _two_gradients(gradients: Sequence[Array]) -> tuple[Array, Array | None]:
    """The first two gradients, with what is beyond them added to the second; None where there is one alone."""
    if len(gradients) == 1:
        return gradients[0], None
    for other in gradients[2:]:
        gradients[1][...] += other
    return gradients[0], gradients[1]


def _rates(rate: float | Array) -> Array:
    return np.asarray(rate, np.float64).reshape(-1)


def _sgd(
    p: Array,
    gradients: Sequence[Array],
    v: Array | None,
    learning_rate: float | Array,
    momentum: float,
    nesterov: bool,
    reuse: Reuse,
) -> None:
    _sgd_kernel(p, *_two_gradients(gradients), v, _rates(learning_rate), momentum, nesterov)


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
    _adam_kernel(p, *_two_gradients(gradients), m, v, _rates(step_size), beta1, beta2, epsilon)


# -- features of a grid -----------------------------------------------------------------------------------


@compiled
def _grid(cos_x: Array, sin_x: Array, cos_y: Array, sin_y: Array, start: int, out: Array) -> None:
    width, m = cos_x.shape
    for i in range(out.shape[0]):
        row, column = (start + i) // width, (start + i) % width
        for j in range(m):
            out[i, j] = cos_x[column, j] * cos_y[row, j] - sin_x[column, j] * sin_y[row, j]
        for j in range(m):
            out[i, m + j] = sin_x[column, j] * cos_y[row, j] + cos_x[column, j] * sin_y[row, j]


def _grid_features(x_tables: Tables, y_tables: Tables, rows: slice, out: Array, reuse: Reuse) -> None:
    _grid(*x_tables, *y_tables, rows.start, out)


NUMBA_LOOPS: Loops = dataclasses.replace(
    NUMPY_LOOPS,
    forward={
        **NUMPY_LOOPS.forward,
        "identity": _forward_with(add_bias),
        "relu": _forward_with(add_bias_and_clip),
    },
    backward={**NUMPY_LOOPS.backward, "relu": _relu_backward},
    sum_over_rows=_sum_over_rows,
    losses={name: _residual_loss_of(kind) for name, kind in _KINDS.items()},
    sgd=_sgd,
    adam=_adam,
    grid_features=_grid_features,
    piece=2**62,  # each element is touched once, so there is nothing to keep in cache
    min_worker_elements=1_000_000,
)
