"""Bits of latents under Laplace laws in floating point, with derivatives: what training sees of `laws`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..law_tables import SLOTS
from ..laws import SCALES

LEAST_LOG_SCALE = math.log(1 / 16)
MOST_LOG_SCALE = LEAST_LOG_SCALE + (SCALES - 1) / 4 * math.log(2)

Real = NDArray[np.floating[Any]]


def laplace_bits(y: Real, mean: Real, log_scale: Real) -> tuple[float, Real, Real]:
    """Return the bits of values y (n,), their sum, and the derivatives by y and by the log of b, each (n,).

    The law's mass between `y - 1/2` and `y + 1/2`, with one slot of `laws` added, so that it is never 0:
    `u = |y - mean| / b`, `w = 1 / (2 b)`, `S, D = (exp(-|u - w|) +- exp(-u - w)) / 2`; `p = D` if `u >= w`,
    else `1 - S`; `dp/du = -D`, `dp/d(log b) = u D - w S`. The derivative by the mean is minus that by y.
    """
    one = y.dtype.type(1)
    inside = (log_scale > LEAST_LOG_SCALE) & (log_scale < MOST_LOG_SCALE)
    rate = np.exp(-np.clip(log_scale, LEAST_LOG_SCALE, MOST_LOG_SCALE))
    w = rate * (one / 2)
    d = y - mean
    u = abs(d)
    u *= rate
    outer = u >= w
    near = u - w
    np.exp(-abs(near), out=near)
    far = u + w
    np.exp(-far, out=far)
    half_sum = (near + far) * (one / 2)
    half_difference = near
    half_difference -= far
    half_difference *= one / 2
    p = np.where(outer, half_difference, one - half_sum)
    p += one / SLOTS
    factor = y.dtype.type(-1 / math.log(2)) / p
    u *= half_difference
    w *= half_sum
    d_log_scale = u - w
    d_log_scale *= factor
    d_log_scale *= inside
    half_difference *= factor
    half_difference *= rate
    d_y = np.copysign(half_difference, d, out=half_difference)
    return -float(np.log2(p).sum(dtype=np.float64)), d_y, d_log_scale
