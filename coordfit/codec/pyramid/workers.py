"""Tasks on worker threads, with the same result for any number of threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from ...backends import get_backend

PARTS = 8
"""Parts into which work is divided for any number of threads, so that sums have the same order."""

Task = Callable[[int], None]
"""Called with the number of its worker."""


class Workers:
    """The worker threads of the NumPy backend; all cores by default."""

    def __init__(self, threads: int | None = None) -> None:
        self.backend = get_backend("numpy", threads=threads)
        self.count: int = getattr(self.backend, "threads", 1)

    def activate(self) -> AbstractContextManager[None]:
        """Let the BLAS use one thread in this block."""
        return self.backend.activate()

    def run(self, tasks: Sequence[Task], cancel: Callable[[], None] | None = None) -> None:
        """Run tasks, the last ones first, and wait for all; `cancel` frees tasks that wait for a failed one."""
        waiting = list(tasks)
        count = max(1, min(self.count, len(waiting)))
        self.backend.run_workers([functools.partial(_work, waiting, i) for i in range(count)], cancel)


def _work(waiting: list[Task], worker: int) -> None:
    while waiting:
        try:
            task = waiting.pop()
        except IndexError:  # another worker took it
            return
        task(worker)


def divided(count: int) -> list[slice]:
    """Return slices of nearly equal length that divide a number of things in up to `PARTS` parts."""
    parts = max(1, min(PARTS, count))
    return [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]
