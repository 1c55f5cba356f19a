"""Instructions: records of one type, in which a primitive's addresses, shapes and numbers are written down.

Arrays are (E, n, m) with the last two axes contiguous; beside each address stands the step in bytes from one
member to the next, 0 where all share it. `first` and `last` bound a worker's part of what is computed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...protocols import Array
from .addresses import address_of, member_step

WAIT, LINEAR, LINEAR_BACKWARD, ACTIVATION_BACKWARD, LOSS, TAKE_ROWS = range(6)
UPDATE, MUON, SUM, JOIN, BATCH_ORDER, COUNT = range(6, 12)

_ADDRESSES = ("x", "W", "b", "y", "dz", "dW", "db", "dx", "saved", "target", "weights", "index")
_INTEGERS = (
    *("kind", "kernel", "table", "accumulate", "members", "rows", "inputs", "units"),
    *("first_row", "last_row", "first", "last", "first_unit", "last_unit"),
    *(name + suffix for name in _ADDRESSES for suffix in ("", "_step")),
    *("value", "parameters", "gradients", "num_gradients", "states", "momenta", "iterations"),
    *("rates", "num_rates", "counter", "seeds"),
)
_REALS = ("momentum", "scale", "linear", "cubic", "quintic")
RECORD = np.dtype([(name, np.int64) for name in _INTEGERS] + [(name, np.float64) for name in _REALS])


class _Record(ctypes.Structure):
    """The same record, which Python fills ten times as fast."""

    _fields_ = [(n, ctypes.c_int64) for n in _INTEGERS] + [(n, ctypes.c_double) for n in _REALS]


Program = NDArray[Any]
"""Instructions one after the other, shape (n,) of `RECORD`."""


def instruction(kind: int, **fields: float) -> Program:
    """One instruction as a program of its own; what is not named is 0."""
    record: Any = _Record(kind=kind, **fields)
    program: Program = np.frombuffer(record, RECORD)
    return program


def shared_out(program: Program, **ranges: Sequence[slice]) -> list[Program]:
    """Copies of one instruction for parts of its work: `rows=` sets first_row and last_row of each, and so on.

    `columns`, `units` and `rows` are the ranges that an instruction may have; all have as many parts.
    """
    count = len(next(iter(ranges.values())))
    copies = [program.copy() for _ in range(count)]
    for name, parts in ranges.items():
        first, last = _RANGES[name]
        for copy, part in zip(copies, parts, strict=True):
            copy[first], copy[last] = part.start, part.stop
    return copies


_RANGES = {
    "columns": ("first", "last"),
    "rows": ("first_row", "last_row"),
    "units": ("first_unit", "last_unit"),
}


def at(**arrays: Array) -> dict[str, int]:
    """Return the fields that say where arrays (n, m) or (E, n, m) are."""
    fields = {name: address_of(array) for name, array in arrays.items()}
    return fields | {name + "_step": member_step(array) for name, array in arrays.items()}
