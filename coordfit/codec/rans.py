"""Interleaved rANS: integers as few bits under laws that the decoder knows one group at a time.

A law gives each of its symbols a range of the 2^15 slots; a symbol costs `15 - log2(frequency)` bits. Lane i
holds a 32-bit state `x >= 2^16` and codes the symbols i, i + lanes ... of every group. The lanes share one
stream of 16-bit words. Encoding runs backwards, so that decoding runs forwards:

    encode:  x <- x // f * 2^15 + x % f + start        after a word has left, if x >= f * 2^17
    decode:  slot = x % 2^15,  x <- f * (x // 2^15) + slot - start,  then a word comes in, if x < 2^16

Source: J. Duda, "Asymmetric numeral systems" (arXiv 1311.2540); F. Giesen, "Interleaved entropy coders"
(arXiv 1402.3392).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .law_tables import PRECISION, SLOTS, DamagedError, Integers, LawTables
from .rans_loops import LOWEST, LevelLoop, compiled_decode, compiled_encode

MOST_LANES = 1024
_SYMBOLS_PER_LANE = 8192  # 32 bits of state beside about 8000 bits of symbols


def lane_count(symbols: int) -> int:
    """Return the number of lanes for a number of symbols: a power of two from 1 to 1024."""
    return min(MOST_LANES, 1 << max(0, (symbols // _SYMBOLS_PER_LANE).bit_length() - 1))


class Encoder:
    """Collects groups of symbols in the decoder's order and codes them at the end."""

    def __init__(self, tables: LawTables) -> None:
        self.tables = tables
        self._groups: list[Integers] = []

    def put(self, symbols: ArrayLike, laws: ArrayLike) -> None:
        """Add a group: symbols (n,), each under its law (n,)."""
        symbols, laws = np.asarray(symbols, np.int64), np.asarray(laws, np.int64)
        first = self.tables.first
        if ((symbols < 0) | (symbols >= first[laws + 1] - first[laws])).any():
            raise ValueError("a symbol lies outside its law")
        self._groups.append((first[laws] + symbols).astype(np.int32))

    def bits(self) -> float:
        """Return the entropy of all groups so far: the bits that a perfect coder takes."""
        frequency = self.tables.frequency
        return sum(float((PRECISION - np.log2(frequency[entries])).sum()) for entries in self._groups)

    def finish(self, lanes: int, compiled: bool = False) -> bytes:
        """Return the stream: a state of 32 bits for each lane, then words of 16 bits, little-endian."""
        state = np.full(lanes, LOWEST, np.uint32)
        encode = compiled_encode if compiled else _encode
        start, frequency = self.tables.start, self.tables.frequency
        pieces = [encode(state, start[entries], frequency[entries]) for entries in reversed(self._groups)]
        words = np.concatenate([np.empty(0, np.uint16), *reversed(pieces)])
        return state.astype("<u4").tobytes() + words.astype("<u2").tobytes()


class Decoder:
    """Decodes a stream, group by group, under laws that may follow from the groups before."""

    def __init__(self, data: bytes, tables: LawTables, lanes: int, compiled: bool = False) -> None:
        if len(data) < 4 * lanes or len(data) % 2:
            raise DamagedError("ends too early")
        self.tables = tables
        self._state = np.frombuffer(data, "<u4", lanes).astype(np.uint32)
        self._words = np.frombuffer(data, "<u2", offset=4 * lanes).astype(np.uint32)
        self._position = 0
        self.compiled = compiled
        self._decode: Any = compiled_decode if compiled else _decode
        if (self._state < LOWEST).any():
            raise DamagedError("begins with an impossible state")

    def take(self, laws: ArrayLike) -> Integers:
        """Return the next group of symbols (n,) under their laws (n,)."""
        laws = np.asarray(laws, np.int64)
        symbols = np.empty(laws.size, np.int64)
        self._position = self._decode(self._state, self._words, self._position, laws, self.tables, symbols)
        if self._position < 0:
            raise DamagedError("ends too early")
        return symbols

    def run(self, loop: LevelLoop, step: int) -> int:
        """Decode steps of a level as `loop` does; return the step after the last."""
        tables = self.tables
        laws = tables.first, tables.start, tables.frequency, tables.symbol_of_slot
        step, self._position = loop((self._state, self._words, *laws), self._position, step)
        if self._position < 0:
            raise DamagedError("ends too early")
        return step

    def finish(self) -> None:
        """Check that all words are used and all lanes are back at their beginning."""
        if self._position != self._words.size or (self._state != LOWEST).any():
            raise DamagedError("does not end as it must")


def _encode(
    state: NDArray[np.uint32], start: NDArray[np.uint32], frequency: NDArray[np.uint32]
) -> NDArray[np.uint16]:
    """Encode a group into the lanes, last round first; return its words in the decoder's order."""
    rounds = []
    for begin in reversed(range(0, start.size, state.size)):
        f, c = frequency[begin : begin + state.size], start[begin : begin + state.size]
        x = state[: f.size]
        full = (x >= f << np.uint32(32 - PRECISION)).nonzero()[0]
        out = x[full]
        rounds.append(out.astype(np.uint16))  # the low 16 bits
        x[full] = out >> np.uint32(16)
        quotient = x // f
        x += quotient * (SLOTS - f) + c  # x % f = x - quotient * f
    return np.concatenate([np.empty(0, np.uint16), *reversed(rounds)])


def _decode(
    state: NDArray[np.uint32],
    words: NDArray[np.uint32],
    position: int,
    laws: Integers,
    tables: LawTables,
    symbols: Integers,
) -> int:
    """Fill the symbols of a group; return the position after its words, or -1 if there are too few."""
    slots = laws << PRECISION
    first = tables.first[laws]
    for begin in range(0, laws.size, state.size):
        part = slice(begin, begin + state.size)
        base = first[part]
        x = state[: base.size]
        slot = x & np.uint32(SLOTS - 1)
        entry = tables.symbol_of_slot.take(slots[part] + slot) + base
        symbols[part] = entry
        x >>= PRECISION
        x *= tables.frequency.take(entry)
        x += slot
        x -= tables.start.take(entry)
        low = (x < LOWEST).nonzero()[0]
        new = words[position : position + low.size]
        if new.size < low.size:
            return -1
        x[low] = (x[low] << np.uint32(16)) | new
        position += low.size
    symbols -= first
    return position
