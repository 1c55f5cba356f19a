"""The masks of ReLUs: bits that a layer's product leaves beside its output, for the product that goes back.

A mask is of one output and of no other. It is found again by the array object that `linear` returned; whoever
writes into that memory anew tells it to `forget`.
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
        self._rooms: dict[tuple[int, int], Array] = {}

    def room(self, output: Array, num_bytes: int) -> Array | None:
        """The memory of an earlier mask for an output at this address, or None."""
        return self._rooms.get((output.data.ptr, num_bytes))

    def keep_room(self, output: Array, mask: Array) -> None:
        """Note memory for the masks of outputs at this address."""
        if len(self._rooms) >= _MOST:  # of networks that are gone; those that train make theirs again
            self._rooms.clear()
            self._known.clear()
        self._rooms[output.data.ptr, mask.size] = mask

    def note(self, output: Array) -> None:
        """The mask of `output` has been written."""
        self._known[output.data.ptr] = weakref.ref(output)

    def find(self, output: Array, num_bytes: int) -> Array | None:
        """The mask of an output, where it was made with one and nobody has written to it since."""
        known = self._known.get(output.data.ptr)
        is_known = known is not None and known() is output
        return self._rooms.get((output.data.ptr, num_bytes)) if is_known else None

    def forget(self, *outputs: Array) -> None:
        """Something else has been written into these arrays."""
        for output in outputs:
            self._known.pop(output.data.ptr, None)

    def memory(self) -> list[Array]:
        """All masks' memory, for who must keep it alive."""
        return list(self._rooms.values())
