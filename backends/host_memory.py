"""How much memory this process may still have: the machine's, the container's and the process's own limits."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

# A container's limit that is none is told as a number near 2^63.
_NO_LIMIT = 1 << 60


def free_bytes(root: Path = Path("/")) -> int | None:
    """The smallest of what Linux says is available, and what cgroups and the process's limits leave.

    None where nobody tells, as on systems without ``/proc``.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are.
    """
    found = [*_available(root), *_of_cgroups(root), *_of_limits(root)]
    return max(0, min(found)) if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _available(root: Path) -> Iterator[int]:
    if match := re.search(r"^MemAvailable: +([0-9]+) kB", _text(root / "proc/meminfo"), re.MULTILINE):
        yield 1024 * int(match[1])


def _of_cgroups(root: Path) -> Iterator[int]:
    """What each group that this process is in leaves, and each group above it."""
    base = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            names, top = ("memory.max", "memory.current", "inactive_file"), base
        elif "memory" in controllers.split(","):
            names, top = (
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
                base / "memory",
            )
        else:
            continue
        inside = top / path.lstrip("/")
        for folder in (inside, *inside.parents):
            if folder == top or top in folder.parents:
                yield from _left_in(folder, *names)


def _left_in(folder: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    with contextlib.suppress(ValueError):  # "max", or a file that is not there
        most, used = int(_text(folder / limit)), int(_text(folder / usage))
        if most < _NO_LIMIT:
            match = re.search(rf"^{reclaimable} ([0-9]+)", _text(folder / "memory.stat"), re.MULTILINE)
            yield most - used + (int(match[1]) if match else 0)


def _of_limits(root: Path) -> Iterator[int]:
    """What ``ulimit -v`` and ``ulimit -d`` leave."""
    limits, status = _text(root / "proc/self/limits"), _text(root / "proc/self/status")
    for limit, usage in (("Max address space", "VmSize"), ("Max data size", "VmData")):
        most = re.search(rf"^{limit} +([0-9]+) ", limits, re.MULTILINE)
        used = re.search(rf"^{usage}:\s+([0-9]+) kB", status, re.MULTILINE)
        if most and used:
            yield int(most[1]) - 1024 * int(used[1])
