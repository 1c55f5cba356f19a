"""Files that a reader finds whole, old or new, and never half written; run folders and histories.

Everything a run leaves behind goes through `atomic_write`, except ``history.csv``, which grows row by row so
that a killed run keeps its curve.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import json
import math
import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from coordfit.errors import ConfigError, OutputError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "HistoryWriter",
    "atomic_write",
    "escaped",
    "jsonable",
    "new_run_folder",
    "prepare_output_folder",
    "printable",
    "read_history",
    "write_json",
]

# A file of any of these names tells that a folder already holds a run.
RUN_FILES = ("metrics.json", "config.json", "model.safetensors")

_PREFIX = ".coordfit-"
_RANDOM_BYTES = 8
# Only where the system has no file locks: a temporary this old (seconds) has no writer any more.
_STALE_AFTER = 3600.0

FilePath = str | os.PathLike[str]


# --- one file, whole or not at all --------------------------------------------------------------------------


@contextmanager
def atomic_write(path: FilePath) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of `path` only when it is complete and on disk.

    The content goes to a temporary in the same folder, so that the last step is a rename within one file
    system. A new file gets the permissions the umask asks for; an existing one keeps its permissions (not its
    owner, nor other hard links to it). A symbolic link stays a link and the file it points to is replaced. A
    device, a pipe, and ``/dev/stdout`` are written straight. Temporaries that killed writers of the same file
    left are removed first.

    Parameters
    ----------
    path
        Where the file shall be; its folder must exist.

    Yields
    ------
    file
        A buffered binary file, readable too unless `path` is a device or a pipe. The caller must not close
        it.

    Raises
    ------
    OutputError
        The file cannot be written: disk full, folder missing or not writable, a folder of that name. What was
        at `path` before is still there. An error that the caller raises inside the block passes through as it
        is.
    """
    path = Path(path)
    with _as_output_error(path):
        standard = _standard_descriptor(path)
        status = _status(path)
        if standard is not None:
            # Not opened anew: where it is redirected to a file, that would get a second position in it.
            yield from _write_straight(os.dup(standard))
        elif status is not None and _is_stream(path, status):
            yield from _write_straight(os.open(path, os.O_WRONLY))
        else:
            yield from _write_beside(path, status)


def escaped(text: str) -> str:
    r"""Text with line breaks and all that could steer a terminal as escapes: ``\n``, ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable(path: FilePath) -> str:
    """Path as text for a message, quoted and escaped where it holds line breaks or other unprintables."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def _status(path: Path) -> os.stat_result | None:
    """Status of what is at `path`, links followed; None if nothing is there."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OutputError(f"cannot write {printable(path)}: not a possible file name") from error


def _is_stream(path: Path, status: os.stat_result) -> bool:
    """Whether what is there is to be written into, being neither a file nor a folder."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(status.st_mode)


def _standard_descriptor(path: Path) -> int | None:
    """Descriptor that a name such as ``/dev/stdout`` or ``/dev/fd/3`` stands for, None for any other name."""
    match = re.fullmatch(r"/dev/(?:(stdout)|(stderr)|fd/([0-9]{1,9}))", str(path))
    if match is None or sys.platform == "win32":
        return None
    return 1 if match[1] else 2 if match[2] else int(match[3])


def _write_straight(descriptor: int) -> Iterator[BinaryIO]:
    """Yield a file on an open descriptor, which is closed at the end."""
    with open(descriptor, "wb") as file:
        yield file


def _write_beside(path: Path, status: os.stat_result | None) -> Iterator[BinaryIO]:
    """Yield a temporary beside the file; put it in the file's place when the block ends well."""
    if status is not None and not os.access(path, os.W_OK) and path.exists():
        # A rename would succeed, but a file somebody has protected is not ours to replace.
        raise OutputError(f"cannot write {printable(path)}: the file is read-only")
    target = Path(os.path.realpath(path))
    _remove_leftovers(target)
    temporary, file, lock = _open_temporary(target)
    try:
        if status is not None:
            with suppress(OSError):  # some file systems (vfat, shares) have no permissions to set
                temporary.chmod(stat.S_IMODE(status.st_mode))
        yield file
        file.flush()
        _sync(file.fileno())
        file.close()  # before the rename: network file systems report a failed write only here
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        if lock is not None:
            os.close(lock)
    _sync_folder(target.parent)


def _open_temporary(target: Path) -> tuple[Path, BinaryIO, int | None]:
    """Create a temporary for `target`, locked until the returned descriptor is closed.

    The lock is what tells a file being written from one a killed process left: the system drops it with the
    process. It is held on a second descriptor, for it must outlive the closing of the file, up to the rename.
    """
    while True:
        temporary = target.with_name(f"{_prefix(target)}{os.urandom(_RANDOM_BYTES).hex()}.tmp")
        file = temporary.open("x+b")
        try:
            lock = _lock(file.fileno())
            if os.fstat(file.fileno()).st_nlink:
                return temporary, file, lock
        except BlockingIOError:
            lock = None
        # Another process took the new file for a leftover before it was locked: try again under another name.
        file.close()
        if lock is not None:
            os.close(lock)
        temporary.unlink(missing_ok=True)


