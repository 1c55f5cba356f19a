"""The memory left for this process by the machine, the container and the process's own limits."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from .cgroups import folders_of, text_of

# Control groups without a limit report a number near 2^63.
_NO_LIMIT = 1 << 60
# By version of control groups: the limit, the bytes in use, and the reclaimable part of these.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def free_bytes(root: Path = Path("/")) -> int | None:
    """Return the least of Linux's available memory and what cgroups and the process's limits leave.

    None if unknown, as on systems without ``/proc``; `root` is the folder of ``proc`` and ``sys``.
    """
    found = [*_available(root), *_of_cgroups(root), *_of_limits(root)]
    return max(0, min(found)) if found else None


def _available(root: Path) -> Iterator[int]:
    if match := re.search(r"^MemAvailable: +([0-9]+) kB", text_of(root / "proc/meminfo"), re.MULTILINE):
        yield 1024 * int(match[1])


def _of_cgroups(root: Path) -> Iterator[int]:
    """Yield the bytes that each group of this process and its parents leave."""
    for version, folder in folders_of("memory", root):
        yield from _left_in(folder, *_FILES[version])


def _left_in(folder: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    with contextlib.suppress(ValueError):  # "max", or a missing file
        most, used = int(text_of(folder / limit)), int(text_of(folder / usage))
        if most < _NO_LIMIT:
            match = re.search(rf"^{reclaimable} ([0-9]+)", text_of(folder / "memory.stat"), re.MULTILINE)
            yield most - used + (int(match[1]) if match else 0)


def _of_limits(root: Path) -> Iterator[int]:
    """Yield the bytes that ``ulimit -v`` and ``ulimit -d`` leave."""
    limits, status = text_of(root / "proc/self/limits"), text_of(root / "proc/self/status")
    for limit, usage in (("Max address space", "VmSize"), ("Max data size", "VmData")):
        most = re.search(rf"^{limit} +([0-9]+) ", limits, re.MULTILINE)
        used = re.search(rf"^{usage}:\s+([0-9]+) kB", status, re.MULTILINE)
        if most and used:
            yield int(most[1]) - 1024 * int(used[1])
