"""Arrays that are maps of a file: their pages count as memory until they are given back."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # this room is opened by `--help`, which waits for no array library
    from numpy.typing import NDArray

# Bytes of a map that are looked at before their pages are given back.
_PIECE_BYTES = 1 << 24


def forget_pages(array: NDArray[Any]) -> None:
    """Give the memory of a mapped array back; what was written there goes to the file, and is read again.

    Nothing happens to an array that is no map, or where the system has no such call.
    """
    base: Any = array
    while hasattr(base, "base"):  # views of views
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """A contiguous array as flat pieces, one after the other; of a map no more than one stays in memory."""
    flat = array.reshape(-1)
    step = max(1, _PIECE_BYTES // array.itemsize)
    for start in range(0, flat.size, step):
        yield flat[start : start + step]
        forget_pages(array)
