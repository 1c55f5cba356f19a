"""The folder for files that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's cache folder for coordfit; it may not exist.

    Raises
    ------
    RuntimeError
        The user has no home folder.
    """
    folder = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "coordfit"
