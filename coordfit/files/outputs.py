"""Check the names that a run writes, before anything is computed or written."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..errors import OutputError
from .atomic import cause, probe
from .names import printable


@dataclass(frozen=True)
class Outputs:
    """The files that a command may write, declared once.

    Parameters
    ----------
    names
        Paths relative to the run's folder; the last part may hold ``*``.
    begun
        Names that show that a run has begun, which `--resume` can continue; empty without that option.
    files
        Files that the user named one by one, wherever they are.
    """

    names: tuple[str, ...]
    begun: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def with_file(self, file: Path | None) -> Outputs:
        """Return the same outputs with one more file that the user named, if any."""
        return self if file is None else dataclasses.replace(self, files=(*self.files, file))

    def check(self, folder: Path, *, overwrite: bool = False, resume: bool = False) -> None:
        """Refuse to begin if an output exists, or two have the same name (OutputError).

        Files may be replaced with `overwrite`, and with `resume` if a run has begun. See `_check_files`.
        """
        begun = any(os.path.lexists(folder / name) for name in self.begun)
        if begun and not (overwrite or resume):
            raise OutputError(
                f"{printable(folder)} already holds a run: "
                "add --overwrite to replace it, --resume to continue it, or name another folder"
            )
        for name in self.names:
            for parent in list(Path(name).parents)[:-1]:
                _check_folder(folder / parent)
            if matches := [file for file in self.files if _matches(file, folder / name)]:
                raise OutputError(f"the run itself writes {printable(matches[0])}: choose another name")
        inside = [path for name in self.names for path in _found(folder / name)]
        _check_files([*inside, *self.files], replace=overwrite or (resume and begun))
        for parent in dict.fromkeys(file.parent for file in self.files):
            probe(parent)


def _check_files(paths: Iterable[Path], *, replace: bool) -> None:
    """Refuse links (they would redirect the output), folders, pipes, sockets, devices, read-only files.

    Other files are refused unless `replace`.
    """
    for path in paths:
        kind = _kind(path)
        if kind is not None and kind != "file":
            raise OutputError(
                f"cannot write {printable(path)}: a {kind} is in its place; "
                "remove it, or choose another name or folder"
            )
        if kind == "file" and not replace:
            raise OutputError(
                f"{printable(path)} is there already: "
                "add --overwrite to replace it, or choose another name or folder"
            )
        if kind == "file" and not os.access(path, os.W_OK):
            raise OutputError(f"cannot write {printable(path)}: the file is read-only")


def _kind(path: Path) -> str | None:
    """Return the kind of what is at `path` itself, without following links; None if nothing is."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(f"cannot write {printable(path)}: {cause(error, path)}") from error
    except ValueError as error:
        raise OutputError(f"cannot write {printable(path)}: not a possible file name") from error
    kinds = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe"}
    return kinds.get(stat.S_IFMT(mode), "socket" if stat.S_ISSOCK(mode) else "device")


def _check_folder(path: Path) -> None:
    kind = _kind(path)
    if kind not in (None, "folder"):
        raise OutputError(
            f"cannot write in {printable(path)}: a {kind} is in its place; remove it, or name another folder"
        )


def _found(path: Path) -> list[Path]:
    """Return the paths that a name matches: itself, or with ``*`` the existing ones."""
    if "*" not in path.name:
        return [path]
    if _kind(path.parent) is None:
        return []
    try:
        return sorted(entry for entry in path.parent.iterdir() if fnmatch(entry.name, path.name))
    except OSError as error:
        raise OutputError(f"cannot look into the folder {printable(path.parent)}: {error.strerror}") from error


def _matches(file: Path, name: Path) -> bool:
    """Whether a file that the user named is one of the run's own."""
    return fnmatch(file.name, name.name) and os.path.realpath(file.parent) == os.path.realpath(name.parent)
