"""Soft rounding: a smooth stand-in for rounding that hardens as its temperature falls.

Source: Agustsson and Theis (2020), arXiv 2006.09952; with noise between two of them as in Kim et al. (2023),
arXiv 2312.02753.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating[Any]]


def soft_round(x: Real, temperature: float) -> tuple[Real, Real]:
    """Return x softly rounded, and the slope.

    `floor(x) + 1/2 + tanh(r / T) / (2 tanh(1 / (2 T)))` with `r = x - floor(x) - 1/2`.
    """
    base = np.floor(x)
    base += 0.5
    t = x - base
    t *= 1 / temperature
    np.tanh(t, out=t)
    scale = 0.5 / math.tanh(0.5 / temperature)
    slope = t * t
    np.subtract(1, slope, out=slope)
    slope *= scale / temperature
    t *= scale
    base += t
    return base, slope


def noisy_round(x: Real, temperature: float, rng: np.random.Generator) -> tuple[Real, Real]:
    """Return `s(s(x) + n)` (n,) and its slope: s is `soft_round`, n triangular noise between -1/2 and 1/2."""
    first, first_slope = soft_round(x, temperature)
    noise = rng.random(first.size, np.float32)
    noise += rng.random(first.size, np.float32)
    noise -= 1
    noise *= 0.5
    first += noise
    y, slope = soft_round(first, temperature)
    slope *= first_slope
    return y, slope
