"""The CPU backend: row blocks over threads, reused buffers, one BLAS thread for each worker.

A BLAS that splits small products over threads loses a factor of two to ten at this project's sizes. Here each
worker runs the whole step on blocks of rows that fit its cache, with a single-threaded BLAS, so that
element-wise work is parallel too.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..base import Backend
from ..protocols import Array, Partition
from .bodies import NUMPY_BODIES
from .host import Host, even_slices
from .host_cores import limits
from .host_memory import free_bytes
from .worker_threads import Task

# Products of fewer rows are slow.
_MIN_BLOCK_ROWS, _MAX_BLOCK_ROWS = 64, 2048
# Python's threads wait for each other after every call, so a shorter step runs in one of them, which divides
# only the larger products.
_MIN_WORKER_FLOPS = 10_000_000
_CACHE_LINE = 64
# With fewer rows each, a second gradient costs more than a second thread saves. (Steps of 256 rows on two
# workers take 0.75 to 0.98 of the time of one worker with two BLAS threads.)
_MIN_WORKER_ROWS = 128


class NumpyBackend(Backend):
    """NumPy on the host's cores.

    Parameters
    ----------
    threads : int, optional
        Worker threads; None takes the cores that this process may use (`host_cores`). Runs with equal numbers
        of threads repeat bit by bit.
    """

    name = "numpy"
    device = "cpu"
    xp = np
    fused_bodies = NUMPY_BODIES
    # A block's activations should fit a core's cache, and be worth a call from Python.
    block_bytes = 3_500_000
    group_bytes = 3_500_000  # the activations of a group of tiles are one block

    def __init__(self, fused: str = "auto", threads: int | None = None) -> None:
        self.host = self._make_host(threads)
        super().__init__(fused, self.host)

    def _make_host(self, threads: int | None) -> Host:
        return Host(threads)

    @property
    def threads(self) -> int:
        """Worker threads."""
        return self.host.threads

    def describe(self) -> dict[str, Any]:
        """Return library, processor, cores, threads and BLAS."""
        blas, (cores, source) = self.host.blas.info(), min(limits())
        return super().describe() | {
            "processor": platform.processor() or platform.machine(),
            "cores": cores,
            "cores_by": source,
            "threads": self.threads,
            "blas": blas[0]["internal_api"] if blas else None,
            "blas_version": blas[0]["version"] if blas else None,
        }

    def free_memory(self) -> int | None:
        """Return the bytes that the machine, the container and the process's limits leave, or None."""
        return free_bytes()

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return a buffer that the fused bodies fill, or None if only generic bodies run."""
        return None if self.fused == "never" else _aligned(shape, np.dtype(dtype))

    def activate(self) -> AbstractContextManager[None]:
        """See `Host.activate`."""
        return self.host.activate()

    # -- the row-block hook --------------------------------------------------------------------------

    def partition(self, num_rows: int, num_members: int, row_bytes: int, row_flops: int) -> list[Partition]:
        """Divide rows in blocks that fit a core's cache, or members if they are enough."""
        if self.fused == "never":
            return super().partition(num_rows, num_members, row_bytes, row_flops)
        useful = num_members * num_rows * row_flops // _MIN_WORKER_FLOPS
        workers = int(max(1, min(self.threads, useful)))
        balanced = num_members >= 2 * workers or num_members % workers == 0
        min_rows = self._min_worker_rows(row_bytes, row_flops)
        too_few_rows = num_rows < workers * min_rows
        if workers > 1 and num_members >= workers and (balanced or too_few_rows):
            # A worker with its own members adds no gradients of others, and keeps their weights in its cache.
            return [
                _by_groups(members, num_rows, row_bytes, self.block_bytes)
                for members in even_slices(0, num_members, workers)
            ]
        rows = even_slices(0, num_rows, max(1, min(workers, num_rows // min_rows)))
        return [
            Partition([None], _blocks(r.start, r.stop, row_bytes * num_members, self.block_bytes)) for r in rows
        ]

    def _min_worker_rows(self, row_bytes: int, row_flops: int) -> int:
        """Return the least rows for which a worker with its own gradients pays."""
        return _MIN_WORKER_ROWS

    def run_workers(self, tasks: Sequence[Task], cancel: Task | None = None) -> None:
        """See `Host.run_workers`."""
        self.host.run_workers(tasks, cancel)

    def per_worker_backends(self) -> list[Backend]:
        """Return a backend of one thread for each worker, so that they need not wait for each other."""
        return [self] if self.threads == 1 else [type(self)(self.fused, 1) for _ in range(self.threads)]


def _by_groups(members: slice, num_rows: int, row_bytes: int, block_bytes: int) -> Partition:
    """Return a worker's part in groups of members that fit one block, or single members in blocks of rows.

    So a member's weights, gradient and moments stay in the cache for all its rows and its optimizer.
    """
    count = members.stop - members.start
    at_once = max(1, min(count, block_bytes // max(row_bytes * num_rows, 1)))
    at_once = -(-count // -(-count // at_once))
    starts = range(members.start, members.stop, at_once)
    groups: list[slice | None] = [slice(k, min(k + at_once, members.stop)) for k in starts]
    return Partition(groups, _blocks(0, num_rows, row_bytes * at_once, block_bytes))


def _blocks(start: int, stop: int, row_bytes: int, block_bytes: int) -> list[slice]:
    """Return blocks of rows whose activations fit a core's cache, of nearly equal length."""
    limit = min(max(block_bytes // max(row_bytes, 1), _MIN_BLOCK_ROWS), _MAX_BLOCK_ROWS)
    return even_slices(start, stop, -(-(stop - start) // limit))


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return memory aligned to a cache line, so that no two workers write into the same one."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)
