"""Memory for work that is done in parts, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable

from .._backends import Array, Backend

Scratch = Callable[[tuple[int, ...], str], Array | None]
"""A buffer on offer for a shape and dtype, or None where the backend fills none: `Backend.scratch`."""


class Workspace:
    """Buffers that parts of a work have in turn: the same memory for each, warm in cache.

    After `rewind` the buffers are asked for once more in the same order and dtypes, in sizes that may differ.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffers: list[Array | None] = []
        self._given = 0

    def rewind(self) -> None:
        """The next part begins: what it is given is the memory of the part before."""
        self._given = 0

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """As `Backend.scratch`."""
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
