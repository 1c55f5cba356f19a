"""The loops of `rans`, compiled by Numba: the same integers in the same order, one symbol at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .rans import LOWEST, PRECISION, SLOTS, Integers, LawTables


def encode(state: NDArray[Any], start: NDArray[Any], frequency: NDArray[Any]) -> NDArray[np.uint16]:
    """Encode a group into the lanes; return its words in the decoder's order."""
    words = np.empty(start.size, np.uint16)  # a symbol of at most 15 bits moves one word at most
    return words[_encode(state, start, frequency, words) :]


def decode(
    state: NDArray[Any],
    words: NDArray[Any],
    position: int,
    laws: Integers,
    tables: LawTables,
    symbols: Integers,
) -> int:
    """Fill the symbols of a group; return the position after its words, or -1 if there are too few."""
    arrays = tables.first, tables.start, tables.frequency, tables.symbol_of_slot
    return int(_decode(state, words, position, laws, *arrays, symbols))


def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and keep the code on disk if there is a place to write it."""
    compiled: Any = numba.njit(nogil=True)(loop)
    with contextlib.suppress(RuntimeError):
        compiled.enable_caching()
    return compiled  # type: ignore[no-any-return]


@_compiled
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


@_compiled
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
