"""The same integers as in `rans`, one symbol at a time, compiled by Numba at the first call."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .law_tables import PRECISION, SLOTS, Integers, LawTables

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
