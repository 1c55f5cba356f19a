"""Colours of integer latents, the same on every machine.

The decoder network of `decoder_network` with quantised weights. The numbers of an array are multiples of
one power of two; their products and sums need fewer than 53 bits, so that float64 has them exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CompressedFileError
from ..images.formats.levels import Levels
from ..signals.grid import SampleGrid
from .container import Compressed, ScaledArray, one_blas_thread
from .law_tables import DamagedError
from .upsampling import Upsampling, strips_of

FEATURE_BITS = 8  # fractional bits of features and of hidden activations
COLOUR_BITS = 20  # fractional bits of colours, which are 0 to 1
MOST_WEIGHT = (1 << 15) - 1
_MOST_FEATURE = 1 << 15
_MOST_UNITS = 128
_LEAST_EXPONENT, _MOST_EXPONENT = -40, -4
_BIAS_EXPONENTS = -14, -6  # of colours, of hidden units
_PIXELS = 8192  # of a strip
_BAND = 1 << 22  # pixels whose levels are widened at a time

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
    exponent = max(int(np.ceil(np.log2(largest))) - (bits - 1), _LEAST_EXPONENT)
    return _scaled(values, min(exponent, _MOST_EXPONENT))


def _scaled(values: Exact, exponent: int) -> ScaledArray:
    integers = np.rint(np.ldexp(values, -exponent)).clip(-MOST_WEIGHT, MOST_WEIGHT)
    return ScaledArray(integers.astype(np.int64), exponent)


def synthesise(picture: Compressed) -> Levels:
    """Return the levels (H, W, C), uint8 or uint16; DamagedError if the arrays are no decoder."""
    grid = SampleGrid.of(picture.height, picture.width)
    return np.concatenate([*synthesised_rows(picture, grid)])


def synthesised_rows(picture: Compressed, grid: SampleGrid) -> Iterator[Levels]:
    """Yield rows (n, width, C) of a drawing of any size, or of a window, from the top.

    A size below the picture's own takes points, and not means. DamagedError if the arrays are no decoder.
    """
    network = _checked(picture)
    for band in strips_of(grid.lines, max(1, _BAND // grid.width)):
        window = grid.cropped(0, band.start, grid.width, band.stop - band.start)
        with one_blas_thread():
            rows = [*_rows_of_band(picture, network, window)]
        yield from rows


def _rows_of_band(picture: Compressed, network: Sequence[Exact], grid: SampleGrid) -> Iterator[Levels]:
    """Yield rows of a window whose enlarged levels fit into memory."""
    skip, bias, first, first_bias, last = network
    size, most = (picture.height, picture.width), (1 << picture.bit_depth) - 1
    strips = strips_of(grid.lines, max(1, _PIXELS // grid.width))
    levels = [
        (Upsampling(size, i, strips, "float64", grid), latents)
        for i, latents in enumerate(picture.latents)
        if latents.shape[0]
    ]
    wide = [up.widen(latents.astype(np.float64)) for up, latents in levels]
    for i, strip in enumerate(strips):
        rows = strip.stop - strip.start
        x = np.empty((skip.shape[1], rows, grid.width))
        used = 0
        for (up, _), w in zip(levels, wide, strict=True):
            up.strip(w, i, x[used : used + w.shape[0]])
            used += w.shape[0]
        x = _rounded(x.reshape(used, -1), FEATURE_BITS).clip(-_MOST_FEATURE, _MOST_FEATURE)
        hidden = _rounded(first @ x, FEATURE_BITS) + first_bias[:, None]
        colours = _rounded(last @ hidden.clip(0, _MOST_FEATURE), COLOUR_BITS)
        colours += _rounded(skip @ x, COLOUR_BITS) + bias[:, None]
        drawn = np.floor(colours.clip(0, 1) * most + 0.5).astype(f"uint{picture.bit_depth}")
        yield drawn.T.reshape(rows, grid.width, -1)


def _rounded(values: Exact, bits: int) -> Exact:
    """Return the nearest multiples of `2^-bits`, halves upwards."""
    rounded: Exact = np.floor(values * 2.0**bits + 0.5) * 2.0**-bits
    return rounded


def check_synthesis(picture: Compressed, name: str) -> int:
    """Return the number of channels that a picture draws; CompressedFileError, with its name, if it cannot."""
    try:
        return _checked(picture)[1].size
    except DamagedError as error:
        raise CompressedFileError(f"cannot load {name}: it {error}") from error


def _checked(picture: Compressed) -> list[Exact]:
    """Return the arrays of the decoder as float64."""
    arrays = picture.synthesis
    features = sum(latents.shape[0] for latents in picture.latents)
    shapes = [array.values.shape for array in arrays]
    if len(shapes) != 5 or len(shapes[1]) != 1 or len(shapes[3]) != 1:
        raise DamagedError("has no decoder network that makes colours")
    colours, hidden = shapes[1][0], shapes[3][0]
    if shapes[::2] != [(colours, features), (hidden, features), (colours, hidden)] or not 1 <= colours <= 4:
        raise DamagedError("has a decoder network of impossible shapes")
    if hidden > _MOST_UNITS or any(abs(a.values).max(initial=0) > MOST_WEIGHT for a in arrays):
        raise DamagedError("has a decoder network of impossible weights")
    weights = _LEAST_EXPONENT, _MOST_EXPONENT
    ranges = [weights, (_BIAS_EXPONENTS[0], 0), weights, (_BIAS_EXPONENTS[1], 0), weights]
    if any(not low <= a.exponent <= high for a, (low, high) in zip(arrays, ranges, strict=True)):
        raise DamagedError("has a decoder network with an impossible exponent")
    return [np.ldexp(a.values.astype(np.float64), a.exponent) for a in arrays]
