"""Handle arrays that are maps of a file: their pages count as memory until they are given back."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `--help` imports this module, and must not wait for NumPy
    from numpy.typing import NDArray

# Bytes of a map that are read before their pages are given back.
_PIECE_BYTES = 1 << 24


def forget_pages(array: NDArray[Any]) -> None:
    """Give back the memory of a mapped array; what was written goes to the file, and is read again.

    Nothing happens if the array is no map, or if the system has no such call.
    """
    base: Any = array
    while hasattr(base, "base"):  # views of views
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a contiguous array as flat pieces; of a map at most one piece is in memory."""
    flat = array.reshape(-1)
    step = max(1, _PIECE_BYTES // array.itemsize)
    for start in range(0, flat.size, step):
        yield flat[start : start + step]
        forget_pages(array)
