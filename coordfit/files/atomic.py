"""Write one file whole or not at all, by renaming a temporary file beside it."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import OutputError
from .names import FilePath, printable

if sys.platform != "win32":
    import fcntl

_PREFIX = ".coordfit-"
_RANDOM_BYTES = 8
_STALE_AFTER = 3600.0  # seconds; without file locks, an older temporary counts as left behind


@contextmanager
def atomic_write(path: FilePath) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` only when it is complete and on disk.

    The content goes to a temporary in the same folder, which is then renamed. A new file gets the permissions
    of the umask; an existing one keeps its own (not its owner, nor other hard links). A symbolic link stays,
    and its target is replaced. Devices, pipes and ``/dev/stdout`` are written directly. Temporaries of killed
    writers are removed first. The block must not close the file.

    Raises
    ------
    OutputError
        The file cannot be written: disk full, folder missing or not writable, a folder of that name. The old
        file is still there. Errors of the block pass through.
    """
    path = Path(path)
    with as_output_error(path):
        standard = _standard_descriptor(path)
        status = _status(path)
        if standard is not None:
            # Not opened again: if it is redirected to a file, that would start a second position in it.
            yield from _write_straight(os.dup(standard))
        elif status is not None and _is_stream(path, status):
            yield from _write_straight(os.open(path, os.O_WRONLY))
        else:
            yield from _write_beside(path, status)


def write_bytes(path: FilePath, content: bytes) -> None:
    """Write the whole content of a file with `atomic_write`."""
    with atomic_write(path) as file:
        file.write(content)


def probe(folder: Path) -> None:
    """Write a file of a few kilobytes in a folder and remove it; OutputError if that fails."""
    probe = folder / "probe"
    _remove_leftovers(probe)
    try:
        with ExitStack() as undo:
            _, file = _open_temporary(probe, undo)
            file.write(bytes(4096))
            file.flush()
            sync(file.fileno())
            file.close()
    except OSError as error:
        message = f"cannot write in the folder {printable(folder)}: {cause(error, probe)}"
        raise OutputError(message) from error


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OutputError(f"cannot write {printable(path)}: not a possible file name") from error


def _is_stream(path: Path, status: os.stat_result) -> bool:
    """Whether `path` is written into directly, because it is neither a file nor a folder."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(status.st_mode)


def _standard_descriptor(path: Path) -> int | None:
    """Return the descriptor that a name such as ``/dev/stdout`` or ``/dev/fd/3`` means, or None."""
    match = re.fullmatch(r"/dev/(?:(stdout)|(stderr)|fd/([0-9]{1,9}))", str(path))
    if match is None or sys.platform == "win32":
        return None
    return 1 if match[1] else 2 if match[2] else int(match[3])


def _write_straight(descriptor: int) -> Iterator[BinaryIO]:
    with open(descriptor, "wb") as file:
        yield file


def _write_beside(path: Path, status: os.stat_result | None) -> Iterator[BinaryIO]:
    """Yield a temporary beside the file, and rename it to the file if the block succeeds."""
    if status is not None and not os.access(path, os.W_OK) and path.exists():
        # A rename would succeed, but a protected file must not be replaced.
        raise OutputError(f"cannot write {printable(path)}: the file is read-only")
    target = Path(os.path.realpath(path))
    _remove_leftovers(target)
    with ExitStack() as undo:
        temporary, file = _open_temporary(target, undo)
        if status is not None:
            with suppress(OSError):  # some file systems (vfat, shares) have no permissions to set
                temporary.chmod(stat.S_IMODE(status.st_mode))
        yield file
        file.flush()
        sync(file.fileno())
        file.close()  # before the rename: network file systems report a failed write only here
        temporary.replace(target)
    _sync_folder(target.parent)


def _open_temporary(target: Path, undo: ExitStack) -> tuple[Path, BinaryIO]:
    """Create and lock a temporary for `target`; `undo` closes, unlocks and removes it.

    The system drops the lock with the process, so a file without one was left by a killed writer. The lock
    is held on a second descriptor, which outlives the closing of the file up to the rename.
    """
    while True:
        temporary = target.with_name(f"{_prefix(target)}{os.urandom(_RANDOM_BYTES).hex()}.tmp")
        undo.callback(_quietly, temporary.unlink)  # first, since Ctrl-C may come right after the file is made
        file = temporary.open("x+b")
        undo.callback(_quietly, file.close)
        with suppress(BlockingIOError):
            lock = _lock(file.fileno())
            if lock is not None:
                undo.callback(os.close, lock)
            if os.fstat(file.fileno()).st_nlink:
                return temporary, file
        # Another process removed the new file before it was locked: try again under another name.


def _quietly(action: Callable[[], None]) -> None:
    with suppress(OSError):
        action()


def _prefix(target: Path) -> str:
    """Return the start of the names of temporaries, cut to the 255 bytes of a file name."""
    return f"{_PREFIX}{target.name[:50]}-"


def _lock(descriptor: int) -> int | None:
    """Lock an open file; return the descriptor that unlocks it when closed, or None without locks.

    BlockingIOError if another open file holds the lock.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return None
    return os.dup(descriptor)


def _remove_leftovers(target: Path) -> None:
    """Remove the temporaries of `target` whose writers are dead, and ignore failures."""
    pattern = re.compile(re.escape(_prefix(target)) + f"[0-9a-f]{{{2 * _RANDOM_BYTES}}}" + r"\.tmp")
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(temporary: Path) -> None:
    """Remove a temporary unless its writer may be alive (BlockingIOError)."""
    if sys.platform == "win32":
        if time.time() - temporary.stat().st_mtime > _STALE_AFTER:
            temporary.unlink()
        return
    descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """Write an open file through to the disk, if the file system supports that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, so that a rename survives a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows opens no folders, and a folder may be writable without being readable
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turn the system's errors about `path` into one `OutputError`; others pass through."""
    try:
        yield
    except OSError as error:
        if error.errno is None or not _concerns(error, path):
            raise
        raise OutputError(f"cannot write {printable(path)}: {cause(error, path)}") from error


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error is about `path`; a failing write names no file at all."""
    if error.filename is None:
        return True
    name = Path(os.fsdecode(error.filename))
    return name.name.startswith(_PREFIX) or name in (path, path.parent, Path(os.path.realpath(path)))


def cause(error: OSError, path: Path) -> str:
    """Return what is wrong with `path`, in words for a user."""
    link = os.path.islink(path)  # noqa: PTH114 - Path.is_symlink() raises where a name is too long
    folder = printable((Path(os.path.realpath(path)) if link else path).parent)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full or the quota is used up"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"the folder {folder} does not exist"
    if error.errno == errno.EISDIR:
        return "a folder of that name is there"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in the folder {folder}"
    return os.strerror(error.errno or 0)
