"""One process at a time in a folder of results; the lock dies with its owner, however that ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError
from .files import printable

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing a run into a folder until the block ends.

    Raises
    ------
    OutputError
        Another process has it.
    """
    descriptor = _lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """Lock the folder itself, which leaves no file behind, or else a file in it."""
    if sys.platform != "win32":
        with suppress(OSError):  # a folder that may not be read, or a file system that locks files alone
            return _taken(os.open(folder, os.O_RDONLY), folder)
    return _taken(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666), folder)


def _taken(descriptor: int, folder: Path) -> int:
    """The descriptor, locked at once or not at all; closed where that fails."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _HELD:
            raise
        told = f"another process is writing {printable(folder)}; wait for it or use another --out"
        raise OutputError(told) from error
    return descriptor
