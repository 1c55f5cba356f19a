"""Masks of ReLUs: bits that a layer's product writes beside its output, for the backward product.

A mask belongs to the array object that `linear` returned; code that writes into its memory calls `forget`.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..protocols import Array

_MAX_BUFFERS = 512


class ReluMasks:
    """The outputs of ReLUs with a valid mask, and the masks' memory."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[Any]] = {}
        self._buffers: dict[tuple[int, int], Array] = {}

    def buffer(self, output: Array, num_bytes: int) -> Array | None:
        """Return the mask's memory for an output at this address, or None."""
        return self._buffers.get((output.data.ptr, num_bytes))

    def keep_buffer(self, output: Array, mask: Array) -> None:
        """Keep memory for the masks of outputs at this address."""
        if len(self._buffers) >= _MAX_BUFFERS:  # most belong to freed networks; others make theirs again
            self._buffers.clear()
            self._known.clear()
        self._buffers[output.data.ptr, mask.size] = mask

    def note(self, output: Array) -> None:
        """Mark the mask of `output` as valid."""
        self._known[output.data.ptr] = weakref.ref(output)

    def find(self, output: Array, num_bytes: int) -> Array | None:
        """Return the valid mask of an output, or None."""
        known = self._known.get(output.data.ptr)
        is_known = known is not None and known() is output
        return self._buffers.get((output.data.ptr, num_bytes)) if is_known else None

    def forget(self, *outputs: Array) -> None:
        """Mark the masks of overwritten arrays as invalid."""
        for output in outputs:
            self._known.pop(output.data.ptr, None)

    def memory(self) -> list[Array]:
        """Return the memory of all masks, for a graph to keep alive."""
        return list(self._buffers.values())
