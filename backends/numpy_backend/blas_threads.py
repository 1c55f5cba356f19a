"""One BLAS thread while any backend computes: a setting of the process, changed only here.

Backends divide work themselves (`NumpyBackend.run_workers`); a BLAS with threads would take more threads than
cores. Rounding depends on the number of threads: with one, no other work of the process changes a result.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import threadpoolctl


def blas_libraries() -> Any:
    """Return threadpoolctl's controller of all loaded BLAS libraries; this takes a millisecond."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


class OneBlasThread:
    """Counts nested and concurrent holders: the first sets one thread, the last restores the old setting."""

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _forget(self) -> None:
        self._lock, self._count = threading.Lock(), 0
        self._before: dict[str, tuple[Any, int]] = {}

    def _after_fork(self) -> None:
        """Restore the old setting: of all holding threads, a forked child has at most one."""
        before = self._before
        self._forget()
        _set(before.values())

    @contextlib.contextmanager
    def held(self, libraries: Sequence[Any]) -> Iterator[None]:
        """Hold one thread in some libraries (`lib_controllers`); holders may overlap in any order."""
        with self._lock:
            new = {b.filepath: (b, b.get_num_threads()) for b in libraries if b.filepath not in self._before}
            self._before |= new
            _set((library, 1) for library, _ in new.values())
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count = max(0, self._count - 1)  # already 0 in a child forked inside
                if self._count == 0:
                    before, self._before = self._before, {}
                    _set(before.values())


def _set(numbers: Iterable[tuple[Any, int]]) -> None:
    """Set the number of threads of some libraries."""
    for library, count in numbers:
        # Since 3.7 threadpoolctl ignores this call in all threads but one; here any thread may set the number.
        getattr(library, "_real_set_num_threads", library.set_num_threads)(count)


ONE_BLAS_THREAD = OneBlasThread()
