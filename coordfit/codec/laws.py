"""Laplace laws in exact integers, and integers of any size coded with them.

A law is a scale and a mean. Scale k stands for `b = 2^(k/4) / 16`. A mean is a multiple of 1/16; its integer
part shifts the value, so that 16 fractions are left. `E(n) = exp(-n / (16 b))` is a fixed-point number of 32
bits: powers, rounded down, of one exponential that is rounded to the nearest. So a law is the same everywhere.
"""

from __future__ import annotations

import functools
from decimal import ROUND_HALF_EVEN, Context, Decimal

import numpy as np
from numpy.typing import NDArray

from .law_tables import SLOTS, DamagedError, Integers, LawTables
from .rans import Decoder, Encoder

SCALES = 40
FRACTIONS = 16  # a mean is a multiple of 1/16
MOST_RADIUS = 127  # of a law's values about its mean
MOST_VALUE = (1 << 24) - 1
_BIT = SCALES * FRACTIONS  # the law of one fair bit
_MOST_BITS = 25  # of an escaped value


def decay_factors() -> list[int]:
    """Return `2^32 exp(-1 / (16 b))` for each scale, rounded to the nearest integer."""
    context = Context(prec=60, rounding=ROUND_HALF_EVEN)  # its square root and exp are correctly rounded
    root = context.sqrt(context.sqrt(Decimal(2)))
    rates = [context.divide(Decimal(1), context.power(root, k)) for k in range(SCALES)]
    one = Decimal(2**32)
    return [int(context.to_integral_value(context.multiply(one, context.exp(-rate)))) for rate in rates]


@functools.cache
def decays() -> NDArray[np.uint64]:
    """Return `2^32 exp(-n / (16 b))` (SCALES, n) for n = 0 ... 16 * 128, each product rounded down."""
    table = np.full((SCALES, FRACTIONS * (MOST_RADIUS + 1) + 1), 1 << 32, np.uint64)
    factor = np.array(decay_factors(), np.uint64)
    for n in range(1, table.shape[1]):
        table[:, n] = (table[:, n - 1] * factor) >> np.uint64(32)
    return table


@functools.cache
def radii() -> Integers:
    """Return the largest distance from the mean in each scale's table: `E` falls below 2^-14 there."""
    below: Integers = (decays()[:, FRACTIONS::FRACTIONS] < 1 << 18).argmax(1) + 1
    return np.where(decays()[:, -1] < 1 << 18, np.minimum(below, MOST_RADIUS), MOST_RADIUS)


def bounds(scale: int, fraction: int) -> Integers:
    """Return the bounds of the slots of a law with mean `(fraction - 8) / 16`.

    The symbols are the values `-R ... R` and an escape, S of them. The value r has the mass between
    `r - 1/2` and `r + 1/2`; each symbol has one slot more than its share of the other `2^15 - S`.
    """
    radius = int(radii()[scale])
    edges = FRACTIONS * np.arange(-radius, radius + 2) - fraction  # in sixteenths, from the mean
    tail = decays()[scale, np.minimum(abs(edges), decays().shape[1] - 1)].astype(np.int64)
    mass = np.where(edges < 0, tail, (1 << 33) - tail)  # twice the mass below an edge
    index = np.arange(edges.size)
    inner = index + ((mass - mass[0]) * (SLOTS - edges.size) >> 33)
    return np.append(inner, SLOTS)


