"""Compiled gathering of rows, sums, optimizer steps and the order of mini-batches, each for a part."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...protocols import Array
from .addresses import call_kernel, jit, vector

_WORD = np.int64(0)
_BYTE = np.uint8(0)
_ROUNDS = 8
_MASK = 0xFFFFFFFF


@jit
def take_rows(op: Any) -> None:
    """Fill `y = x[index]` for rows [first, last) of each member; a row has `inputs` bytes of any dtype."""
    wide = op.inputs % 8 == 0
    for e in range(op.members):
        index = vector(op.index + e * op.index_step, op.rows, _WORD)
        x, y = op.x + e * op.x_step, op.y + e * op.y_step
        for i in range(op.first, op.last):
            source, to = x + index[i] * op.inputs, y + i * op.inputs
            if wide:
                _copy(vector(source, op.inputs // 8, _WORD), vector(to, op.inputs // 8, _WORD))
            else:
                _copy(vector(source, op.inputs, _BYTE), vector(to, op.inputs, _BYTE))


@jit
def _copy(source: Array, to: Array) -> None:
    for j in range(source.size):
        to[j] = source[j]


@jit
def sum_of(op: Any, like: Array) -> None:
    """Fill y with the sum of `num_gradients` vectors, in their order."""
    zero = like.dtype.type(0)
    parts = vector(op.gradients, op.num_gradients, _WORD)
    y = vector(op.y, op.units, zero)
    for j in range(op.units):
        total = zero
        for k in range(op.num_gradients):
            total += vector(parts[k], op.units, zero)[j]
        y[j] = total


@jit
def join(op: Any, like: Array) -> None:
    """Copy x to y from position `first`."""
    zero = like.dtype.type(0)
    _copy(vector(op.x, op.units, zero), vector(op.y + op.first * like.itemsize, op.units, zero))


@jit
def summed(gradients: int, num_gradients: int, there: int, size: int, zero: Any) -> Array:
    """Add up the gradients' numbers from byte `there` into the first gradient, and return them."""
    parts = vector(gradients, num_gradients, _WORD)
    first = vector(parts[0] + there, size, zero)
    for k in range(1, num_gradients):
        other = vector(parts[k] + there, size, zero)
        for j in range(size):
            first[j] += other[j]
    return first


@jit
def update(op: Any) -> None:
    """Take an optimizer's step on columns [first, last) of members [first_row, last_row) of flat buffers."""
    place = (op.first_row, op.last_row, op.first, op.last, op.units)
    buffers = (op.parameters, op.gradients, op.num_gradients, op.states)
    call_kernel(op.kernel, (*buffers, *place, op.rates, op.num_rates, op.counter, op.table))


# -- the order of mini-batches: `coordfit.pixels.batch_order.permuted`, number for number ---------


@jit
def _mix(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


@jit
def _feistel(x: int, half: int, mask: int, key: int) -> int:
    left, right = x >> half, x & mask
    for k in range(_ROUNDS):
        round_key = key ^ ((k * 0x9E3779B1) & _MASK)
        left, right = right, (left ^ _mix(right ^ round_key)) & mask
    return (left << half) | right


@jit
def batch_order(op: Any) -> None:
    """Fill places [first, last) of batch number `counter` of each member's endless sequence of epochs.

    `rows` is the batch size, `inputs` the number of pixels; seeds (E,).
    """
    n = op.inputs
    bits = 0
    while (n - 1) >> bits:
        bits += 1
    half = max(2, bits + 1) // 2
    mask = (1 << half) - 1
    start = vector(op.counter, 1, _WORD)[0] * op.rows
    seeds = vector(op.seeds, op.members, _WORD)
    for e in range(op.members):
        index = vector(op.index + e * op.index_step, op.rows, _WORD)
        for i in range(op.first, op.last):
            epoch = (start + i) // n
            key = _mix((seeds[e] & _MASK) ^ _mix((epoch + 0x9E3779B9) & _MASK))
            place = _feistel((start + i) - epoch * n, half, mask, key)
            while place >= n:
                place = _feistel(place, half, mask, key)
            index[i] = place


@jit
def count(op: Any) -> None:
    """Count one step."""
    vector(op.counter, 1, _WORD)[0] += 1
