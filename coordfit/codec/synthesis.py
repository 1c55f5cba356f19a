"""Colours of integer latents, the same on every machine.

The decoder network of `decoder_network` with quantised weights. The numbers of an array are multiples of
one power of two; their products and sums need fewer than 53 bits, so that float64 has them exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .container import Compressed, ScaledArray
from .law_tables import DamagedError
from .upsampling import Upsampling, strips_of

FEATURE_BITS = 8  # fractional bits of features and of hidden activations
COLOUR_BITS = 16  # fractional bits of colours, which are 0 to 1
MOST_WEIGHT = (1 << 15) - 1
_MOST_FEATURE = 1 << 15
_MOST_UNITS = 128
_LEAST_EXPONENT = -40
_BIAS_EXPONENTS = -12, -6  # of colours, of hidden units
_PIXELS = 8192  # of a strip

Exact = NDArray[np.float64]


def synthesis_arrays(
    weights: Sequence[NDArray[Any]], step: float, mean: NDArray[Any], bits: int
) -> list[ScaledArray]:
    """Return `S, b, W_1, b_1, W_2` quantised to `bits` bits, from a decoder whose colours are in steps."""
    first, last = (w.astype(np.float64) for w in weights)
    hidden = last.shape[1]
    skip, layer = first[hidden:] * step, first[:hidden]
    return [
        _quantised(skip[:, :-1], bits),
        _scaled(skip[:, -1] + mean, _BIAS_EXPONENTS[0]),
        _quantised(layer[:, :-1], bits),
        _scaled(layer[:, -1], _BIAS_EXPONENTS[1]),
        _quantised(last * step, bits),
    ]


def _quantised(values: Exact, bits: int) -> ScaledArray:
    """Return the nearest multiples of the power of two that gives the largest value `bits` bits."""
    largest = max(float(abs(values).max(initial=0)), 2.0**-20)
    return _scaled(values, max(int(np.ceil(np.log2(largest))) - (bits - 1), _LEAST_EXPONENT))


def _scaled(values: Exact, exponent: int) -> ScaledArray:
    integers = np.rint(np.ldexp(values, -exponent)).clip(-MOST_WEIGHT, MOST_WEIGHT)
    return ScaledArray(integers.astype(np.int64), exponent)


def synthesise(picture: Compressed) -> NDArray[np.uint8]:
    """Return the pixels (H, W, C) of a compressed picture; DamagedError if its arrays are no decoder."""
    skip, bias, first, first_bias, last = _checked(picture)
    size = picture.height, picture.width
    strips = strips_of(size[0], max(1, _PIXELS // size[1]))
    levels = [
        (Upsampling(size, i, strips, "float64"), latents.astype(np.float64))
        for i, latents in enumerate(picture.latents)
        if latents.shape[0]
    ]
    wide = [up.widen(latents) for up, latents in levels]
    pixels = np.empty((*size, bias.size), np.uint8)
    for i, strip in enumerate(strips):
        rows = strip.stop - strip.start
        x = np.empty((skip.shape[1], rows, size[1]))
        used = 0
        for (up, _), w in zip(levels, wide, strict=True):
            up.strip(w, i, x[used : used + w.shape[0]])
            used += w.shape[0]
        x = _rounded(x.reshape(used, -1), FEATURE_BITS).clip(-_MOST_FEATURE, _MOST_FEATURE)
        hidden = _rounded(first @ x, FEATURE_BITS) + first_bias[:, None]
        colours = _rounded(last @ hidden.clip(0, _MOST_FEATURE), COLOUR_BITS)
        colours += _rounded(skip @ x, COLOUR_BITS) + bias[:, None]
        levels_of_grey = np.floor(colours.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        pixels[strip] = levels_of_grey.T.reshape(rows, size[1], -1)
    return pixels


def _rounded(values: Exact, bits: int) -> Exact:
    """Return the nearest multiples of `2^-bits`, halves upwards."""
    rounded: Exact = np.floor(values * 2.0**bits + 0.5) * 2.0**-bits
    return rounded


def _checked(picture: Compressed) -> list[Exact]:
    """Return the arrays of the decoder as float64."""
    arrays = picture.synthesis
    features = sum(latents.shape[0] for latents in picture.latents)
    shapes = [array.values.shape for array in arrays]
    if len(shapes) != 5 or len(shapes[1]) != 1 or len(shapes[3]) != 1:
        raise DamagedError("has no decoder network that makes colours")
    colours, hidden = shapes[1][0], shapes[3][0]
    if shapes[::2] != [(colours, features), (hidden, features), (colours, hidden)] or colours not in (1, 3):
        raise DamagedError("has a decoder network of impossible shapes")
    if hidden > _MOST_UNITS or any(abs(a.values).max(initial=0) > MOST_WEIGHT for a in arrays):
        raise DamagedError("has a decoder network of impossible weights")
    least = [_LEAST_EXPONENT, _BIAS_EXPONENTS[0], _LEAST_EXPONENT, _BIAS_EXPONENTS[1], _LEAST_EXPONENT]
    if any(not low <= a.exponent <= 0 for a, low in zip(arrays, least, strict=True)):
        raise DamagedError("has a decoder network with an impossible exponent")
    return [np.ldexp(a.values.astype(np.float64), a.exponent) for a in arrays]
