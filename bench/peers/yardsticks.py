"""Measure what the machine can do at most: products of float32, and reading and writing of arrays."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

SIZES = (256, 512, 1024)


def cores() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rates(array_bytes: int, seconds: float = 0.15) -> dict[str, float]:
    """Return operations per second of products, and bytes per second read and written by copies of an array.

    Each processor has arrays of its own and one BLAS thread: what a program could reach that did nothing else.
    Products are squares of several sizes, and the best counts; a copy is of the given size, shared by all.
    """
    products = max(_rate(lambda n=n: _product(n), 2.0 * n**3, seconds) for n in SIZES)
    size = max(array_bytes // cores(), 4096)
    return {"products": products, "copies": _rate(lambda: _copy(size), 2.0 * size, seconds)}


def _product(size: int) -> Callable[[], Any]:
    a, b, c = (np.ones((size, size), np.float32) for _ in range(3))
    return lambda: np.matmul(a, b, out=c)


def _copy(size: int) -> Callable[[], Any]:
    a, b = np.ones(size // 4, np.float32), np.ones(size // 4, np.float32)
    return lambda: np.copyto(b, a)


def _rate(make: Callable[[], Callable[[], Any]], work: float, seconds: float) -> float:
    """Return the work per second that all processors do together."""
    done: NDArray[np.int64] = np.zeros(cores(), np.int64)
    barrier = threading.Barrier(cores())
    took = np.zeros(cores())

    def repeat(k: int) -> None:
        do = make()
        do()
        barrier.wait()
        start = time.thread_time()  # what others take from a processor does not count
        while (spent := time.thread_time() - start) < seconds:
            do()
            done[k] += 1
        took[k] = spent

    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        threads = [threading.Thread(target=repeat, args=(k,)) for k in range(cores())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return float((done * work / took).sum())
