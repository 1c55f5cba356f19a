"""Measure one part in a process: `python -m bench.gpu.part NAME FILE --seconds S [--quick] [--dry-run]`.

Its rows go to the file as they come; all else goes to stdout and stderr, which are the log.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .parts import PARTS, Make
from .steps import Row, fault_of

ROOT = Path(__file__).parents[2]
NO_GPU = 3


def measured(
    name: str, make: Make, quick: bool, seconds: float, keep: Callable[[list[Row]], None]
) -> list[Row]:
    """Return the rows of a part, each given to `keep` as it comes; a fault is the last row."""
    rows: list[Row] = []
    try:
        for row in PARTS[name].measure(make, quick, seconds):
            rows.append(row)
            keep(rows)
    except Exception as error:
        traceback.print_exc()
        rows.append({"holds": False} | fault_of(error))
    return rows


def maker(dry_run: bool) -> Make:
    """Return what makes backends: the GPU's, or the pretended one's, which is for tests."""
    if dry_run:
        made: Make = pretended().CupyOnHost
        return made
    from coordfit.backends.cupy_backend.backend import CupyBackend

    return CupyBackend


def pretended() -> Any:
    """Return the module that pretends CuPy and a GPU, which is among the tests."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    return importlib.import_module("support.fake_cupy")


def end_with_parent() -> None:
    """End when the parent does, which holds the other end of stdin."""
    sys.stdin.read()
    os._exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Measure the part; return 3 if there is no GPU, which only the first part checks."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.part", description=__doc__)
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("file", type=Path, help="for the rows, as JSON")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(arguments)

    def keep(rows: list[Row]) -> None:
        work = options.file.with_suffix(".work")
        work.write_text(json.dumps(rows, default=str), encoding="utf-8")
        work.replace(options.file)

    make = maker(options.dry_run)
    if options.name == "machine" and not options.dry_run:
        from coordfit.backends.cupy_backend import why_unavailable

        if reason := why_unavailable():
            print(f"no GPU to measure: {reason}", flush=True)
            return NO_GPU
    threading.Thread(target=end_with_parent, daemon=True).start()
    began = time.monotonic()
    keep(measured(options.name, make, options.quick, options.seconds, keep))
    print(f"{options.name}: {time.monotonic() - began:.1f} s in its process", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
