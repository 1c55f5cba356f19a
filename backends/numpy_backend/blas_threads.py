"""One BLAS thread while any backend computes: the setting is the process's, so that it is changed in one place.

Backends share work out themselves (`NumpyBackend.run_workers`). A BLAS that shares it out again would take more
threads than there are cores, and another number of threads rounds otherwise: with one, a result does not depend
on what else the process computes at the same time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import threadpoolctl


def blas_libraries() -> Any:
    """Return threadpoolctl's controller of the BLAS libraries that are loaded now; takes a millisecond."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


class OneBlasThread:
    """Counts those that compute: each sets one thread, the last brings back what was set before."""

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _forget(self) -> None:
        self._lock, self._count = threading.Lock(), 0
        self._before: dict[str, tuple[Any, int]] = {}

    def _after_fork(self) -> None:
        """Bring back what was set before: of the threads that computed, the child has one at most."""
        before = self._before
        self._forget()
        _set(before.values())

    @contextlib.contextmanager
    def held(self, libraries: Sequence[Any]) -> Iterator[None]:
        """Hold the setting of some libraries (`lib_controllers`); may overlap with others in any order."""
        with self._lock:
            new = {b.filepath: (b, b.get_num_threads()) for b in libraries if b.filepath not in self._before}
            self._before |= new
            _set((library, 1) for library, _ in new.values())
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count = max(0, self._count - 1)  # 0 already in a child that was forked in here
                if self._count == 0:
                    before, self._before = self._before, {}
                    _set(before.values())


def _set(numbers: Iterable[tuple[Any, int]]) -> None:
    """Set how many threads some libraries take."""
    for library, count in numbers:
        # Since 3.7 threadpoolctl lets one thread alone set this, and passes over what others ask for. Here
        # whichever thread computes first sets it, and the last one sets it back.
        getattr(library, "_real_set_num_threads", library.set_num_threads)(count)


ONE_BLAS_THREAD = OneBlasThread()
