"""Flush subnormal numbers to zero while a backend computes: a setting of a thread, and of those that it starts.

Processors take some hundred cycles for an operation on numbers below the smallest normal one. Training makes
them: the momentum of a unit that no pixel activates shrinks step by step, and a bell curve falls off fast.
PyTorch (`torch.set_flush_denormal`), TensorFlow and XLA have the same setting.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Iterator

import numpy as np

# `fenv_t` of glibc and musl on x86-64: 28 bytes of the x87 unit, then the control register of SSE and AVX.
_WORDS, _CONTROL = 8, 7
_FLUSH_RESULTS, _FLUSH_OPERANDS = 1 << 15, 1 << 6
_FLUSH = _FLUSH_RESULTS | _FLUSH_OPERANDS

Exchange = Callable[[int], int]
"""Sets the two bits of this thread and returns what they were."""


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Flush subnormals in this thread; where this is not known to work they are left as they are."""
    exchange = _exchange()
    if exchange is None:
        yield
        return
    before = exchange(_FLUSH)
    try:
        yield
    finally:
        exchange(before)


@functools.cache
def _exchange() -> Exchange | None:
    """Return what sets the bits; None for other systems, and if a try shows that it has no effect."""
    if not sys.platform.startswith("linux") or platform.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        library = ctypes.CDLL(None)
        get, put = library.fegetenv, library.fesetenv
    except (OSError, AttributeError):
        return None

    def exchange(bits: int) -> int:
        environment = (ctypes.c_uint32 * _WORDS)()
        get(environment)
        before = environment[_CONTROL] & _FLUSH
        environment[_CONTROL] = (environment[_CONTROL] & ~_FLUSH) | bits
        put(environment)
        return before

    before = exchange(_FLUSH)
    is_flushed = _smallest_normal_halved() == 0.0
    exchange(before)
    return exchange if is_flushed and _smallest_normal_halved() != 0.0 else None


def _smallest_normal_halved() -> float:
    return float(np.float64(2.0**-1022) * np.float64(0.5))
