"""Sines and cosines of whole rows: LLVM has no vector instruction for them, but makes some of a polynomial."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...protocols import Array
from .addresses import compiled

# Pi in three parts of few digits, so that what a small integer takes of the first two is exact: Cody and Waite,
# "Software Manual for the Elementary Functions" (1980), chapter 8.
_PI = (np.float32(3.140625), np.float32(9.67502593994140625e-4), np.float32(1.5099579909783764e-7))
_PER_PI = np.float32(1.0 / math.pi)
# sin r = r + r^3 (c3 + c5 r^2 + c7 r^4 + c9 r^6) on [-pi / 2, pi / 2], the largest error made least: 5e-9, a
# twelfth of the last bit of a float32 near 1.
_C3, _C5 = np.float32(-1.666665710e-1), np.float32(8.333017291e-3)
_C7, _C9 = np.float32(-1.980661513e-4), np.float32(2.600054619e-6)
_NONE, _HALF, _ONE, _TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)


@compiled
def _sine_of(x: np.float32, shift: np.float32) -> Any:
    """Sin(x + shift pi) of a float32, for a shift of 0 or 1/2; NaN for what is infinite.

    For |x| beyond some ten thousand the digits of x run out, and those of the result with them.
    """
    n = np.floor(x * _PER_PI + shift + _HALF)
    turns = n - shift
    r = ((x - turns * _PI[0]) - turns * _PI[1]) - turns * _PI[2]
    square = r * r
    s = r + r * square * (_C3 + square * (_C5 + square * (_C7 + square * _C9)))
    s = s * (_ONE - _TWO * (n - _TWO * np.floor(n * _HALF)))  # (-1)^n
    return _ONE if s > _ONE else (-_ONE if s < -_ONE else s)


@compiled
def sine(z: Array, b: Array, omega: float, y: Array) -> None:
    """Z <- z + b;  y = sin(omega z)."""
    factor = z.dtype.type(omega)
    if z.itemsize == 4:
        for j in range(z.size):
            z[j] += b[j]
            y[j] = _sine_of(np.float32(factor * z[j]), _NONE)
    else:
        for j in range(z.size):
            z[j] += b[j]
            y[j] = math.sin(factor * z[j])


@compiled
def sine_backward(dy: Array, z: Array, omega: float) -> None:
    """Dy <- dy omega cos(omega z)."""
    factor = z.dtype.type(omega)
    if z.itemsize == 4:
        for j in range(z.size):
            dy[j] *= factor * _sine_of(np.float32(factor * z[j]), _HALF)
    else:
        for j in range(z.size):
            dy[j] *= factor * math.cos(factor * z[j])