def _prefix(target: Path) -> str:
    """Start of the names of temporaries of `target`; cut, since a file name has at most 255 bytes."""
    return f"{_PREFIX}{target.name[:50]}-"


def _lock(descriptor: int) -> int | None:
    """Lock an open file, and return the descriptor to close to unlock it; None if it cannot be locked here.

    Raises
    ------
    BlockingIOError
        Another open file holds the lock.
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
    """Remove the temporaries of `target` whose writers are dead. Never fails: litter does no harm."""
    pattern = re.compile(re.escape(_prefix(target)) + f"[0-9a-f]{{{2 * _RANDOM_BYTES}}}" + r"\.tmp")
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(temporary: Path) -> None:
    """Remove a temporary unless its writer still lives (then BlockingIOError) or nobody can tell."""
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


def _sync(descriptor: int) -> None:
    """Have the system put an open file on the disk, where the file system knows such a thing."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk, so that a rename outlives a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows opens no folders, and a folder may be writable without being readable
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    """Turn the system's errors about `path` into one `OutputError`; those about other files pass through."""
    try:
        yield
    except OSError as error:
        if error.errno is None or not _concerns(error, path):
            raise
        raise OutputError(f"cannot write {printable(path)}: {_cause(error, path)}") from error


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error is about `path`; a failing write carries no file name at all."""
    if error.filename is None:
        return True
    name = Path(os.fsdecode(error.filename))
    return name.name.startswith(_PREFIX) or name in (path, path.parent, Path(os.path.realpath(path)))


def _cause(error: OSError, path: Path) -> str:
    """Tell what is wrong in words for a user."""
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


# --- JSON ---------------------------------------------------------------------------------------------------


def write_json(path: FilePath, document: Any) -> None:
    """Write `document` as strict JSON in UTF-8, indented by 2, atomically.

    Raises
    ------
    OutputError
        The file cannot be written.
    TypeError, ValueError
        The document holds what JSON cannot tell; see `jsonable`. The file is not touched.
    """
    text = json.dumps(jsonable(document), indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8") + b"\n")


def jsonable(value: Any) -> Any:
    """Turn `value` into what strict JSON can tell.

    Dataclasses and mappings become objects, lists, tuples, ranges and arrays become lists, paths text,
    enumeration members their values, NumPy scalars Python numbers. NaN and infinities become None, since JSON
    has no word for them; text that is not valid Unicode (a path can be that) has the odd bytes escaped.

    Raises
    ------
    TypeError
        Something in `value` is of another type.
    ValueError
        Two keys of a mapping are the same text.
    """
    if isinstance(value, enum.Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, os.PathLike):
        return jsonable(os.fsdecode(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return _json_object(value)
    if isinstance(value, (list, tuple, range)):
        return [jsonable(item) for item in value]
    return jsonable(_from_array(value))


def _json_object(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn the keys into text."""
    result = {str(jsonable(key)): jsonable(item) for key, item in mapping.items()}
    if len(result) != len(mapping):
        raise ValueError("two keys of a mapping would be the same in JSON")
    return result


