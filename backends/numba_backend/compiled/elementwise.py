"""Rows gathered, sums of losses, optimizers, and the order of mini-batches: compiled, each for a part."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...protocols import Array
from .addresses import compiled, vector

_CHUNK = 4096  # of a gradient's pieces: they are summed and used while in the nearest cache
_WORD = np.int64(0)
_BYTE = np.uint8(0)
_REAL = np.float64(0)
_ROUNDS = 8
_MASK = 0xFFFFFFFF


@compiled
def take_rows(op: Any) -> None:
    """Rows x[index] as y, rows [first, last) of each member; `inputs` bytes to a row, of any dtype."""
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


@compiled
def _copy(source: Array, to: Array) -> None:
    for j in range(source.size):
        to[j] = source[j]


@compiled
def sum_of(op: Any, like: Array) -> None:
    """Y = the sum of `num_gradients` vectors, in their order."""
    zero = like.dtype.type(0)
    parts = vector(op.gradients, op.num_gradients, _WORD)
    y = vector(op.y, op.units, zero)
    for j in range(op.units):
        total = zero
        for k in range(op.num_gradients):
            total += vector(parts[k], op.units, zero)[j]
        y[j] = total


@compiled
def join(op: Any, like: Array) -> None:
    """Y = x behind what stands before `first`."""
    zero = like.dtype.type(0)
    _copy(vector(op.x, op.units, zero), vector(op.y + op.first * like.itemsize, op.units, zero))


@compiled
def summed(op: Any, start: int, size: int, like: Array) -> Array:
    """The sum of the gradients' numbers from `start` on, left in the first of them."""
    item, zero = like.itemsize, like.dtype.type(0)
    gradients = vector(op.gradients, op.num_gradients, _WORD)
    first = vector(gradients[0] + start * item, size, zero)
    for k in range(1, op.num_gradients):
        other = vector(gradients[k] + start * item, size, zero)
        for j in range(size):
            first[j] += other[j]
    return first


@compiled
def adam(op: Any, like: Array) -> None:
    """One step of Adam on columns [first, last) of members [first_row, last_row) of flat buffers (E, units).

    With r = sqrt((1 - beta2) / (1 - beta2^t)), the step k m / (r sqrt(v) + epsilon) is written as
    (k / r) m / (sqrt(v) + epsilon / r): one operation less for each parameter.
    """
    item, number = like.itemsize, like.dtype.type
    t = np.float64(vector(op.counter, 1, _WORD)[0])
    root = np.sqrt((1.0 - op.beta2) / (1.0 - op.beta2**t))
    factor = (1.0 - op.beta1) / (1.0 - op.beta1**t) / root
    b1, b2, floor = number(op.beta1), number(op.beta2), number(op.epsilon / root)
    rates = vector(op.rates, op.num_rates, _REAL)
    for e in range(op.first_row, op.last_row):
        rate = number(rates[e % op.num_rates] * factor)
        for start in range(e * op.units + op.first, e * op.units + op.last, _CHUNK):
            size = min(_CHUNK, e * op.units + op.last - start)
            g = summed(op, start, size, like)
            p = vector(op.parameters + start * item, size, number(0))
            m = vector(op.first_moment + start * item, size, number(0))
            v = vector(op.second_moment + start * item, size, number(0))
            for i in range(size):
                m[i] = first = b1 * m[i] + g[i]
                v[i] = second = b2 * v[i] + g[i] * g[i]
                p[i] -= rate * first / (np.sqrt(second) + floor)


@compiled
def sgd(op: Any, like: Array) -> None:
    """One step of gradient descent on the same parts; with momentum where there is a first moment."""
    item, number = like.itemsize, like.dtype.type
    beta, nesterov = number(op.momentum), op.choice != 0
    rates = vector(op.rates, op.num_rates, _REAL)
    for e in range(op.first_row, op.last_row):
        rate = number(rates[e % op.num_rates])
        for start in range(e * op.units + op.first, e * op.units + op.last, _CHUNK):
            size = min(_CHUNK, e * op.units + op.last - start)
            g = summed(op, start, size, like)
            p = vector(op.parameters + start * item, size, number(0))
            if op.first_moment == 0:
                for i in range(size):
                    p[i] -= rate * g[i]
            else:
                v = vector(op.first_moment + start * item, size, number(0))
                for i in range(size):
                    v[i] = velocity = beta * v[i] + g[i]
                    p[i] -= rate * (g[i] + beta * velocity if nesterov else velocity)


# -- the order of mini-batches: `coordfit.pixels.batch_order.permuted`, number for number ---------


@compiled
def _mix(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


@compiled
def _feistel(x: int, half: int, mask: int, key: int) -> int:
    left, right = x >> half, x & mask
    for k in range(_ROUNDS):
        round_key = key ^ ((k * 0x9E3779B1) & _MASK)
        left, right = right, (left ^ _mix(right ^ round_key)) & mask
    return (left << half) | right


@compiled
def batch_order(op: Any) -> None:
    """Batch number `counter` of each member's endless sequence of epochs, places [first, last) of `rows`.

    `inputs` is the number of pixels; seeds (E,).
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


@compiled
def count(op: Any) -> None:
    """One step more."""
    vector(op.counter, 1, _WORD)[0] += 1
