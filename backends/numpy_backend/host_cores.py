"""The number of cores that this process may use, and the source of each limit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from .cgroups import folders_of, text_of

_VARIABLES = ("OMP_NUM_THREADS", "PYTHON_CPU_COUNT")


def usable_cores() -> int:
    """Return the cores that this process may use: the smallest limit."""
    return min(limits())[0]


def limits(root: Path = Path("/")) -> list[tuple[int, str]]:
    """Return each limit, at least 1, and its source; `root` is the folder of ``proc`` and ``sys``."""
    return [(max(1, count), source) for count, source in (*_of_system(), *_of_variables(), *_of_cgroups(root))]


def _of_system() -> Iterator[tuple[int, str]]:
    if hasattr(os, "sched_getaffinity"):
        yield len(os.sched_getaffinity(0)), "the cores that the system gives this process"
    else:
        yield os.cpu_count() or 1, "the machine's cores"


def _of_variables() -> Iterator[tuple[int, str]]:
    """Yield the numbers in environment variables; the first of a list in `OMP_NUM_THREADS`."""
    for name in _VARIABLES:
        word = os.environ.get(name, "").split(",")[0].strip()
        if word.isdecimal() and int(word) > 0:
            yield int(word), name


def _of_cgroups(root: Path) -> Iterator[tuple[int, str]]:
    """Yield the quotas of processor time, rounded up to whole cores."""
    for version, folder in folders_of("cpu", root):
        if version == 2:
            words = text_of(folder / "cpu.max").split()
        else:
            words = [text_of(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]) > 0:
            yield math.ceil(int(words[0]) / int(words[1])), f"the container's quota ({folder})"
