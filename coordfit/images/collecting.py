"""Find the pictures that paths, folders and patterns name."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import PictureError
from ..files import FilePath, printable

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pnm"),
    *(".tga", ".ico", ".jp2", ".j2k", ".qoi", ".pcx", ".sgi"),
)
"""Of the pictures in a folder, in lower case."""


def is_several(path: FilePath) -> bool:
    """Whether a path names a folder or is a pattern, and no file."""
    return Path(path).is_dir() or (glob.has_magic(os.fspath(path)) and not os.path.lexists(path))


def picture_files(paths: Iterable[FilePath]) -> list[Path]:
    """Return files in the order of the paths that name them, each once.

    A folder stands for the pictures in it, by name; a pattern (`*`, `?`, `[...]`, `**` for folders) for what
    matches it. A file that is missing stays in the list.

    Raises
    ------
    PictureError
        A folder has no picture, or nothing matches a pattern.
    """
    found: dict[Path, None] = {}
    for path in paths:
        files = _files_of(path) if is_several(path) else [Path(path)]
        if not files:
            raise PictureError(f"there is no picture in {printable(path)}: name a folder with some, or files")
        found |= dict.fromkeys(files)
    return list(found)


def _files_of(path: FilePath) -> list[Path]:
    if Path(path).is_dir():
        try:
            return sorted(file for file in Path(path).iterdir() if _is_picture(file))
        except OSError as error:
            raise PictureError(f"cannot look into {printable(path)}: {error.strerror}") from error
    matches = glob.glob(os.fspath(path), recursive=True)  # noqa: PTH207, whose patterns must be relative
    return sorted(file for file in map(Path, matches) if file.is_file())


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
