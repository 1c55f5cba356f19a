"""Partial sums over rows of a layer's dz, from the kernel that wrote it: the gradient of the bias, once added.

The library's own sums (the epilogue BGRADA) read all of dz once more: on an H200, 42 of 200 microseconds of a
step with 16384 rows and width 256 in bf16 (bench/results/gpu-h200.md).

Sums belong to the array object that was returned; code that writes into its memory calls `forget`.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..protocols import Array


class ColumnSums:
    """The valid sums of arrays; their memory serves again once they were used or are invalid.

    An array may have another address at every step, so memory is found by its shape. All kernels that use it
    run on one stream, in the order of their launches.

    Parameters
    ----------
    new : callable
        Returns new memory for a purpose, a shape and a dtype; it may refuse.
    """

    def __init__(self, new: Callable[[str, tuple[int, ...], Any], Array]) -> None:
        self._new = new
        self._valid: dict[int, tuple[weakref.ref[Any], Array]] = {}
        self._unused: dict[tuple[tuple[int, ...], np.dtype[Any]], list[Array]] = {}

    def acquire(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return memory (K, parts, width) for the sums of an array, which `note` then takes."""
        unused = self._unused_like(shape, dtype)
        if not unused:
            self._release_of_freed_arrays()
        return unused.pop() if unused else self._new("column sums", shape, dtype)

    def note(self, dz: Array, sums: Array) -> None:
        """Mark the sums of an array as valid; `forget` came before."""
        self._valid[dz.data.ptr] = (weakref.ref(dz), sums)

    @contextlib.contextmanager
    def taken(self, dz: Array) -> Iterator[Array | None]:
        """Give the valid sums of an array for their only use, inside the `with`, or None."""
        array, sums = self._valid.pop(dz.data.ptr, (None, None))
        try:
            yield sums if array is not None and array() is dz else None
        finally:
            self._release(sums)

    def forget(self, *arrays: Array) -> None:
        """Mark the sums of overwritten arrays as invalid."""
        for array in arrays:
            self._release(self._valid.pop(array.data.ptr, (None, None))[1])

    def memory(self) -> list[Array]:
        """Return all memory, for a graph to keep alive."""
        valid = [sums for _, sums in self._valid.values()]
        return [*valid, *(sums for unused in self._unused.values() for sums in unused)]

    def _release_of_freed_arrays(self) -> None:
        freed = [place for place, (array, _) in self._valid.items() if array() is None]
        for place in freed:
            self._release(self._valid.pop(place)[1])

    def _release(self, sums: Array | None) -> None:
        if sums is not None:
            self._unused_like(sums.shape, sums.dtype).append(sums)

    def _unused_like(self, shape: tuple[int, ...], dtype: Any) -> list[Array]:
        return self._unused.setdefault((shape, np.dtype(dtype)), [])
