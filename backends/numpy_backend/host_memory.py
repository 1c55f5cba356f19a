"""How much memory this process may still have: the machine's, the container's and the process's own limits."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from .cgroups import folders_of, text_of

# A container's limit that is none is told as a number near 2^63.
_NO_LIMIT = 1 << 60
# By the version of control groups: the limit, what is in use, and what of that may be taken back.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


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


def _available(root: Path) -> Iterator[int]:
    if match := re.search(r"^MemAvailable: +([0-9]+) kB", text_of(root / "proc/meminfo"), re.MULTILINE):
        yield 1024 * int(match[1])


def _of_cgroups(root: Path) -> Iterator[int]:
    """What each group that this process is in leaves, and each group above it."""
    for version, folder in folders_of("memory", root):
        yield from _left_in(folder, *_FILES[version])


def _left_in(folder: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    with contextlib.suppress(ValueError):  # "max", or a file that is not there
        most, used = int(text_of(folder / limit)), int(text_of(folder / usage))
        if most < _NO_LIMIT:
            match = re.search(rf"^{reclaimable} ([0-9]+)", text_of(folder / "memory.stat"), re.MULTILINE)
            yield most - used + (int(match[1]) if match else 0)


def _of_limits(root: Path) -> Iterator[int]:
    """What ``ulimit -v`` and ``ulimit -d`` leave."""
    limits, status = text_of(root / "proc/self/limits"), text_of(root / "proc/self/status")
    for limit, usage in (("Max address space", "VmSize"), ("Max data size", "VmData")):
        most = re.search(rf"^{limit} +([0-9]+) ", limits, re.MULTILINE)
        used = re.search(rf"^{usage}:\s+([0-9]+) kB", status, re.MULTILINE)
        if most and used:
            yield int(most[1]) - 1024 * int(used[1])
