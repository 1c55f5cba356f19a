"""A spinning barrier for threads of compiled code, which often takes less than a microsecond.

A lock of the operating system takes twenty to fifty times as long as the work between two barriers of a small
network's step. So threads spin; after a while, on a busy machine, they yield between two checks.
"""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .addresses import jit

# Eight numbers fill a cache line: a write to one field must not slow down reads of the others.
_ARRIVED, _ROUND, _ABORTED = 0, 8, 16
_MAX_SPINS = 2000


class Barrier:
    """The memory of one barrier for `count` threads."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._state: NDArray[np.int64] = np.zeros(24, np.int64)

    def argument(self) -> tuple[int, int, int]:
        """Return the argument of `wait`: (address, threads, address of the yield call)."""
        return int(self._state.__array_interface__["data"][0]), self.count, _yield_address()

    def reset(self) -> None:
        """Prepare for a run, before the threads start."""
        self._state[:] = 0

    def abort(self) -> None:
        """Release all threads, now and later, since one of them will never arrive."""
        self._state[_ABORTED] = 1


def _yield_address() -> int:
    """Return the address of the operating system's call that yields a time slice; 0 if unknown."""
    try:
        library = ctypes.CDLL("kernel32" if platform.system() == "Windows" else None)
        name = "SwitchToThread" if platform.system() == "Windows" else "sched_yield"
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


def _at(builder: Any, address: Any, offset: int) -> Any:
    word = ir.IntType(64)
    return builder.inttoptr(builder.add(address, word(8 * offset)), word.as_pointer())


def _add_one(typing_context, address):  # type: ignore[no-untyped-def]
    """Count one arrival; return the number of earlier ones."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.atomic_rmw("add", _at(builder, arguments[0], _ARRIVED), ir.IntType(64)(1), "seq_cst")

    return types.intp(types.intp), generate


def _open_round(typing_context, address, next_round):  # type: ignore[no-untyped-def]
    """Reset the arrivals, then begin a new round, visible to all threads in this order."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store_atomic(ir.IntType(64)(0), _at(builder, arguments[0], _ARRIVED), "seq_cst", 8)
        builder.store_atomic(arguments[1], _at(builder, arguments[0], _ROUND), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _reader(offset: int) -> Any:
    def read(typing_context, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.load_atomic(_at(builder, arguments[0], offset), "seq_cst", 8)

        return types.intp(types.intp), generate

    return intrinsic(read)


def _call_yield(typing_context, address):  # type: ignore[no-untyped-def]
    """Call the function without arguments at an address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        function = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.intp), generate


_arrive: Any = intrinsic(_add_one)
_begin_round: Any = intrinsic(_open_round)
_round: Any = _reader(_ROUND)
_aborted: Any = _reader(_ABORTED)
_yield: Any = intrinsic(_call_yield)


@jit
def wait(barrier: Any) -> bool:
    """Wait until all threads are here; return False if the barrier is aborted and work must end."""
    state, count, yield_address = barrier
    this_round = _round(state)
    if _arrive(state) == count - 1:
        _begin_round(state, this_round + 1)
        return bool(_aborted(state) == 0)
    spins = 0
    while _round(state) == this_round:
        if _aborted(state) != 0:
            return False
        spins += 1
        if spins > _MAX_SPINS and yield_address != 0:
            _yield(yield_address)
    return True
