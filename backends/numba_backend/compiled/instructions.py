"""Instructions: records of one type with a primitive's addresses, shapes and numbers.

Arrays are (E, n, m) with contiguous last two axes; each address has a step in bytes from one member to the
next, 0 if all share the array. `first` and `last` bound a worker's part of the result.
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
    *("rates", "num_rates", "counter", "seeds", "small_products"),
)
_REALS = ("momentum", "scale", "linear", "cubic", "quintic")
RECORD = np.dtype([(name, np.int64) for name in _INTEGERS] + [(name, np.float64) for name in _REALS])


class _Record(ctypes.Structure):
    """The same record for Python, which fills it ten times as fast."""

    _fields_ = [(n, ctypes.c_int64) for n in _INTEGERS] + [(n, ctypes.c_double) for n in _REALS]


Program = NDArray[Any]
"""Consecutive instructions, shape (n,) of `RECORD`."""


def instruction(kind: int, **fields: float) -> Program:
    """Return a program of one instruction; other fields are 0."""
    record: Any = _Record(kind=kind, **fields)
    program: Program = np.frombuffer(record, RECORD)
    return program


def shared_out(program: Program, **ranges: Sequence[slice]) -> list[Program]:
    """Return a copy of one instruction for each part of its work.

    `columns`, `rows` and `units` set the bounds of that range, such as `first_row` and `last_row`; all have the
    same number of parts.
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


def address_fields(**arrays: Array) -> dict[str, int]:
    """Return the fields with addresses and steps of arrays (n, m) or (E, n, m)."""
    fields = {name: address_of(array) for name, array in arrays.items()}
    return fields | {name + "_step": member_step(array) for name, array in arrays.items()}
