"""A barrier at which threads of compiled code wait for each other, for less than a microsecond if they can.

A lock of the operating system takes twenty to fifty times as long as what lies between two barriers of a
small network's step. So threads spin; after a while, on a machine that is busy with other things, they let
others run between two looks.
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

# Eight numbers to a cache line: what one thread writes must not slow down the others' looks.
_ARRIVED, _ROUND, _BROKEN = 0, 8, 16
_LOOKS = 2000


class Barrier:
    """The memory of one barrier, and the operating system's call that lets others run.

    Parameters
    ----------
    count : int
        Threads that meet here.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._state: NDArray[np.int64] = np.zeros(24, np.int64)

    def argument(self) -> tuple[int, int, int]:
        """What compiled code is handed."""
        return int(self._state.__array_interface__["data"][0]), self.count, _yield_address()

    def mend(self) -> None:
        """Make it whole before the threads start."""
        self._state[:] = 0

    def break_up(self) -> None:
        """Let everybody through at once and for good: one of the threads will never come."""
        self._state[_BROKEN] = 1


def _yield_address() -> int:
    """Of the call that gives up the rest of a time slice; 0 where none is known."""
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
    """Count one arrival; the number of those before."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.atomic_rmw("add", _at(builder, arguments[0], _ARRIVED), ir.IntType(64)(1), "seq_cst")

    return types.intp(types.intp), generate


def _open_round(typing_context, address, next_round):  # type: ignore[no-untyped-def]
    """Nobody has arrived, and a new round has begun: in this order, for all to see."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store_atomic(ir.IntType(64)(0), _at(builder, arguments[0], _ARRIVED), "seq_cst", 8)
        builder.store_atomic(arguments[1], _at(builder, arguments[0], _ROUND), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _looker(offset: int) -> Any:
    def look(typing_context, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.load_atomic(_at(builder, arguments[0], offset), "seq_cst", 8)

        return types.intp(types.intp), generate

    return intrinsic(look)


def _let_others_run(typing_context, address):  # type: ignore[no-untyped-def]
    """Call the function without arguments at an address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        function = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.intp), generate


_arrive: Any = intrinsic(_add_one)
_begin_round: Any = intrinsic(_open_round)
_round: Any = _looker(_ROUND)
_broken: Any = _looker(_BROKEN)
_yield: Any = intrinsic(_let_others_run)


@jit
def wait(barrier: Any) -> bool:
    """Wait until all threads are here; False where the barrier is broken, and work must end."""
    state, count, give_way = barrier
    this_round = _round(state)
    if _arrive(state) == count - 1:
        _begin_round(state, this_round + 1)
        return bool(_broken(state) == 0)
    looks = 0
    while _round(state) == this_round:
        if _broken(state) != 0:
            return False
        looks += 1
        if looks > _LOOKS and give_way != 0:
            _yield(give_way)
    return True
