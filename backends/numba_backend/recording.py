"""Recordings of a step: a program for each worker thread, and barriers between them.

While a step is recorded nothing is computed: each primitive adds an instruction and returns a `Pending` array.
Such an array may only be a primitive's argument, so that arithmetic outside the programs raises at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..protocols import Array, NotRecordedError
from .compiled.barrier import Barrier
from .compiled.instructions import RECORD, WAIT, Program, instruction


class Pending(np.ndarray[Any, Any]):
    """An array, or a view of one, that a recorded step will fill; only primitives may take it."""

    def __array_ufunc__(self, ufunc: Any, *args: Any, **kwargs: Any) -> Any:
        """Raise: this would run only once, not with each replay."""
        raise NotRecordedError(f"{ufunc.__name__} is not one of the compiled primitives")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Raise: this would run only once, not with each replay."""
        raise NotRecordedError(f"{func.__name__} is not one of the compiled primitives")


def pending(array: Array) -> Array:
    """Return the same memory as an array that the step will fill."""
    return array.view(Pending)


class Recording:
    """Collects the instructions of a step in a program for each of `workers` threads."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.saved: list[Array] = []
        self.dtype: Any = None
        self.barrier = Barrier(workers)
        self._programs: list[list[Program]] = [[] for _ in range(workers)]
        self._worker: int | None = None
        self._last: str | None = None

    @property
    def max_parts(self) -> int:
        """The most parts of a primitive: 1 while workers run different tasks."""
        return self.workers if self._worker is None else 1

    def add(self, parts: Sequence[Program], *arrays: Array, dtype: Any) -> None:
        """Add a primitive's parts, one for each of the first workers, and keep its arrays alive.

        `dtype` is that of its numbers; None if it only copies bytes.
        """
        self.saved.extend(arrays)
        if dtype is not None and self.dtype not in (None, dtype):
            raise NotRecordedError(f"a step in {self.dtype} and {dtype}")
        self.dtype = self.dtype or dtype
        if self._worker is not None:
            self._programs[self._worker].extend(parts)
            return
        alone = len(parts) == 1
        if self._last is not None and not (alone and self._last == "alone"):
            self._wait()
        for program, part in zip(self._programs, parts, strict=False):
            program.append(part)
        self._last = "alone" if alone else "shared"

    def run_workers(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Record each task in its worker's program; a single task is divided among all workers."""
        if len(tasks) == 1:
            tasks[0]()
            return
        if self._last is not None:
            self._wait()
        for worker, task in enumerate(tasks):
            self._worker = worker % self.workers
            task()
        self._worker, self._last = None, "shared"

    def programs(self) -> list[Program]:
        """Return one program for each worker, or a single one if the others only wait."""
        own = [_joined(program) for program in self._programs]
        if all((program["kind"] == WAIT).all() for program in own[1:]):
            first = own[0]
            return [first[first["kind"] != WAIT]]
        return own

    def _wait(self) -> None:
        for program in self._programs:
            program.append(instruction(WAIT))


def _joined(parts: Sequence[Program]) -> Program:
    """Return consecutive instructions as one program."""
    # As bytes: NumPy's own concatenation handles each field of each record.
    return np.frombuffer(bytearray().join(part.data.cast("B") for part in parts), RECORD)
