"""Functions of float32 as polynomials, which LLVM vectorizes, unlike library calls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .addresses import jit

# Pi in three parts of few digits, so that small multiples of the first two are exact: Cody and Waite, "Software
# Manual for the Elementary Functions" (1980), chapter 8.
_PI = (np.float32(3.140625), np.float32(9.67502593994140625e-4), np.float32(1.5099579909783764e-7))
_PER_PI = np.float32(1.0 / math.pi)
# sin r = r + r^3 (c3 + c5 r^2 + c7 r^4 + c9 r^6) on [-pi / 2, pi / 2] with least largest error 5e-9, a twelfth
# of the last bit of a float32 near 1.
_C3, _C5 = np.float32(-1.666665710e-1), np.float32(8.333017291e-3)
_C7, _C9 = np.float32(-1.980661513e-4), np.float32(2.600054619e-6)
_NONE, _HALF, _ONE, _TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)

# exp r and tanh x near 0 by the polynomials of S. L. Moshier's Cephes library (1989), expf.c and tanhf.c.
_E2, _E3, _E4 = np.float32(5.0000001201e-1), np.float32(1.6666665459e-1), np.float32(4.1665795894e-2)
_E5, _E6, _E7 = np.float32(8.3334519073e-3), np.float32(1.3981999507e-3), np.float32(1.9875691500e-4)
_LN2 = (np.float32(0.693359375), np.float32(-2.12194440e-4))
_PER_LN2, _MAGIC = np.float32(1.0 / math.log(2.0)), np.float32(1.5 * 2**23)
_EXP_MIN, _EXP_MAX = np.float32(-104.0), np.float32(89.0)  # exp is 0 below, and infinite above
_T3, _T5, _T7 = np.float32(-3.33332819422e-1), np.float32(1.33314422036e-1), np.float32(-5.37397155531e-2)
_T9, _T11 = np.float32(2.06390887954e-2), np.float32(-5.70498872745e-3)
_NEAR_ZERO = np.float32(0.625)


@jit
def _sine_of(x: np.float32, shift: np.float32) -> Any:
    """Return `sin(x + shift pi)` of a float32, for a shift of 0 or 1/2; NaN for infinite x.

    The result loses digits for |x| beyond some ten thousand, as x does.
    """
    n = np.floor(x * _PER_PI + shift + _HALF)
    turns = n - shift
    r = ((x - turns * _PI[0]) - turns * _PI[1]) - turns * _PI[2]
    square = r * r
    s = r + r * square * (_C3 + square * (_C5 + square * (_C7 + square * _C9)))
    s = s * (_ONE - _TWO * (n - _TWO * np.floor(n * _HALF)))  # (-1)^n
    return _ONE if s > _ONE else (-_ONE if s < -_ONE else s)


@jit
def sine(x: np.float32) -> Any:
    """Return `sin x`."""
    return _sine_of(x, _NONE)


@jit
def cosine(x: np.float32) -> Any:
    """Return `cos x`."""
    return _sine_of(x, _HALF)


def _times_power(typing_context, x, shifted):  # type: ignore[no-untyped-def]
    """Return `x 2^n` for an integer n, given as the float32 1.5 2^23 + n, whose last bits are n."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word, real = ir.IntType(32), ir.FloatType()
        x, shifted = arguments
        n = builder.sub(builder.bitcast(shifted, word), builder.bitcast(ir.Constant(real, float(_MAGIC)), word))
        half = builder.ashr(n, ir.Constant(word, 1))
        # In two factors: 2^n alone may overflow or underflow a float32.
        for part in (half, builder.sub(n, half)):
            bits = builder.shl(builder.add(part, ir.Constant(word, 127)), ir.Constant(word, 23))
            x = builder.fmul(x, builder.bitcast(bits, real))
        return x

    return types.float32(types.float32, types.float32), generate


_scaled: Any = intrinsic(_times_power)


@jit
def exponential(x: np.float32) -> Any:
    """Return `exp x`."""
    x = _EXP_MAX if x > _EXP_MAX else (_EXP_MIN if x < _EXP_MIN else x)
    shifted = x * _PER_LN2 + _MAGIC
    n = shifted - _MAGIC
    r = (x - n * _LN2[0]) - n * _LN2[1]
    p = _E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * (_E6 + r * _E7))))
    return _scaled(_ONE + (r + r * r * p), shifted)


@jit
def hyperbolic_tangent(x: np.float32) -> Any:
    """Return `tanh x`."""
    size = abs(x)
    square = x * x
    near = x * (_ONE + square * (_T3 + square * (_T5 + square * (_T7 + square * (_T9 + square * _T11)))))
    far = _ONE - _TWO / (exponential(size + size) + _ONE)
    return near if size < _NEAR_ZERO else (-far if x < _NONE else far)
