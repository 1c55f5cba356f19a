"""Release the memory of arrays that are maps of a file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `--help` imports this module, and must not wait for NumPy
    from numpy.typing import NDArray

_PIECE_BYTES = 1 << 24  # of a map, read before their pages are released


def forget_pages(array: NDArray[Any]) -> None:
    """Release the memory of a mapped array; changes go to the file, and are read again when needed.

    Does nothing if the array is no map, or if the system lacks `madvise`.
    """
    base: Any = array
    while hasattr(base, "base"):  # views of views
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a contiguous array as flat pieces; of a map, at most one piece is in memory."""
    flat = array.reshape(-1)
    step = max(1, _PIECE_BYTES // array.itemsize)
    for start in range(0, flat.size, step):
        yield flat[start : start + step]
        forget_pages(array)
