"""A layer forward and backward, and the loss: compiled, each for a part of its columns or rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...protocols import Array
from .addresses import compiled, vector
from .blas import AS_IT_IS, TRANSPOSED, call_gemm
from .instructions import IDENTITY, MAE, MSE, RELU, SIGMOID, SINE
from .sine import sine, sine_backward


@compiled
def linear(op: Any, gemm: Any, like: Array) -> None:
    """Y = f(X W + b) of shape (E, rows, units), rows [first_row, last_row) and columns [first, last) of it.

    X W + b is left in `saved`, where the activation keeps its input, else y takes its place.
    """
    item, number = like.itemsize, like.dtype.type
    rows, columns = op.last_row - op.first_row, op.last - op.first
    inputs, units = op.inputs, op.units
    for e in range(op.members):
        x = op.x + e * op.x_step + op.first_row * inputs * item
        W = op.W + e * op.W_step + op.first * item
        there = (op.first_row * units + op.first) * item
        y = op.y + e * op.y_step + there
        z = y if op.choice != SINE else op.saved + e * op.saved_step + there
        call_gemm(gemm, AS_IT_IS, AS_IT_IS, rows, columns, inputs, x, inputs, W, units, number(0), z, units)
        b = vector(op.b + e * op.b_step + op.first * item, columns, number(0))
        for i in range(rows):
            z_row = vector(z + i * units * item, columns, number(0))
            if op.choice == SINE:
                sine(z_row, b, op.omega, vector(y + i * units * item, columns, number(0)))
            else:
                _activate(op.choice, z_row, b)


@compiled
def _activate(activation: int, z: Array, b: Array) -> None:
    """Z <- f(z + b); a NaN stays one."""
    zero, half = z.dtype.type(0), z.dtype.type(0.5)
    if activation == RELU:
        for j in range(z.size):
            t = z[j] + b[j]
            z[j] = zero if t <= zero else t
    elif activation == IDENTITY:
        for j in range(z.size):
            z[j] += b[j]
    elif activation == SIGMOID:
        for j in range(z.size):
            z[j] = half + half * math.tanh(half * (z[j] + b[j]))


@compiled
def linear_backward(op: Any, gemm: Any, like: Array) -> None:
    """DW = X^T dZ and dX = dZ W^T f'(z below), for inputs [first, last); db for its units."""
    item, number = like.itemsize, like.dtype.type
    rows, inputs, units = op.rows, op.inputs, op.units
    columns = op.last - op.first
    keep = number(1) if op.accumulate != 0 else number(0)
    for e in range(op.members):
        x = op.x + e * op.x_step + op.first * item
        dz, dW = op.dz + e * op.dz_step, op.dW + e * op.dW_step + op.first * units * item
        _sum_rows(op, dz, op.db + e * op.db_step, like)
        if columns > 0:
            call_gemm(gemm, TRANSPOSED, AS_IT_IS, columns, units, rows, x, inputs, dz, units, keep, dW, units)
        if op.dx != 0 and columns > 0:
            W = op.W + e * op.W_step + op.first * units * item
            dx = op.dx + e * op.dx_step + op.first * item
            call_gemm(
                gemm, AS_IT_IS, TRANSPOSED, rows, columns, units, dz, units, W, units, number(0), dx, inputs
            )
            saved = op.saved + e * op.saved_step + op.first * item
            for i in range(rows if op.choice != IDENTITY else 0):
                there = i * inputs * item
                dz_row = vector(dx + there, columns, number(0))
                _derive(op, dz_row, vector(saved + there, columns, number(0)))


@compiled
def _derive(op: Any, dy: Array, y: Array) -> None:
    """Dy <- dy f'(z), by the output y, or by z where that is what the activation keeps."""
    zero, one = dy.dtype.type(0), dy.dtype.type(1)
    if op.choice == RELU:
        for j in range(dy.size):
            dy[j] = dy[j] if y[j] > zero else zero
    elif op.choice == SIGMOID:
        for j in range(dy.size):
            dy[j] *= y[j] * (one - y[j])
    elif op.choice == SINE:
        sine_backward(dy, y, op.omega)


@compiled
def _sum_rows(op: Any, dz: int, db: int, like: Array) -> None:
    """Db = the sum of dz over rows (added to it with `accumulate`), for units [first_unit, last_unit)."""
    item, number = like.itemsize, like.dtype.type
    units, start = op.last_unit - op.first_unit, op.first_unit * item
    total = vector(db + start, units, number(0))
    if op.accumulate == 0:
        for j in range(units):
            total[j] = 0
    for i in range(op.rows):
        row = vector(dz + start + i * op.units * item, units, number(0))
        for j in range(units):
            total[j] += row[j]


@compiled
def activation_backward(op: Any, like: Array) -> None:
    """Dz = dy f'(z) in place, y being what the layer kept; all numbers [first, last) of both."""
    zero, start, size = like.dtype.type(0), op.first * like.itemsize, op.last - op.first
    _derive(op, vector(op.dz + start, size, zero), vector(op.y + start, size, zero))


@compiled
def loss(op: Any, like: Array) -> None:
    """Each member's loss, summed over its rows and channels times `scale`, and its gradient."""
    item, zero = like.itemsize, like.dtype.type(0)
    channels, numbers = op.units, op.rows * op.units
    values = vector(op.value, op.members, zero)
    for e in range(op.members):
        prediction = vector(op.y + e * op.y_step, numbers, zero)
        target = vector(op.target + e * op.target_step, numbers, zero)
        dy = vector(op.dz + e * op.dz_step, numbers, zero)
        total = 0.0
        for i in range(op.rows):
            weight = 1.0
            if op.weights != 0:
                weight = np.float64(vector(op.weights + e * op.weights_step + i * item, 1, zero)[0])
            for k in range(i * channels, (i + 1) * channels):
                r = np.float64(prediction[k]) - np.float64(target[k])
                value, slope = _residual_loss(op.choice, r, op.delta)
                total += weight * value
                dy[k] = weight * slope * op.scale
        values[e] = total * op.scale


@compiled
def _residual_loss(kind: int, r: float, delta: float) -> tuple[float, float]:
    """The loss of a residual, and its derivative."""
    if kind == MSE:
        return r * r, r + r
    if kind == MAE:
        return abs(r), np.sign(r)
    slope = min(max(r, -delta), delta)  # HUBER
    return slope * (r - 0.5 * slope), slope
