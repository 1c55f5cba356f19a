"""Prove and measure the GPU path: `python -m bench.gpu [--quick] [--out DIR]`. Under ten minutes.

Every part is a process of its own, which a fault of the device cannot take with it, and every row is written as
it comes. Exit codes: 0 when all that was checked holds, 1 when something does not, 3 where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .parts import PARTS, Part, rows_of
from .tables import as_markdown, holds

ROOT = Path(__file__).parents[2]
NO_GPU = 3
SECONDS = 570  # of the whole command
FEWEST_SECONDS = 5  # in which a part can do anything
Measure = Callable[[str, Part, float, Callable[[list[dict[str, Any]]], None]], None]
"""Measures a part within some seconds; gives its rows so far to a function, again and again."""


def measure(out: Path, quick: bool, measure_part: Measure) -> dict[str, Any]:
    """Measure all parts and write `gpu.json` and `gpu.md` after each row."""
    began = time.monotonic()
    report: dict[str, Any] = {"quick": quick, "holds": False, "seconds": {}, "parts": {}}
    for name, part in PARTS.items():
        start, seconds = time.monotonic(), min(part.seconds, SECONDS - (time.monotonic() - began))

        def keep(rows: list[dict[str, Any]], name: str = name, start: float = start) -> None:
            report["parts"][name] = rows
            report["seconds"][name] = round(time.monotonic() - start, 2)
            report["holds"] = holds(report)
            write(out, report)

        if seconds < FEWEST_SECONDS:
            keep([{"fault": f"left out: the {SECONDS} s of the whole command are spent"}])
        else:
            measure_part(name, part, seconds, keep)
        print(f"{name}: {report['seconds'].get(name)} s", file=sys.stderr, flush=True)
    return report


def write(out: Path, report: dict[str, Any]) -> None:
    """Write both files, each as a whole."""
    for name, text in (
        ("gpu.json", json.dumps(report, indent=1, default=str)),
        ("gpu.md", as_markdown(report)),
    ):
        work = out / f".{name}"
        work.write_text(text + "\n", encoding="utf-8")
        work.replace(out / name)


def in_this_process(make: Callable[..., Any], quick: bool) -> Measure:
    """Measures a part here, on the backends that `make` makes: for tests."""

    def measure_part(name: str, part: Part, seconds: float, keep: Callable[..., None]) -> None:
        keep(rows_of(part, make, quick, seconds, keep))

    return measure_part


def in_a_child(quick: bool) -> Measure:
    """Measures a part in a process of its own."""

    def measure_part(name: str, part: Part, seconds: float, keep: Callable[..., None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.json"
            words = [*child_command(), "--part", name, "--out", str(file), "--seconds", str(seconds)]
            fault = ""
            try:
                done = subprocess.run(
                    [*words, *(["--quick"] if quick else [])],
                    cwd=ROOT,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    timeout=seconds,
                    check=False,
                )
                if done.returncode:
                    said = " / ".join(done.stderr.splitlines()[-2:])
                    fault = f"the process ended with {done.returncode}: {said}"
            except subprocess.TimeoutExpired:
                fault = f"not done after {seconds:.0f} s"
            rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
            keep([*rows, {"holds": False, "fault": fault}] if fault else rows)

    return measure_part


def child_command() -> list[str]:
    """What a part is measured by."""
    return [sys.executable, "-m", "bench.gpu"]


def run_part(name: str, file: Path, quick: bool, seconds: float, make: Callable[..., Any]) -> None:
    """The child: measure one part, and write its rows after each."""

    def keep(rows: list[dict[str, Any]]) -> None:
        work = file.with_suffix(".work")
        work.write_text(json.dumps(rows, default=str), encoding="utf-8")
        work.replace(file)

    keep(rows_of(PARTS[name], make, quick, seconds, keep))


def main(arguments: list[str] | None = None, make: Callable[..., Any] | None = None) -> int:
    """Measure and write `gpu.json` and `gpu.md`; `make` makes a backend, the GPU's where there is none."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "bench" / "results", help="folder for gpu.json and gpu.md"
    )
    parser.add_argument("--part", choices=PARTS, help="measure this alone; --out is then a file for its rows")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of that part")
    options = parser.parse_args(arguments)
    measure_part = None if make is None else in_this_process(make, options.quick)
    if make is None:
        from backends.cupy_backend import CupyBackend

        if reason := CupyBackend.why_unavailable():
            print(f"no GPU to measure: {reason}", file=sys.stderr)
            return NO_GPU
        make = CupyBackend
    if options.part:
        run_part(options.part, options.out, options.quick, options.seconds, make)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    report = measure(options.out, options.quick, measure_part or in_a_child(options.quick))
    print(as_markdown(report))
    return 0 if report["holds"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
