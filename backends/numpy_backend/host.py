"""The state of a CPU backend's fused bodies: worker threads with one BLAS thread each, and reused buffers."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..protocols import Array
from .blas_threads import ONE_BLAS_THREAD, blas_libraries
from .host_cores import usable_cores
from .passes import Coefficients
from .subnormals import flushed
from .worker_threads import Task, WorkerThreads

# Smaller products are not divided among workers.
_MIN_SHARED_FLOPS = 6_000_000
# Elements of flat buffers for an optimizer's passes: they stay in the cache for all passes; smaller pieces
# would cost more calls.
_PIECE = 262_144
# With fewer elements each, a second thread costs the optimizer more than it saves.
_MIN_WORKER_ELEMENTS = 400_000


class _ThreadState(threading.local):
    """The state of a host for each thread that uses it.

    Attributes
    ----------
    depth : int
        Nested entries of `activate`.
    workers : WorkerThreads, optional
        Made at first need, and ended with the outermost `activate`.
    is_at_work : bool
        Whether this thread computes one part of divided work, and so divides no more.
    memory, buffers : dict
        Reused memory by purpose, and its views by shape.
    """

    def __init__(self) -> None:
        self.depth, self.is_at_work = 0, False
        self.workers: WorkerThreads | None = None
        self.memory: dict[tuple[str, Any], Array] = {}
        self.buffers: dict[tuple[str, tuple[int, ...], Any], Array] = {}


class Host:
    """The host's cores and memory, as fused bodies use them; `threads` as in `NumpyBackend`."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = usable_cores() if threads is None else threads
        self.blas = blas_libraries()
        self._local = _ThreadState()

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Hold one BLAS thread and worker threads; entries may be nested and concurrent.

        Each calling thread has its own workers, which end when it leaves. Overflow does not warn inside:
        divergence shows in the loss. Subnormal numbers are flushed to zero.
        """
        mine = self._local
        with ONE_BLAS_THREAD.held(self.blas.lib_controllers), np.errstate(all="ignore"), flushed():
            mine.depth += 1
            try:
                yield
            finally:
                mine.depth -= 1
                if mine.depth == 0 and mine.workers is not None:
                    mine.workers.close()
                    mine.workers = None

    def run_workers(self, tasks: Sequence[Task], cancel: Task | None = None) -> None:
        """Run the first task in the calling thread and the others in worker threads; wait for all.

        If a task fails, `cancel` is called, to free tasks that wait for each other.
        """
        mine = self._local
        if len(tasks) == 1:
            tasks[0]()
            return
        if not mine.depth:
            with self.activate():
                self.run_workers(tasks, cancel)
            return
        if mine.workers is None or not mine.workers.are_alive:
            mine.workers = WorkerThreads(self.threads, self._prepare_worker)
        mine.is_at_work = True
        try:
            mine.workers.run(tasks, cancel)
        finally:
            mine.is_at_work = False

    def _prepare_worker(self) -> None:
        np.seterr(all="ignore")  # a setting of each thread
        self._local.is_at_work = True

    def product(self, a: Array, b: Array, out: Array | None) -> Array:
        """Return `a b` of the last two axes, divided among workers if they are idle and it pays."""
        # The BLAS takes transposed views by flags and members by strides: nothing is copied.
        mine, flops = self._local, 2 * a.shape[-2] * a.shape[-1] * b.shape[-1]
        is_free = self.threads > 1 and mine.depth > 0 and not mine.is_at_work
        # The BLAS halves the work of a product with its own transpose, but only of a whole one.
        if not is_free or flops < _MIN_SHARED_FLOPS or np.may_share_memory(a, b):
            return np.matmul(a, b, out=out)
        if out is None:
            ensemble = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            out = np.empty((*ensemble, a.shape[-2], b.shape[-1]), np.result_type(a, b))
        by_rows = a.shape[-2] >= b.shape[-1]
        parts = even_slices(0, out.shape[-2 if by_rows else -1], self.threads)

        def work(part: slice) -> None:
            rows, columns = (part, slice(None)) if by_rows else (slice(None), part)
            np.matmul(a[..., rows, :], b[..., columns], out=out[..., rows, columns])

        self.run_workers([functools.partial(work, part) for part in parts])
        return out

    def by_pieces(self, update: Callable[..., None], coefficients: Coefficients, *buffers: Array) -> None:
        """Call `update` on coefficients and flat buffers (*E, P), piece by piece, on all workers.

        A piece has whole members or some columns of one, so that its arrays are contiguous. A coefficient is a
        number or an array (K, 1).
        """
        members, width = math.prod(buffers[0].shape[:-1]), buffers[0].shape[-1]
        flat = [buffer.reshape(members, width) for buffer in buffers]
        workers = min(self.threads, members * width // _MIN_WORKER_ELEMENTS)
        if workers <= 1 or self.is_at_work:
            parts = [(slice(0, members), slice(0, width))]
        elif members == 1:
            parts = [(slice(0, 1), columns) for columns in even_slices(0, width, workers)]
        else:
            parts = [(m, slice(0, width)) for m in even_slices(0, members, min(workers, members))]

        def work(part: tuple[slice, slice]) -> None:
            for m, columns in _pieces(*part, _PIECE):
                own = tuple(k if isinstance(k, float) else k[m] for k in coefficients)
                update(own, *(a[m, columns] for a in flat))

        if members * width <= _PIECE and len(parts) == 1:
            update(coefficients, *flat)
        elif len(parts) == 1:
            work(parts[0])
        else:
            self.run_workers([functools.partial(work, part) for part in parts])

    def reuse(self, purpose: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return this thread's buffer for a purpose: the same memory at every step, zero where never written.

        Shapes share it, so that many of them take no more than the largest.
        """
        mine, key = self._local, (purpose, shape, dtype)
        if key not in mine.buffers:
            size = math.prod(shape)
            memory = mine.memory.get((purpose, dtype))
            if memory is None or memory.size < size:
                memory = mine.memory[purpose, dtype] = np.zeros(size, dtype)
                outgrown = [old for old in mine.buffers if (old[0], old[2]) == (purpose, dtype)]
                for old in outgrown:
                    del mine.buffers[old]
            mine.buffers[key] = memory[:size].reshape(shape)
        return mine.buffers[key]

    @property
    def is_at_work(self) -> bool:
        """Whether this thread computes one part of divided work, and so divides no more."""
        return self._local.is_at_work


def _pieces(rows: slice, columns: slice, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield pieces of about `size` elements of a part of an array (members, columns)."""
    width = columns.stop - columns.start
    for part in even_slices(rows.start, rows.stop, -(-(rows.stop - rows.start) // max(1, size // width))):
        yield from ((part, c) for c in even_slices(columns.start, columns.stop, max(1, -(-width // size))))


def even_slices(start: int, stop: int, parts: int) -> list[slice]:
    """Cut [start, stop) into `parts` slices whose lengths differ by at most one."""
    edges = [start + (stop - start) * k // parts for k in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
