"""A step's instructions, written down once: a program for each worker thread, and what keeps them in step.

While a step is recorded nothing is computed: each primitive notes its instruction and returns an array whose
numbers are yet to come. Such an array refuses every use but as a primitive's argument, so that arithmetic which
the programs would miss is found at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..protocols import Array, NotRecordedError
from .compiled.barrier import Barrier
from .compiled.instructions import RECORD, WAIT, Program, instruction


class Pending(np.ndarray[Any, Any]):
    """An array that a recorded step will fill; views of it are the same. Only primitives may take it."""

    def __array_ufunc__(self, ufunc: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuse: this would run once, and not again with the step."""
        raise NotRecordedError(f"{ufunc.__name__} is not one of the compiled primitives")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Refuse: this would run once, and not again with the step."""
        raise NotRecordedError(f"{func.__name__} is not one of the compiled primitives")


def pending(array: Array) -> Array:
    """The same memory, to be filled by the step."""
    return array.view(Pending)


def plain(array: Array) -> Array:
    """The same memory as an array like any other."""
    return array.view(np.ndarray)


class Recording:
    """Collects instructions while a step is recorded.

    Parameters
    ----------
    workers : int
        Threads that the programs are for.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.saved: list[Array] = []
        self.dtype: Any = None
        self.barrier = Barrier(workers)
        self._programs: list[list[Program]] = [[] for _ in range(workers)]
        self._worker: int | None = None
        self._last: str | None = None

    @property
    def ways(self) -> int:
        """Parts in which a primitive may share itself out: one, where workers do different things anyway."""
        return self.workers if self._worker is None else 1

    def add(self, parts: Sequence[Program], *arrays: Array, dtype: Any) -> None:
        """Note a primitive's parts, one for each of the first workers, and keep the memory that they name.

        `dtype` is that of its numbers; None where it does not look at them.
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
        """Record each worker's task in its own program; a task that is alone is shared by all."""
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
        """One for each worker that has something to do."""
        own = [_joined(program) for program in self._programs]
        if all((program["kind"] == WAIT).all() for program in own[1:]):
            first = own[0]
            return [first[first["kind"] != WAIT]]
        return own

    def _wait(self) -> None:
        for program in self._programs:
            program.append(instruction(WAIT))


def _joined(parts: Sequence[Program]) -> Program:
    """Instructions one after the other."""
    # As bytes: NumPy looks at all fields of each record again where it joins records.
    return np.frombuffer(bytearray().join(part.data.cast("B") for part in parts), RECORD)
