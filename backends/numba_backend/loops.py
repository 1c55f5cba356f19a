"""Sums over rows and features of a grid, compiled by Numba: one loop over memory for each."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..numpy_backend.loops import NUMPY_LOOPS, Loops, Reuse
from ..protocols import Array, Tables
from .compiled.addresses import compiled


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
    sum_over_rows=_sum_over_rows,
    grid_features=_grid_features,
)
