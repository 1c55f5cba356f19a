"""Write what a benchmark found, and what must be known to measure it again: commit, machine, versions, command.

A record of one run has this header as `made`. A record to which several runs add rows has a list of headers,
`runs`, and each row's `run` is the place of its own in that list. Neither names a folder or a host.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import threadpoolctl

import coordfit
from coordfit.files import write_json

from .command_line import recorded

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]

_LIBRARIES = ("numpy", "numba", "pillow")
_VARIABLES = re.compile(
    "(OPENBLAS|OMP|MALLOC)_.+|(MKL|NUMBA)_NUM_THREADS|NUMBA_CPU_(NAME|FEATURES)|NPY_DISABLE_CPU_FEATURES"
    "|PYTHON_CPU_COUNT|GLIBC_TUNABLES|LD_PRELOAD"
)
"""What changes speed, or the last bits, and is not in the command."""


def write_record(
    path: Path, results: Mapping[str, Any], libraries: Iterable[str] = (), threads: int | None = None
) -> None:
    """Write the results of this run and their header, as a whole or not at all; call it after each case.

    Parameters
    ----------
    libraries
        Packages beside NumPy, Numba and Pillow whose versions count, such as "torch".
    threads
        Those of coordfit; None is its default.
    """
    write_json(path, {"made": made(tuple(libraries), threads), **results})


class Runs:
    """The rows of a record to which several runs add, and the run that each is of.

    Parameters
    ----------
    path
        Read if it is there, and written with each new row; None keeps nothing.
    name
        Of the list of rows in the file.
    facts
        What stands beside the rows.
    """

    def __init__(
        self,
        path: Path | None,
        name: str,
        libraries: Iterable[str] = (),
        threads: int | None = None,
        **facts: Any,
    ) -> None:
        is_there = path is not None and path.exists()
        self.rows: list[Row] = recorded(path, name) if path and is_there else []
        self._runs: list[Row] = recorded(path, "runs") if path and is_there and self.rows else []
        self._path, self._name, self._facts = path, name, facts
        self._header = (tuple(libraries), threads)
        self._is_noted = False

    def find(self, key: Row) -> list[Row]:
        """Return the rows that have all of a key."""
        return [row for row in self.rows if key.items() <= row.items()]

    def keep(self, key: Row, found: Row) -> Row:
        """Put a row of this run in place of those with its key, write the file, and return the row."""
        if not self._is_noted:
            self._runs.append(made(*self._header))
            self._is_noted = True
        row = key | found | {"run": len(self._runs) - 1}
        old = self.find(key)
        self.rows = [other for other in self.rows if other not in old] + [row]
        self._forget_runs_without_rows()
        if self._path:
            write_json(self._path, {"runs": self._runs, **self._facts, self._name: self.rows})
        return row

    def _forget_runs_without_rows(self) -> None:
        places = {old: new for new, old in enumerate(sorted({row["run"] for row in self.rows}))}
        self._runs = [self._runs[old] for old in places]
        for row in self.rows:
            row["run"] = places[row["run"]]


@functools.cache
def made(libraries: tuple[str, ...] = (), threads: int | None = None) -> Row:
    """Return the header of what this process measures."""
    return {
        **commit(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": command(),
        "cpu": cpu(),
        "instructions": instructions(),
        "cores": os.cpu_count(),
        "threads": threads or coordfit.get_backend("cpu").describe()["threads"],
        "system": system(),
        "blas": blas(),
        "versions": versions(libraries),
        "variables": variables(),
    }


def commit() -> Row:
    """Return the commit, and whether code differs from it; from `COORDFIT_COMMIT` if there is no history."""
    if named := os.environ.get("COORDFIT_COMMIT"):
        return {"commit": named.removesuffix("-dirty"), "dirty": named.endswith("-dirty")}
    code = ["backends", "coordfit", "bench/*.py"]  # a * takes folders too
    try:
        found, changed = (
            subprocess.run(
                ["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", *code])
        )
    except (OSError, subprocess.SubprocessError):
        return {"commit": "unknown", "dirty": None}
    return {"commit": found, "dirty": bool(changed)}


def command() -> str:
    """Return the command line of this process, without folders outside of the repository."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name.removesuffix(".__main__")] if spec else [Path(sys.argv[0]).name]
    return shlex.join(["python", *program, *map(without_folders, sys.argv[1:])])


def without_folders(text: str) -> str:
    """Return a text whose absolute paths are names alone."""
    return re.sub(r"(?<![^\s:=,])/(?:[^\s:=,]*/)?", "", text)


def cpu() -> str:
    """Return the model of the processor, as far as the system tells it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instructions() -> str:
    """Return the widest vectors of this processor, by name; nothing if the system does not tell."""
    flags = _cpuinfo("flags").split()
    names = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}
    return next((name for flag, name in names.items() if flag in flags), "")


def _cpuinfo(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0] == name), "")


def system() -> str:
    """Return the operating system with its version, and that of the C library, whose allocator counts."""
    kernel = re.match(r"[\d.]*", platform.release())
    return ", ".join(
        part
        for part in (f"{platform.system()} {kernel[0] if kernel else ''}", " ".join(platform.libc_ver()))
        if part.strip()
    )


def blas() -> list[Row]:
    """Return each BLAS of this process: its name and version, and the kernel it chose for this processor."""
    names = {"internal_api": "name", "version": "version", "architecture": "kernel"}
    found = [
        {name: library.get(key) for key, name in names.items()}
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    ]
    return [row for place, row in enumerate(found) if row not in found[:place]]


def versions(libraries: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of Python, of coordfit and of libraries."""
    found = {"python": platform.python_version(), "coordfit": coordfit.__version__}
    for name in (*_LIBRARIES, *libraries):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def variables() -> dict[str, str]:
    """Return the variables that are set and change speed, without folders."""
    found = sorted((name, value) for name, value in os.environ.items() if _VARIABLES.fullmatch(name) and value)
    return {name: without_folders(value) for name, value in found}
