"""Laws as tables: each symbol of a law has some of its 2^15 slots, as many as its probability says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

PRECISION = 15  # bits of a probability
SLOTS = 1 << PRECISION
MOST_SYMBOLS = 256  # of a law

Integers = NDArray[np.integer[Any]]


class DamagedError(Exception):
    """A stream cannot be decoded; the text completes "it ..."."""


@dataclass(frozen=True)
class LawTables:
    """Laws laid end to end: symbol s of a law is entry `first[law] + s`."""

    first: Integers
    start: NDArray[np.uint32]
    frequency: NDArray[np.uint32]
    symbol_of_slot: NDArray[np.uint8]  # (laws * SLOTS,)

    @classmethod
    def of(cls, laws: Iterable[ArrayLike]) -> LawTables:
        """Return the tables of laws that are given by their bounds: 0, rising, `SLOTS` at the end."""
        bounds = [np.asarray(law, np.int64) for law in laws]
        for law in bounds:
            if (
                law[0] != 0
                or law[-1] != SLOTS
                or np.diff(law).min() < 1
                or not 2 < law.size <= MOST_SYMBOLS + 1
            ):
                raise ValueError("a law is 2 to 256 frequencies of at least 1 that sum to 32768")
        frequencies = [np.diff(law) for law in bounds]
        symbols = [np.repeat(np.arange(f.size, dtype=np.uint8), f) for f in frequencies]
        return cls(
            np.cumsum([0, *(f.size for f in frequencies)]),
            np.concatenate([law[:-1] for law in bounds]).astype(np.uint32),
            np.concatenate(frequencies).astype(np.uint32),
            np.concatenate(symbols),
        )

    def bits(self, symbols: ArrayLike, laws: ArrayLike) -> float:
        """Return the entropy of symbols under their laws: the bits that a perfect coder takes."""
        frequency = self.frequency[self.first[np.asarray(laws)] + np.asarray(symbols)]
        return float((PRECISION - np.log2(frequency)).sum())
