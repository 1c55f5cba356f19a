"""The masks of ReLUs: bits that a layer's product leaves beside its output, for the product of its way back.

A mask belongs to one output. It is found again by the array object that `linear` returned; code that writes
into that memory calls `forget`.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..protocols import Array

_MOST = 512


class ReluMasks:
    """Which arrays hold the output of a ReLU with a mask, and the masks' memory."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[Any]] = {}
        self._buffers: dict[tuple[int, int], Array] = {}

    def buffer(self, output: Array, num_bytes: int) -> Array | None:
        """Return the memory of an earlier mask for an output at this address, or None."""
        return self._buffers.get((output.data.ptr, num_bytes))

    def keep_buffer(self, output: Array, mask: Array) -> None:
        """Keep memory for the masks of outputs at this address."""
        if len(self._buffers) >= _MOST:  # of networks that are gone; those that train make theirs again
            self._buffers.clear()
            self._known.clear()
        self._buffers[output.data.ptr, mask.size] = mask

    def note(self, output: Array) -> None:
        """Remember that the mask of `output` has been written."""
        self._known[output.data.ptr] = weakref.ref(output)

    def find(self, output: Array, num_bytes: int) -> Array | None:
        """Return the mask of an output, unless something else has been written to it since, or None."""
        known = self._known.get(output.data.ptr)
        is_known = known is not None and known() is output
        return self._buffers.get((output.data.ptr, num_bytes)) if is_known else None

    def forget(self, *outputs: Array) -> None:
        """Remember that something else has been written into these arrays."""
        for output in outputs:
            self._known.pop(output.data.ptr, None)

    def memory(self) -> list[Array]:
        """Return all masks' memory, for a graph to keep alive."""
        return list(self._buffers.values())
