"""The CPU backend: row blocks over threads, buffers reused, one BLAS thread for each worker.

Why blocks: a BLAS that splits one small product over threads loses a factor of two to ten at the sizes of
this project. Here each worker runs the whole step on blocks of rows that fit its cache, with a
single-threaded BLAS, so the element-wise work is parallel too and activations never leave the cache.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..base import Backend
from ..dispatch import fused
from ..protocols import Activation, Array, ElementwiseLoss, Partition, Tables, UpdateRule
from .blas_threads import ONE_BLAS_THREAD, blas_libraries
from .host_cores import limits, usable_cores
from .host_memory import free_bytes
from .loops import (
    NUMPY_LOOPS,
    Coefficients,
    Loops,
    backward_passes,
    forward_passes,
    loss_passes,
    update_passes,
)
from .worker_threads import Task, WorkerThreads

# A product needs some rows to run at speed.
_MIN_BLOCK_ROWS, _MAX_BLOCK_ROWS = 64, 2048
# A step below this many operations is too short to be shared by Python's threads, which wait for each other
# after every call; one of them then does it all, and shares out the larger products.
_MIN_WORKER_FLOPS = 10_000_000
# Below this many operations a product is not worth sharing out.
_MIN_SHARED_FLOPS = 6_000_000
_CACHE_LINE = 64
# Below this many rows each, the second gradient costs more than the second thread brings. (Steps of 256 rows
# by two workers take 0.75 to 0.98 of the time that one worker took with two BLAS threads.)
_MIN_WORKER_ROWS = 128


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


class NumpyBackend(Backend):
    """NumPy on the host's cores.

    Parameters
    ----------
    threads : int, optional
        Worker threads; None takes the cores that this process may use (`host_cores`). A run repeats bit by bit
        for the same number of threads.
    """

    name = "numpy"
    device = "cpu"
    xp = np
    loops: Loops = NUMPY_LOOPS
    # A block's activations should stay near a core, and be work enough for a call from Python.
    block_bytes = 3_500_000
    group_bytes = 3_500_000  # the activations of a group of tiles are one block

    def __init__(self, fused: str = "auto", threads: int | None = None) -> None:
        super().__init__(fused)
        self.threads = usable_cores() if threads is None else threads
        self._blas = blas_libraries()
        self._local = _OfThread()

    def describe(self) -> dict[str, Any]:
        """Library, processor, threads and BLAS."""
        blas, (cores, source) = self._blas.info(), min(limits())
        return super().describe() | {
            "processor": platform.processor() or platform.machine(),
            "cores": cores,
            "cores_by": source,
            "threads": self.threads,
            "blas": blas[0]["internal_api"] if blas else None,
            "blas_version": blas[0]["version"] if blas else None,
        }

    def free_memory(self) -> int | None:
        """What the machine, the container and the process's limits leave; None where the system is silent."""
        return free_bytes()

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return a buffer that the fused bodies fill, or None where only generic bodies run."""
        return None if self.fused == "never" else _aligned(shape, np.dtype(dtype))

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Hold one BLAS thread and worker threads; may be nested, and entered by several threads at once.

        Each calling thread has workers of its own, which end when it leaves. Overflow does not warn in here: a
        run that diverges is told by its loss.
        """
        mine = self._local
        with ONE_BLAS_THREAD.held(self._blas.lib_controllers), np.errstate(all="ignore"):
            mine.depth += 1
            try:
                yield
            finally:
                mine.depth -= 1
                if mine.depth == 0 and mine.workers is not None:
                    mine.workers.close()
                    mine.workers = None

    def _product(self, a: Array, b: Array, out: Array | None) -> Array:
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

    # -- the row-block hook --------------------------------------------------------------------------

    def partition(self, num_rows: int, num_members: int, row_bytes: int, row_flops: int) -> list[Partition]:
        """Deal out rows in blocks that fit a core's cache, or members where there are enough of them."""
        if self.fused == "never":
            return super().partition(num_rows, num_members, row_bytes, row_flops)
        useful = num_members * num_rows * row_flops // _MIN_WORKER_FLOPS
        workers = int(max(1, min(self.threads, useful)))
        balanced = num_members >= 2 * workers or num_members % workers == 0
        min_rows = self._min_worker_rows(row_bytes, row_flops)
        too_few_rows = num_rows < workers * min_rows
        if workers > 1 and num_members >= workers and (balanced or too_few_rows):
            # A worker with members of its own has no gradient to share, and their weights in its cache.
            return [
                _by_groups(members, num_rows, row_bytes, self.block_bytes)
                for members in even_slices(0, num_members, workers)
            ]
        rows = even_slices(0, num_rows, max(1, min(workers, num_rows // min_rows)))
        return [
            Partition([None], _blocks(r.start, r.stop, row_bytes * num_members, self.block_bytes)) for r in rows
        ]

    def _min_worker_rows(self, row_bytes: int, row_flops: int) -> int:
        """Rows that are worth a worker with activations and gradients of its own."""
        return _MIN_WORKER_ROWS

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

    def per_worker_backends(self) -> list[Backend]:
        """One backend of one thread for each worker: they need not wait for each other at every step."""
        return [self] if self.threads == 1 else [type(self)(self.fused, 1) for _ in range(self.threads)]

    # -- fused bodies --------------------------------------------------------------------------------

    @fused("take_rows")
    def _take_rows(self, array: Array, index: Array, *, out: Array | None = None) -> Array:
        # With mode "raise" NumPy would gather into a buffer of its own first; an index is ours, and in range.
        if index.ndim > 1 and array.ndim > 2:
            return np.take_along_axis(array, index[..., None], axis=-2)
        if out is not None and out.shape != (
            *(array.shape[:-2] or index.shape[:-1]),
            *index.shape[-1:],
            out.shape[-1],
        ):
            out = None
        return np.take(array, index, axis=-2, out=out, mode="clip")

    @fused("matmul")
    def _matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        out: Array | None = None,
    ) -> Array:
        a = a.swapaxes(-1, -2) if transpose_a else a
        b = b.swapaxes(-1, -2) if transpose_b else b
        return self._product(a, b, out)

    @fused("linear")
    def _linear(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: Activation,
        *,
        out: Array | None = None,
        out_saved: Array | None = None,
    ) -> tuple[Array, Array]:
        passes, coefficients = forward_passes(activation)
        if not activation.saves_input:
            y = self._product(x, W, out)
            y += b
            passes(self._reuse, coefficients, y)
            return y, y
        z = self._product(x, W, out_saved)
        z += b
        y = np.empty_like(z) if out is None else out
        passes(self._reuse, coefficients, z, y)
        return y, z

    @fused("activation_backward")
    def _activation_backward(self, activation: Activation, dy: Array, saved: Array) -> Array:
        passes, coefficients = backward_passes(activation)
        passes(self._reuse, coefficients, dy, saved)
        return dy

    @fused("linear_backward")
    def _linear_backward(
        self,
        dz: Array,
        x: Array,
        W: Array,
        *,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        previous: tuple[Activation, Array] | None = None,
        out: Array | None = None,
    ) -> Array | None:
        x_T = x.swapaxes(-1, -2)
        if accumulate:
            _add(dW, self._product(x_T, dz, self._reuse("dW", dW.shape, dW.dtype)))
            new_db = self._reuse("db", db.shape, db.dtype)
            self.loops.sum_over_rows(dz, new_db, self._reuse)
            db += new_db
        else:
            self._product(x_T, dz, dW)
            self.loops.sum_over_rows(dz, db, self._reuse)
        if previous is None:
            return None
        activation, saved = previous
        dx = self._product(dz, W.swapaxes(-1, -2), out)
        return NumpyBackend._activation_backward(self, activation, dx, saved)

    @fused("fourier_features")
    def _fourier_features(self, coordinates: Array, B: Array, *, out: Array | None = None) -> Array:
        m = B.shape[-2]
        if out is None:
            ensemble = np.broadcast_shapes(coordinates.shape[:-2], B.shape[:-2])
            out = np.empty((*ensemble, coordinates.shape[-2], 2 * m), B.dtype)
        cosines, sines = out[..., :m], out[..., m:]
        # Not by the BLAS: its last bit would depend on how many threads share so thin a product.
        phase = np.multiply(coordinates[..., :1], B[..., None, :, 0], out=sines)
        for i in range(1, B.shape[-1]):
            phase += np.multiply(coordinates[..., i : i + 1], B[..., None, :, i], out=cosines)
        phase -= np.rint(phase, out=cosines)
        phase *= 2.0 * np.pi
        np.cos(phase, out=cosines)
        np.sin(phase, out=sines)
        return out

    @fused("grid_fourier_features")
    def _grid_fourier_features(
        self, x_tables: Tables, y_tables: Tables, rows: slice, *, out: Array | None = None
    ) -> Array:
        if out is None:
            out = np.empty((rows.stop - rows.start, 2 * x_tables[0].shape[-1]), x_tables[0].dtype)
        self.loops.grid_features(x_tables, y_tables, rows, out, self._reuse)
        return out

    @fused("loss_and_gradient")
    def _loss_and_gradient(
        self,
        loss: ElementwiseLoss,
        prediction: Array,
        target: Array,
        *,
        count: int,
        weights: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array]:
        dy = np.subtract(prediction, target, out=np.empty_like(prediction) if out is None else out)
        passes, coefficients = loss_passes(loss, weights is not None)
        buffers = (dy,) if weights is None else (dy, weights)
        value, dy = passes(self._reuse, (*coefficients, 1.0 / count), *buffers)
        return np.add.reduce(value, axis=(-2, -1)) / count, dy

    @fused("optimizer_step")
    def _optimizer_step(
        self,
        rule: UpdateRule,
        parameters: Array,
        gradients: Sequence[Array],
        state: Sequence[Array],
        *,
        step: int | Array,
        learning_rate: float | Array,
    ) -> None:
        formula, passes = update_passes(rule)

        def update(coefficients: Coefficients, p: Array, *others: Array) -> None:
            buffers, (g, *pieces) = others[: len(state)], others[len(state) :]
            for piece in pieces:
                g += piece
            passes(self._reuse, coefficients, p, g, *buffers)

        coefficients = formula.values(rule, step=step, learning_rate=learning_rate)
        self._by_pieces(update, coefficients, parameters, *state, *gradients)

    def _by_pieces(self, update: Callable[..., None], coefficients: Coefficients, *buffers: Array) -> None:
        """Call `update` on coefficients and flat buffers (*E, P) together, piece by piece, on all workers.

        A piece has some members whole, or some columns of one: each array of it is contiguous. A coefficient is
        a number, or an array (K, 1).
        """
        members, width = math.prod(buffers[0].shape[:-1]), buffers[0].shape[-1]
        flat = [buffer.reshape(members, width) for buffer in buffers]
        workers = min(self.threads, members * width // self.loops.min_worker_elements)
        if workers <= 1 or self._local.is_at_work:  # a worker that updates its own members hands out nothing
            parts = [(slice(0, members), slice(0, width))]
        elif members == 1:
            parts = [(slice(0, 1), columns) for columns in even_slices(0, width, workers)]
        else:
            parts = [(m, slice(0, width)) for m in even_slices(0, members, min(workers, members))]

        def work(part: tuple[slice, slice]) -> None:
            for m, columns in _pieces(*part, self.loops.piece):
                own = tuple(k if isinstance(k, float) else k[m] for k in coefficients)
                update(own, *(a[m, columns] for a in flat))

        if members * width <= self.loops.piece and len(parts) == 1:
            update(coefficients, *flat)
        elif len(parts) == 1:
            work(parts[0])
        else:
            self.run_workers([functools.partial(work, part) for part in parts])

    def _reuse(self, purpose: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return this thread's own buffer for a purpose: the same memory at every step, zero at first."""
        buffers = self._local.buffers
        key = (purpose, shape, dtype)
        if key not in buffers:
            buffers[key] = np.zeros(shape, dtype)
        return buffers[key]


def _add(total: Array, part: Array) -> None:
    """total += part, for total (*E, n_in, n_out) inside a flat buffer and part in memory of its own."""
    # For fear of overlap NumPy would copy a total of three dimensions first; of two it does not.
    merged = total.reshape(*total.shape[:-2], -1)
    if np.may_share_memory(merged, total):
        merged += part.reshape(merged.shape)
    else:
        total += part


def _by_groups(members: slice, num_rows: int, row_bytes: int, block_bytes: int) -> Partition:
    """A worker's members, as many at a time as fit a block with all their rows, or one in blocks of rows.

    A member's weights, gradient and moments are used by all blocks of its rows and by its optimizer's pass
    while they are in cache, which those of all members together would not be.
    """
    count = members.stop - members.start
    at_once = max(1, min(count, block_bytes // max(row_bytes * num_rows, 1)))
    at_once = -(-count // -(-count // at_once))
    starts = range(members.start, members.stop, at_once)
    groups: list[slice | None] = [slice(k, min(k + at_once, members.stop)) for k in starts]
    return Partition(groups, _blocks(0, num_rows, row_bytes * at_once, block_bytes))


def _blocks(start: int, stop: int, row_bytes: int, block_bytes: int) -> list[slice]:
    """Blocks of rows whose activations fit a core's cache, of equal length but for one."""
    limit = min(max(block_bytes // max(row_bytes, 1), _MIN_BLOCK_ROWS), _MAX_BLOCK_ROWS)
    return even_slices(start, stop, -(-(stop - start) // limit))


def _pieces(rows: slice, columns: slice, size: int) -> Iterator[tuple[slice, slice]]:
    """Cut a part of an array (members, columns) into pieces of about `size` elements."""
    width = columns.stop - columns.start
    for part in even_slices(rows.start, rows.stop, -(-(rows.stop - rows.start) // max(1, size // width))):
        yield from ((part, c) for c in even_slices(columns.start, columns.stop, max(1, -(-width // size))))


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Memory that begins with a cache line: what two workers write side by side shares none."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def even_slices(start: int, stop: int, parts: int) -> list[slice]:
    """Cut [start, stop) into `parts` slices whose lengths differ by at most one."""
    edges = [start + (stop - start) * k // parts for k in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
