"""What a CPU backend holds for its fused bodies: worker threads, one BLAS thread for each, reused buffers."""

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
from .worker_threads import Task, WorkerThreads

# Below this many operations a product is not worth sharing out.
_MIN_SHARED_FLOPS = 6_000_000
# Elements of the flat buffers that an optimizer's passes take at once: they stay in cache from the first pass
# to the last, and smaller pieces cost more in calls.
_PIECE = 262_144
# Below this many elements each a second thread costs the optimizer more than it brings.
_MIN_WORKER_ELEMENTS = 400_000


class _OfThread(threading.local):
    """What a backend keeps for each thread that uses it.

    Attributes
    ----------
    depth : int
        Entries of `activate` that have not been left.
    workers : WorkerThreads, optional
        Made where they are first needed, and ended with the last entry.
    is_at_work : bool
        Whether this thread computes a share of a larger piece of work, so that it shares out no more.
    buffers : dict
        Memory that is used again and again.
    """

    def __init__(self) -> None:
        self.depth, self.is_at_work = 0, False
        self.workers: WorkerThreads | None = None
        self.buffers: dict[tuple[str, tuple[int, ...], Any], Array] = {}


class Host:
    """The host's cores, as fused bodies use them.

    Parameters
    ----------
    threads : int, optional
        Worker threads; None takes the cores that this process may use (`host_cores`).
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = usable_cores() if threads is None else threads
        self.blas = blas_libraries()
        self._local = _OfThread()

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Hold one BLAS thread and worker threads; may be nested, and entered by several threads at once.

        Each calling thread has workers of its own, which end when it leaves. Overflow does not warn in here: a
        run that diverges is told by its loss.
        """
        mine = self._local
        with ONE_BLAS_THREAD.held(self.blas.lib_controllers), np.errstate(all="ignore"):
            mine.depth += 1
            try:
                yield
            finally:
                mine.depth -= 1
                if mine.depth == 0 and mine.workers is not None:
                    mine.workers.close()
                    mine.workers = None

    def run_workers(self, tasks: Sequence[Task], cancel: Task | None = None) -> None:
        """Run the first task in the calling thread and the others beside it; wait for all.

        `cancel` is called where that fails: it frees tasks that wait for one another.
        """
        mine = self._local
        if len(tasks) == 1:
            tasks[0]()
            return
        if not mine.depth:  # threads are held, and given back
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
        np.seterr(all="ignore")  # NumPy keeps this by thread
        self._local.is_at_work = True

    def product(self, a: Array, b: Array, out: Array | None) -> Array:
        """`a b` of the last two axes, shared out where one worker computes alone and it pays."""
        # Transposed views are told to the BLAS by a flag, and members by their strides: nothing is copied.
        mine, flops = self._local, 2 * a.shape[-2] * a.shape[-1] * b.shape[-1]
        is_lone = self.threads > 1 and mine.depth > 0 and not mine.is_at_work
        # A matrix by its own transpose is half the work for the BLAS, which sees only whole ones.
        if not is_lone or flops < _MIN_SHARED_FLOPS or np.may_share_memory(a, b):
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
        """Call `update` on coefficients and flat buffers (*E, P) together, piece by piece, on all workers.

        A piece has some members whole, or some columns of one: each array of it is contiguous. A coefficient is
        a number, or an array (K, 1).
        """
        members, width = math.prod(buffers[0].shape[:-1]), buffers[0].shape[-1]
        flat = [buffer.reshape(members, width) for buffer in buffers]
        workers = min(self.threads, members * width // _MIN_WORKER_ELEMENTS)
        if workers <= 1 or self.is_at_work:  # a worker that updates its own members hands out nothing
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
        """Return this thread's own buffer for a purpose: the same memory at every step, zero at first."""
        buffers = self._local.buffers
        key = (purpose, shape, dtype)
        if key not in buffers:
            buffers[key] = np.zeros(shape, dtype)
        return buffers[key]

    @property
    def is_at_work(self) -> bool:
        """Whether this thread computes a part of a larger piece of work, so that it shares out no more."""
        return self._local.is_at_work


def _pieces(rows: slice, columns: slice, size: int) -> Iterator[tuple[slice, slice]]:
    """Cut a part of an array (members, columns) into pieces of about `size` elements."""
    width = columns.stop - columns.start
    for part in even_slices(rows.start, rows.stop, -(-(rows.stop - rows.start) // max(1, size // width))):
        yield from ((part, c) for c in even_slices(columns.start, columns.stop, max(1, -(-width // size))))


def even_slices(start: int, stop: int, parts: int) -> list[slice]:
    """Cut [start, stop) into `parts` slices whose lengths differ by at most one."""
    edges = [start + (stop - start) * k // parts for k in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
