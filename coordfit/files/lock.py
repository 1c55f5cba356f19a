"""Lock a folder of results for one process; the lock ends with the process."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError
from . import RUNS, Outputs, make_folder, new_run_folder, prepare_output_folder, printable
from .atomic import as_output_error

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_LOCKED_ELSEWHERE = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextmanager
def output_folder(
    path: Path | None, outputs: Outputs, *, overwrite: bool = False, resume: bool = False
) -> Iterator[Path]:
    """Make the folder for the results of one run, and lock it until the block ends.

    It is locked before it is checked, so that no other process can change it in between. Folders made here
    are removed if the block fails before anything is in them. `path` is the folder that the user named, or
    None for the next numbered one. The rest is that of `prepare_output_folder`.
    """
    wanted = RUNS if path is None else path
    made = [place for place in (wanted, *wanted.parents) if not os.path.lexists(place)]
    folder = new_run_folder() if path is None else make_folder(path)
    if path is None:
        made.insert(0, folder)
    try:
        with locked(folder):
            yield prepare_output_folder(folder, outputs, overwrite=overwrite, resume=resume)
    except BaseException:
        with suppress(OSError):  # not empty
            for place in made:
                place.rmdir()
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder until the block ends; OutputError if another process has locked it.

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
        with suppress(OSError):  # the folder is not readable, or the file system locks only files
            return _locked_descriptor(os.open(folder, os.O_RDONLY), folder)
    file = folder / ".lock"
    with as_output_error(file):
        how = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        return _locked_descriptor(os.open(file, how, 0o666), folder)


def _locked_descriptor(descriptor: int, folder: Path) -> int:
    """Lock an open descriptor without waiting; close it if that fails."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _LOCKED_ELSEWHERE:
            raise
        message = f"another process is writing {printable(folder)}; wait for it or use another --out"
        raise OutputError(message) from error
    return descriptor
