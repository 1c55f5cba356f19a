"""Element-wise work beside NumPy's products, compiled by Numba: one loop over memory for each.

The same list as in `numpy_backend/loops.py`, which takes a pass of NumPy for each operation. `NumbaBackend`
needs these loops where a layer cannot be one instruction of `compiled`: no BLAS was found, or the activation is
tanh, whose vector instructions NumPy has and Numba lacks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..numpy_backend.loops import NUMPY_LOOPS, Loops, Reuse
from ..protocols import Array, Tables
from .compiled.addresses import compiled

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
    grid_features=_grid_features,
)