def _from_array(value: Any) -> Any:
    """Take the Python numbers of an array or array scalar; by ``tolist``, for that needs no array library."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(plain, (bool, int, float, str, list)):
        raise TypeError(f"JSON cannot tell a {type(value).__name__}")
    return plain


# --- run folders --------------------------------------------------------------------------------------------


def new_run_folder(parent: FilePath = Path("runs")) -> Path:
    """Make the next numbered folder in `parent`: ``001``, ``002``, ..., with more digits past 999.

    Processes that do this at the same time get different folders. `parent` is made if it is missing.

    Raises
    ------
    OutputError
        No folder can be made there, or no file in it.
    """
    parent = Path(parent)
    _make_folder(parent)
    with _as_output_error(parent):
        number = 1 + max(
            (int(p.name) for p in parent.iterdir() if re.fullmatch("[0-9]{3,6}", p.name)), default=0
        )
    while True:
        folder = parent / f"{number:03d}"
        try:
            folder.mkdir()  # the system lets only one process make it
        except FileExistsError:
            number += 1
        except OSError as error:
            raise OutputError(f"cannot make the folder {printable(folder)}: {_cause(error, folder)}") from error
        else:
            _probe(folder)
            return folder


def prepare_output_folder(path: FilePath, *, overwrite: bool = False, resume: bool = False) -> Path:
    """Make the folder that a user named for results, and find out before training whether it can be written.

    Parameters
    ----------
    path
        The folder; it is made, with its parents, if it is missing.
    overwrite
        Whether a run that is already there may be replaced, file by file as the new ones come.
    resume
        Whether a run that is already there is continued. If none is there, a new one begins.

    Raises
    ------
    OutputError
        The folder holds a run and neither option was given, or it cannot be made or written.
    ConfigError
        Both options were given.
    """
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other: give one of them")
    folder = Path(path)
    _make_folder(folder)
    if not (overwrite or resume) and any((folder / name).exists() for name in RUN_FILES):
        raise OutputError(
            f"{printable(folder)} already holds a run: "
            "add --overwrite to replace it, --resume to continue it, or name another folder"
        )
    _probe(folder)
    return folder


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"cannot make the folder {printable(folder)}: a file is in its place"
        raise OutputError(message) from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {printable(folder)}: {_cause(error, folder)}") from error
    except ValueError as error:
        message = f"cannot make the folder {printable(folder)}: not a possible name"
        raise OutputError(message) from error


def _probe(folder: Path) -> None:
    """Find out whether files can be written in a folder, by writing one of a few kilobytes."""
    probe = folder / "probe"
    _remove_leftovers(probe)
    try:
        temporary, file, lock = _open_temporary(probe)
        try:
            with file:
                file.write(bytes(4096))
                file.flush()
                _sync(file.fileno())
        finally:
            temporary.unlink(missing_ok=True)
            if lock is not None:
                os.close(lock)
    except OSError as error:
        message = f"cannot write in the folder {printable(folder)}: {_cause(error, probe)}"
        raise OutputError(message) from error


# --- history ------------------------------------------------------------------------------------------------

Number = float | int | None


class HistoryWriter:
    """Writes ``history.csv``: one row for each evaluation, on its way to the disk as soon as it is appended.

    A killed process keeps all its rows (a power cut may lose the last ones). The file has a header line; an
    empty field means that a figure was not measured. Floats are written so that reading gives the same bits.

    Parameters
    ----------
    path
        The file. What is there is replaced.
    columns
        Names of the columns: letters, digits, ``_``, ``.`` and ``-``.
    rows
        Rows to begin with, those of a run that goes on: they are in place, whole, before the old file is gone.

    Raises
    ------
    OutputError
        The file cannot be written; from `append` and `close` too.
    ValueError
        A column's name cannot be used.
    """

    def __init__(self, path: FilePath, columns: Sequence[str], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._open(Path(path), columns, kept=[_line(columns, row) for row in rows])

    def _open(self, path: Path, columns: Sequence[str], kept: Sequence[str]) -> None:
        """Put the header and the rows kept in place, whole, and open the file to append to it."""
        if not columns or len(set(columns)) < len(columns):
            raise ValueError("a history needs columns, each of another name")
        if wrong := [name for name in columns if not re.fullmatch(r"[\w.-]+", name)]:
            raise ValueError(f"no name for a column of a history: {wrong[0]!r}")
        self.path = path
        self.columns = tuple(columns)
        with atomic_write(path) as file:
            file.write("".join(f"{line}\n" for line in [",".join(columns), *kept]).encode())
        with _as_output_error(path):
            self._file = path.open("ab", buffering=0)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; a column that `row` lacks stays empty.

        Parameters
        ----------
        row
            Column names and numbers (Python's or NumPy's) or None.

        Raises
        ------
        OutputError
            The row cannot be written.
        ValueError
            `row` has a name that is no column.
        """
        line = memoryview((_line(self.columns, row) + "\n").encode())
        with _as_output_error(self.path):
            while line:  # an unbuffered file may take a part only
                line = line[self._file.write(line) :]

    def sync(self) -> None:
        """Put all rows so far on the disk, so that even a power cut leaves them; OutputError if that fails."""
        with _as_output_error(self.path):
            _sync(self._file.fileno())

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        with _as_output_error(self.path):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_history(path: FilePath) -> list[dict[str, Number]]:
    """Read a history, also of a run that is still going on or was killed: a last line cut short is left out.

    Returns
    -------
    rows
        For each row the columns' values: int, float, or None where the field is empty.

    Raises
    ------
    OutputError
        The file cannot be read or is no history.
    """
    path = Path(path)
    header, lines = _history_lines(path)
    return [_parse_row(path, header, line, number) for number, line in enumerate(lines, start=2)]


def _history_lines(path: Path) -> tuple[list[str], list[str]]:
    """Header and complete lines of a history."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise OutputError(f"cannot read the history {printable(path)}: {reason}") from error
    header, *lines = text.replace("\r\n", "\n").split("\n")
    if not lines:
        raise OutputError(f"cannot read the history {printable(path)}: it has no header line")
    return header.split(","), lines[:-1]  # what follows the last line's end was cut short


def _parse_row(path: Path, header: Sequence[str], line: str, number: int) -> dict[str, Number]:
    """Values of line `number` (the header is line 1)."""
    try:
        return {name: _number(field) for name, field in zip(header, line.split(","), strict=True)}
    except ValueError as error:
        raise OutputError(f"cannot read the history {printable(path)}: line {number} is damaged") from error


def _line(columns: Sequence[str], row: Mapping[str, Any]) -> str:
    if unknown := set(row) - set(columns):
        raise ValueError(f"no column of this history: {sorted(unknown)[0]!r}")
    return ",".join(_field(row.get(name)) for name in columns)


def _field(value: Any) -> str:
    """Tell a number as text that reads back to the same bits; nothing for None."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, Integral) else repr(float(value))


def _number(field: str) -> Number:
    """Value of one field: `repr` of a float always has a mark that no integer has."""
    if not field:
        return None
    return int(field) if re.fullmatch("-?[0-9]{1,18}", field) else float(field)
