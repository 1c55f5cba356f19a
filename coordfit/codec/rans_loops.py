"""The same integers as in `rans` and `contexts`, one at a time, compiled by Numba at the first call.

All loops stand here: Numba's cache compiles a loop again only if its own file has changed.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .law_tables import PRECISION, SLOTS, Integers, LawTables

LEAST = -(1 << 31)
LOWEST = 1 << 16  # a state before and after each symbol is at least this


def compiled_encode(state: NDArray[Any], start: NDArray[Any], frequency: NDArray[Any]) -> NDArray[np.uint16]:
    """Encode a group into the lanes; return its words in the decoder's order. ImportError without Numba."""
    words = np.empty(start.size, np.uint16)  # a symbol of at most 15 bits moves one word at most
    return words[_compiled(_encode)(state, start, frequency, words) :]


def compiled_decode(
    state: NDArray[Any],
    words: NDArray[Any],
    position: int,
    laws: Integers,
    tables: LawTables,
    symbols: Integers,
) -> int:
    """Fill the symbols of a group; return the position after its words, or -1 if there are too few."""
    arrays = tables.first, tables.start, tables.frequency, tables.symbol_of_slot
    return int(_compiled(_decode)(state, words, position, laws, *arrays, symbols))


@dataclass(frozen=True)
class LevelLoop:
    """Decodes the steps of one level; all arrays are read, but for `canvas` and the last two.

    Attributes
    ----------
    scan
        `Scan.arrays`: canvas, places, places above, channels, both offsets, level, ends of the steps.
    network
        `ContextNetwork.integers`: weights, biases, shifts, units of each layer.
    laws
        Radii; the largest input, activation and scale; the fractions of a mean.
    group : array, shape (3, N)
        Filled with the rounded means, the scales and the offsets from the rounded means of the last step.
    values : array, shape (latents,)
        Filled in the order of decoding.
    """

    scan: tuple[Any, ...]
    network: tuple[Any, ...]
    laws: tuple[Integers, int, int, int, int]
    group: Integers
    values: Integers

    def __call__(self, coder: tuple[Any, ...], position: int, step: int) -> tuple[int, int]:
        """Decode from a step to the first one with an escape; return the step after it, and the position."""
        fixed = self.scan, self.network, self.laws, self.group, self.values
        step, position = _compiled_steps()(coder, position, step, *fixed)
        return int(step), int(position)


@functools.cache
def _compiled_steps() -> Callable[..., Any]:
    from numba.extending import register_jitable

    for part in (_decode, _contexts, _evaluate):
        register_jitable(part)
    return _compiled(_decode_steps)


@functools.cache
def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loop that compiles at its first call, and keeps its code on disk if there is a place for it."""
    import numba

    compiled: Callable[..., Any] = numba.njit(nogil=True)(loop)
    with contextlib.suppress(RuntimeError):
        compiled.enable_caching()  # type: ignore[attr-defined]
    return compiled


def _encode(state: Any, start: Any, frequency: Any, words: Any) -> Any:
    at = words.size
    for i in range(start.size - 1, -1, -1):
        lane = i % state.size
        x, f = np.int64(state[lane]), np.int64(frequency[i])
        if x >= f << (32 - PRECISION):
            at -= 1
            words[at] = x & 0xFFFF
            x >>= 16
        state[lane] = ((x // f) << PRECISION) + x % f + start[i]
    return at


def _decode(
    state: Any,
    words: Any,
    position: Any,
    laws: Any,
    first: Any,
    start: Any,
    frequency: Any,
    symbol_of_slot: Any,
    symbols: Any,
) -> Any:
    for i in range(laws.size):
        lane = i % state.size
        x, law = np.int64(state[lane]), laws[i]
        slot = x & (SLOTS - 1)
        symbol = np.int64(symbol_of_slot[(law << PRECISION) + slot])
        entry = first[law] + symbol
        x = np.int64(frequency[entry]) * (x >> PRECISION) + slot - np.int64(start[entry])
        if x < LOWEST:
            if position >= words.size:
                return -1
            x = (x << 16) | np.int64(words[position])
            position += 1
        state[lane] = x
        symbols[i] = symbol
    return position


def _decode_steps(
    coder: Any,
    position: Any,
    step: Any,
    scan: Any,
    network: Any,
    laws: Any,
    group: Any,
    values: Any,
) -> Any:
    state, words, first, start, frequency, symbol_of_slot = coder
    canvas, place, ends = scan[0], scan[1], scan[-1]
    radii, most_input, most_activation, most_scale, fractions = laws
    bases, scales, offsets = group
    tables, symbols = np.empty_like(bases), np.empty_like(bases)
    x = np.empty((network[0].shape[1], bases.size), np.int32)
    y = np.empty_like(x)
    escaped = False
    while step < ends.size - 1 and not escaped:
        begin, size = ends[step], ends[step + 1] - ends[step]
        _contexts(x, begin, size, scan)
        _evaluate(x, y, size, network, np.int32(most_activation))
        for i in range(size):
            mean = max(np.int64(x[0, i]), -most_activation) + fractions // 2
            scales[i] = min(max(np.int64(x[1, i]), 0), most_scale)
            bases[i] = mean // fractions
            tables[i] = fractions * scales[i] + mean % fractions
        position = _decode(
            state, words, position, tables[:size], first, start, frequency, symbol_of_slot, symbols
        )
        if position < 0:
            break
        for i in range(size):
            radius = radii[scales[i]]
            offsets[i] = symbols[i] - radius
            escaped |= offsets[i] > radius
            value = bases[i] + offsets[i]
            values[begin + i] = value
            canvas[place[begin + i]] = min(max(value, -most_input), most_input)
        step += 1
    return step, position


def _contexts(x: Any, begin: Any, size: Any, scan: Any) -> None:
    """Fill the first columns of x with the contexts (inputs, size) of the latents from `begin` on."""
    canvas, place, place_above, channel, offsets, offsets_above, level, _ = scan
    near, inputs = offsets.size, offsets.size + offsets_above.size
    for k in range(inputs):
        places, offset = (place, offsets[k]) if k < near else (place_above, offsets_above[k - near])
        for i in range(size):
            x[k, i] = np.int32(canvas[places[begin + i] + offset])
    for i in range(size):
        x[inputs, i] = level
        x[inputs + 1, i] = channel[begin + i]


def _evaluate(x: Any, y: Any, size: Any, network: Any, most: Any) -> None:
    """Put the outputs (2, size) of the network in place of its inputs; y is as large as x.

    Rows are sliced from contiguous arrays, so that the inner loops become vector instructions.
    """
    weights, biases, shifts, units = network
    for layer in range(shifts.size):
        low, shift = np.int32(0 if layer + 1 < shifts.size else LEAST), shifts[layer]
        for j in range(units[layer + 1]):
            out = y[j, :size]
            out[:] = biases[layer, j]
            for i in range(units[layer]):
                weight, row = weights[layer, i, j], x[i, :size]
                for k in range(size):
                    out[k] += row[k] * weight
        for j in range(units[layer + 1]):
            for k in range(size):
                x[j, k] = max(low, min(np.int32(y[j, k] >> shift), most))
