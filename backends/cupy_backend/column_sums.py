"""Partial sums over rows of a layer's dz, from the kernel that wrote it: the gradient of the bias, once added.

The library's own sums (the epilogue BGRADA) read all of dz once more: on an H200, 42 of 200 microseconds of a
step with 16384 rows and width 256 in bf16 (bench/results/gpu-h200.md).

Sums belong to the array object that was returned; code that writes into its memory calls `forget`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ..protocols import Array

_MAX_BUFFERS = 512


class ColumnSums:
    """The valid sums of arrays, and their memory, which is kept by the address of the array.

    Parameters
    ----------
    new : callable
        Returns new memory for a purpose, a shape and a dtype; it may refuse.
    """

    def __init__(self, new: Callable[[str, tuple[int, ...], Any], Array]) -> None:
        self._new = new
        self._valid: dict[int, tuple[weakref.ref[Any], Array]] = {}
        self._buffers: dict[tuple[Any, ...], Array] = {}

    def room(self, dz: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return memory (K, parts, width) for the sums of an array, the same at every step."""
        key = (dz.data.ptr, shape, str(dtype))
        if key not in self._buffers:
            buffer = self._new("column sums", shape, dtype)
            if len(self._buffers) >= _MAX_BUFFERS:  # most belong to freed networks; others make theirs again
                self._buffers.clear()
                self._valid.clear()
            self._buffers[key] = buffer
        return self._buffers[key]

    def note(self, dz: Array, sums: Array) -> None:
        """Mark the sums of an array as valid."""
        self._valid[dz.data.ptr] = (weakref.ref(dz), sums)

    def take(self, dz: Array) -> Array | None:
        """Return the valid sums of an array for their only use, or None."""
        known = self._valid.pop(dz.data.ptr, None)
        return known[1] if known is not None and known[0]() is dz else None

    def forget(self, *arrays: Array) -> None:
        """Mark the sums of overwritten arrays as invalid."""
        for array in arrays:
            self._valid.pop(array.data.ptr, None)

    def memory(self) -> list[Array]:
        """Return all memory, for a graph to keep alive."""
        return list(self._buffers.values())
