"""The Linux control groups of this process, which limit a container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def text_of(path: Path) -> str:
    """Return the text of a system file; empty if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def folders_of(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """Yield version (1 or 2) and folder of each group of this process for a controller, and its parents."""
    base = root / "sys/fs/cgroup"
    for line in text_of(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            version, top = 2, base
        elif controller in controllers.split(","):
            version, top = 1, base / controller
        else:
            continue
        inside = top / path.lstrip("/")
        for folder in (inside, *inside.parents):
            if folder == top or top in folder.parents:
                yield version, folder
