"""The host of Numba's fused bodies: it executes instructions, or records them as a program."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..numpy_backend.host import Host, even_slices
from ..numpy_backend.worker_threads import Task
from ..protocols import Array, NotRecordedError
from .compiled.addresses import is_plain
from .compiled.barrier import Barrier
from .compiled.blas import find_gemm, has_small_products
from .compiled.instructions import shared_out
from .compiled.interpreter import execute
from .recording import pending

# Smaller parts of a product, in operations or columns, are not worth a worker.
_MIN_PART_FLOPS = 400_000
MIN_PART_COLUMNS = 32
_LINE = 16  # numbers of float32 in a cache line
# Smaller parts of an optimizer's pass are not worth a worker: in a program, and outside.
MIN_PART_NUMBERS = 8_192
_MIN_WORKER_NUMBERS = 1_000_000


class CompiledHost(Host):
    """The host's cores, with compiled instructions in place of calls.

    Attributes
    ----------
    gemm
        The BLAS's products for compiled code; None if it has none by a known name.
    has_small_products
        Whether the BLAS multiplies small matrices without packing them.
    recording
        The recording of a step in this thread; None if instructions are executed.
    """

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(threads)
        self.gemm = find_gemm([library.dynlib for library in self.blas.lib_controllers])
        self.has_small_products = has_small_products(self.blas.lib_controllers)
        self._barrier = Barrier(1).argument()  # a program of one thread never waits
        self._recordings = threading.local()

    @property
    def recording(self) -> Any:
        """See the class."""
        return getattr(self._recordings, "current", None)

    @recording.setter
    def recording(self, recording: Any) -> None:
        self._recordings.current = recording

    def do(self, parts: Sequence[Any], *arrays: Array, dtype: Any) -> None:
        """Execute a primitive's parts, or record them."""
        if self.recording is not None:
            self.recording.add(parts, *arrays, dtype=dtype)
            return
        dtype = np.dtype(np.float32 if dtype is None else dtype)
        gemm, like = self.gemm_of(dtype), self.reuse("like", (1,), dtype)
        for part in parts:
            execute(part, gemm, like, self._barrier)

    def gemm_of(self, dtype: Any) -> Any:
        """Return the argument with which compiled code calls the BLAS's product of this dtype."""
        return (self.gemm or {}).get(dtype, (0, np.int64(0)))  # address 0 is never called

    def compiles(self, *arrays: Array, product: bool = False) -> bool:
        """Whether compiled code can take these arrays; while a step is recorded, raise if not."""
        dtype = arrays[0].dtype
        known = dtype in (np.float32, np.float64) and all(a.dtype == dtype for a in arrays)
        if known and all(map(is_plain, arrays)) and not (product and self.gemm is None):
            return True
        self.refuse("arrays of this kind")
        return False

    def refuse(self, what: str) -> None:
        """Raise NotRecordedError if a step is being recorded."""
        if self.recording is not None:
            raise NotRecordedError(f"{what}: no compiled body")

    def result(self, array: Array) -> Array:
        """Return a primitive's result; while a step is recorded, a `Pending` one."""
        return array if self.recording is None else pending(array)

    def parts(self, numbers: int, smallest: int) -> list[slice]:
        """Cut [0, numbers) for the workers of a program; outside a recording, return one part."""
        count = 1 if self.recording is None else self.recording.max_parts
        return even_slices(0, numbers, max(1, min(count, numbers // smallest)))

    def parts_of_product(self, length: int, flops: int) -> list[slice]:
        """Cut an axis of a product that takes `flops` operations in all."""
        smallest = max(MIN_PART_COLUMNS, -(-_MIN_PART_FLOPS * length // max(flops, 1)))
        # At cache lines: two workers that write into one would slow each other down.
        groups = self.parts(-(-length // _LINE), -(-smallest // _LINE))
        return [slice(g.start * _LINE, min(g.stop * _LINE, length)) for g in groups]

    def shared_by_workers(self, whole: Any, members: int, width: int) -> list[Any]:
        """Return an optimizer's pass in parts: of members if they are enough, else of columns."""
        if self.recording is not None:
            count = min(self.recording.max_parts, members * width // MIN_PART_NUMBERS)
        else:
            count = 1 if self.is_at_work else min(self.threads, members * width // _MIN_WORKER_NUMBERS)
        if count <= 1:
            return [whole]
        if members >= count:
            return shared_out(whole, rows=even_slices(0, members, count))
        return shared_out(whole, columns=even_slices(0, width, count))

    def run_workers(self, tasks: Sequence[Task], cancel: Task | None = None) -> None:
        """Run tasks as `Host` does, or record each in its worker's program."""
        if self.recording is not None:
            self.recording.run_workers(tasks)
        else:
            super().run_workers(tasks, cancel)
