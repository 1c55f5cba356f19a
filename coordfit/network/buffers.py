"""Buffers that parts of a computation use in turn."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..backends import Array, Backend

Scratch = Callable[[tuple[int, ...], str], Array | None]
"""Returns a buffer of a shape and dtype, or None if the backend uses none: `Backend.scratch`."""


class Workspace:
    """Buffers that several parts of a computation use one after the other: the same memory, in the cache.

    After `rewind` they are requested again in the same order and dtypes; sizes may differ.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffers: list[Array | None] = []
        self._given = 0

    def rewind(self) -> None:
        """Start the next part, which gets the memory of the part before."""
        self._given = 0

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return the next buffer; see `Backend.scratch`."""
        place, self._given = self._given, self._given + 1
        if place == len(self._buffers):
            self._buffers.append(self._backend.scratch(shape, dtype))
        buffer, size = self._buffers[place], math.prod(shape)
        if buffer is None:
            return None
        if buffer.size < size:
            self._buffers[place] = self._backend.scratch(shape, dtype)
            return self._buffers[place]
        return buffer.reshape(-1)[:size].reshape(shape)


def first_rows(buffer: Array | None, n: int) -> Array | None:
    """Return n contiguous rows of a buffer (*E, rows, .); None if there is none."""
    if buffer is None or buffer.shape[-2] == n:
        return buffer
    if buffer.ndim == 2:
        return buffer[:n]
    shape = (*buffer.shape[:-2], n, buffer.shape[-1])
    return buffer.reshape(-1)[: math.prod(shape)].reshape(shape)