@functools.cache
def law_tables() -> LawTables:
    """Return the tables of all laws: `16 * scale + fraction`, then the fair bit."""
    laws = [bounds(scale, fraction) for scale in range(SCALES) for fraction in range(FRACTIONS)]
    return LawTables.of([*laws, [0, SLOTS // 2, SLOTS]])


def put_values(encoder: Encoder, values: Integers, means: Integers, scales: Integers) -> None:
    """Add a group of values (n,) under means in sixteenths and scales (n,), escapes after it."""
    base, laws = _split(means, scales)
    radius, offset = radii()[scales], values - base
    outside = abs(offset) > radius
    encoder.put(np.where(outside, 2 * radius + 1, offset + radius), laws)
    if outside.any():
        if abs(values).max() > MOST_VALUE:
            raise ValueError(f"a value is beyond {MOST_VALUE}")
        order = _orders(scales[outside])
        _put_bits(encoder, (offset[outside] < 0).astype(np.int64))
        _put_exp_golomb(encoder, abs(offset[outside]) - radius[outside] - 1, order)


def take_values(decoder: Decoder, means: Integers, scales: Integers) -> Integers:
    """Return the next group of values (n,) under means in sixteenths and scales (n,)."""
    base, laws = _split(means, scales)
    offset = decoder.take(laws) - radii()[scales]
    take_escapes(decoder, offset, scales)
    return base + offset


def take_escapes(decoder: Decoder, offset: Integers, scales: Integers) -> None:
    """Put the next values beyond the radii of their laws in place of escapes in offsets (n,)."""
    radius = radii()[scales]
    outside = offset > radius
    if outside.any():
        negative = _take_bits(decoder, int(outside.sum())) == 1
        size = radius[outside] + 1 + _take_exp_golomb(decoder, _orders(scales[outside]))
        offset[outside] = np.where(negative, -size, size)


def best_scale(values: Integers) -> int:
    """Return the scale whose law with mean 0 takes the fewest bits for values, escapes estimated."""
    size = abs(np.asarray(values, np.int64)).ravel()
    costs = []
    for scale in range(SCALES):
        radius = int(radii()[scale])
        symbols = np.minimum(size, radius + 1) + radius
        beyond = np.maximum(size - radius, 1)
        extra = np.where(size > radius, 2 * np.log2(beyond) + 2, 0).sum()
        costs.append(law_tables().bits(symbols, np.full(size.size, FRACTIONS * scale + FRACTIONS // 2)) + extra)
    return int(np.argmin(costs))


def _split(means: Integers, scales: Integers) -> tuple[Integers, Integers]:
    """Return the nearest integers of means in sixteenths, and the laws of what is left."""
    shifted: Integers = means + FRACTIONS // 2
    return shifted // FRACTIONS, FRACTIONS * scales + shifted % FRACTIONS


def _orders(scales: Integers) -> Integers:
    """Return the orders of the Exp-Golomb codes of scales: `max(0, floor(log2 b))`."""
    orders: Integers = np.maximum((scales >> 2) - 4, 0)
    return orders


def _put_bits(encoder: Encoder, bits: Integers) -> None:
    encoder.put(bits, np.full(bits.size, _BIT))


def _take_bits(decoder: Decoder, count: int) -> Integers:
    return decoder.take(np.full(count, _BIT))


def _put_exp_golomb(encoder: Encoder, sizes: Integers, orders: Integers) -> None:
    """Add sizes (n,) >= 0 as Exp-Golomb codes: each pass holds one bit of all that still have one."""
    numbers = sizes + (1 << orders)
    widths = np.frexp(numbers)[1] - 1  # bits below the highest
    prefix = widths - orders
    for i in range(int(prefix.max()) + 1):
        _put_bits(encoder, (prefix[prefix >= i] > i).astype(np.int64))
    for place in reversed(range(int(widths.max()))):
        _put_bits(encoder, numbers[widths > place] >> place & 1)


def _take_exp_golomb(decoder: Decoder, orders: Integers) -> Integers:
    """Return the next sizes (n,) as `_put_exp_golomb` adds them."""
    widths, open_ = orders.copy(), np.arange(orders.size)
    while open_.size:
        open_ = open_[_take_bits(decoder, open_.size) == 1]
        widths[open_] += 1
        if open_.size and widths.max() > _MOST_BITS:
            raise DamagedError("holds a value beyond all bounds")
    numbers = np.ones(orders.size, np.int64)
    for place in reversed(range(int(widths.max()))):
        more = (widths > place).nonzero()[0]
        numbers[more] = 2 * numbers[more] + _take_bits(decoder, more.size)
    return numbers - (1 << orders)
