"""A compiled layer forward and backward, and the loss, each for a part of its columns or rows.

Formulas of activations and losses are separate `kernels`, called once for each member.
"""

from __future__ import annotations

from typing import Any

from ...protocols import Array
from .addresses import call_kernel, jit, vector
from .blas import AS_IT_IS, TRANSPOSED, call_gemm
from .lanes import BYTES, fused, load, load_next, spread, store, store_next

_COLOURS = 3
# OpenBLAS's kernels for AVX-512 pack no matrix of a small product
# (kernel/x86_64/sgemm_small_kernel_permit_skylakex.c). These are the most multiplications of such a product
# and, with a transposed second matrix, the most results and the least depth.
_SMALL_PRODUCT, _SMALL_RESULT, _SMALL_DEPTH = 1_000_000, 1_200, 32
_FEWEST, _FEWEST_TRANSPOSED = 32, 16  # columns that are still worth a call


@jit
def linear(op: Any, gemm: Any, like: Array) -> None:
    """Fill `y = f(x W + b)` of shape (E, rows, units), rows [first_row, last_row) and columns [first, last).

    `saved` gets `x W + b`; it is y itself if the activation does not save its input.
    """
    item, number = like.itemsize, like.dtype.type
    rows, columns = op.last_row - op.first_row, op.last - op.first
    inputs, units = op.inputs, op.units
    piece = _piece(op, columns, _SMALL_PRODUCT // max(1, rows * inputs), _FEWEST)
    for e in range(op.members):
        x = op.x + e * op.x_step + op.first_row * inputs * item
        W = op.W + e * op.W_step + op.first * item
        there = (op.first_row * units + op.first) * item
        y, z = op.y + e * op.y_step + there, op.saved + e * op.saved_step + there
        for j in range(0, columns, piece):
            n, at = min(piece, columns - j), j * item
            call_gemm(
                *(gemm, AS_IT_IS, AS_IT_IS, rows, n, inputs, x, inputs, W + at, units),
                *(number(0), z + at, units),
            )
        b = op.b + e * op.b_step + op.first * item
        call_kernel(op.kernel, (z, b, y, rows, columns, units * item, op.table))


@jit
def linear_backward(op: Any, gemm: Any, like: Array) -> None:
    """Fill `dW = x^T dz` and `dx = (dz W^T) f'(previous z)` for inputs [first, last), and db for units."""
    item, number = like.itemsize, like.dtype.type
    rows, inputs, units = op.rows, op.inputs, op.units
    columns = op.last - op.first
    keep = number(1) if op.accumulate != 0 else number(0)
    fitting = _SMALL_PRODUCT // max(1, rows * units)
    fitting_dx = min(fitting, _SMALL_RESULT // max(1, rows)) if units >= _SMALL_DEPTH else 0
    piece = _piece(op, columns, fitting, _FEWEST)
    piece_of_dx = _piece(op, columns, fitting_dx, _FEWEST_TRANSPOSED)
    for e in range(op.members):
        x, W = (op.x + e * op.x_step + op.first * item, op.W + e * op.W_step + op.first * units * item)
        dz, dW = op.dz + e * op.dz_step, op.dW + e * op.dW_step + op.first * units * item
        dx = op.dx + e * op.dx_step + op.first * item
        _sum_rows(op, dz, op.db + e * op.db_step, like)
        done = 0
        if units == _COLOURS and op.dx != 0:  # as products they are too thin for a BLAS
            done = columns - columns % (BYTES // item)
            _colours_backward((x, W, dz, dW, dx), rows, done, inputs, item, keep)
        for j in range(done, columns, piece):
            n, at, below = min(piece, columns - j), j * item, j * units * item
            call_gemm(
                *(gemm, TRANSPOSED, AS_IT_IS, n, units, rows, x + at, inputs, dz, units),
                *(keep, dW + below, units),
            )
        for j in range(done, columns if op.dx != 0 else 0, piece_of_dx):
            n, at, below = min(piece_of_dx, columns - j), j * item, j * units * item
            call_gemm(
                *(gemm, AS_IT_IS, TRANSPOSED, rows, n, units, dz, units, W + below, units),
                *(number(0), dx + at, inputs),
            )
        if op.dx != 0 and op.kernel != 0 and columns > 0:
            saved = op.saved + e * op.saved_step + op.first * item
            call_kernel(op.kernel, (dx, saved, rows, columns, inputs * item, op.table))


@jit
def _piece(op: Any, columns: int, fitting: int, fewest: int) -> int:
    """Return how many columns a product takes at a time: as many as need no packing, or all."""
    fitting -= fitting % fewest
    return fitting if op.small_products != 0 and fewest <= fitting < columns else max(1, columns)


@jit
def _colours_backward(places: Any, rows: int, columns: int, inputs: int, item: int, keep: Any) -> None:
    """Fill `dW = x^T dz + keep dW` and `dx = dz W^T` of three units, for inputs that fill whole vectors."""
    x, W, dz, dW, dx = places
    none = keep - keep
    d = vector(dz, rows * _COLOURS, none)
    for first in range(0, columns * item, BYTES):
        W_at, dW_at = W + first * _COLOURS, dW + first * _COLOURS
        w0, w1 = load(W_at, _COLOURS, none), load(W_at + item, _COLOURS, none)
        w2, zeros = load(W_at + 2 * item, _COLOURS, none), spread(none)
        s0, s1, s2 = zeros, zeros, zeros
        if keep != 0:
            s0, s1 = load(dW_at, _COLOURS, none), load(dW_at + item, _COLOURS, none)
            s2 = load(dW_at + 2 * item, _COLOURS, none)
        for i in range(rows):
            there = first + i * inputs * item
            h = load_next(x + there, none)
            d0, d1, d2 = spread(d[3 * i]), spread(d[3 * i + 1]), spread(d[3 * i + 2])
            s0, s1, s2 = fused(h, d0, s0), fused(h, d1, s1), fused(h, d2, s2)
            store_next(fused(w2, d2, fused(w1, d1, fused(w0, d0, zeros))), dx + there)
        store(s0, dW_at, _COLOURS)
        store(s1, dW_at + item, _COLOURS)
        store(s2, dW_at + 2 * item, _COLOURS)


@jit
def _sum_rows(op: Any, dz: int, db: int, like: Array) -> None:
    """Fill db with the sum of dz over rows, or add to it with `accumulate`, for its range of units."""
    item, number = like.itemsize, like.dtype.type
    units, start = op.last_unit - op.first_unit, op.first_unit * item
    total = vector(db + start, units, number(0))
    if op.accumulate == 0:
        for j in range(units):
            total[j] = 0
    if units == _COLOURS and op.units == _COLOURS:
        d = vector(dz, op.rows * _COLOURS, number(0))
        red, green, blue = total[0], total[1], total[2]
        for i in range(op.rows):
            red, green, blue = red + d[3 * i], green + d[3 * i + 1], blue + d[3 * i + 2]
        total[0], total[1], total[2] = red, green, blue
        return
    for i in range(op.rows):
        row = vector(dz + start + i * op.units * item, units, number(0))
        for j in range(units):
            total[j] += row[j]


@jit
def activation_backward(op: Any, like: Array) -> None:
    """Replace dz by `dz f'(z)`, from y as saved by the layer, for numbers [first, last)."""
    start, size = op.first * like.itemsize, op.last - op.first
    if op.kernel != 0:
        call_kernel(op.kernel, (op.dz + start, op.y + start, 1, size, 0, op.table))


@jit
def loss(op: Any, like: Array) -> None:
    """Fill each member's loss and its gradient."""
    for e in range(op.members):
        y, target, dy = op.y + e * op.y_step, op.target + e * op.target_step, op.dz + e * op.dz_step
        weights = op.weights + e * op.weights_step if op.weights != 0 else 0
        value = op.value + e * like.itemsize
        call_kernel(op.kernel, (y, target, weights, dy, value, op.rows, op.units, op.table))
