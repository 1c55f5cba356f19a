"""Measure the GPU path: `python -m bench.gpu [--quick] [--out DIR]`. Under ten minutes; stops at no failure.

Exit codes: 0 when all that was checked holds, 1 when something does not, 3 where there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
NO_GPU = 3
SUITE_SECONDS, TIMING_SECONDS = 150, 200


def commit() -> str:
    """The commit that is measured, or "unknown"."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def machine(backend: Any) -> dict[str, Any]:
    """Device, driver, versions, commit."""
    planner = backend.ladder.planner
    library = None if planner is None else planner.library
    return backend.describe() | {
        "cublaslt": backend.ladder.why if library is None else ".".join(map(str, library.version)),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.platform(),
        "commit": commit(),
    }


def epilogues(backend: Any, quick: bool) -> list[dict[str, Any]]:
    """Which epilogues cublasLt has here, for each precision."""
    from backends.cublaslt import survey

    if backend.ladder.planner is None:
        raise RuntimeError(backend.ladder.why)
    with backend.activate():
        return survey(backend.ladder.planner, *((256, 16) if quick else (16384, 256)))


def all_parity(make: Callable[..., Any], quick: bool) -> list[dict[str, Any]]:
    """Errors against float64 of everything, at every precision."""
    from .parity import parity

    table = []
    for precision in ("float64", "float32", "tf32"):
        backend = make(precision="tf32" if precision == "tf32" else "float32")
        with backend.activate():
            table += parity(backend, precision, *((64, 16) if quick else (4096, 128)))
    return table


def graphs(make: Callable[..., Any], quick: bool) -> list[dict[str, Any]]:
    """Whether replayed steps are the steps, bit by bit."""
    from .parity import graph_equals_eager
    from .steps import Case

    small = {"side": 12, "width": 16, "frequencies": 8, "depth": 3} if quick else {}
    steps = 40 if quick else 1000
    return [
        graph_equals_eager(make, Case(batch=batch, members=members, **small), steps)
        for batch in (None, 48 if quick else 1024)
        for members in (1, 3)
    ]


def suite(quick: bool) -> dict[str, Any]:
    """The project's own tests on this GPU, in a process of their own."""
    if quick or importlib.util.find_spec("pytest") is None:
        return {"skipped": "--quick" if quick else "pytest is not installed"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-k",
        "cupy and not cupy-on-host",
        "-p",
        "no:cacheprovider",
    ]
    environment = os.environ | {"COORDFIT_REQUIRE_BACKENDS": "cupy"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS,
        check=False,
    )
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"holds": done.returncode == 0, "summary": lines[-1:], "failed": failed[:100]}


def seconds_to_psnr(make: Callable[..., Any], quick: bool) -> list[dict[str, Any]]:
    """Seconds of training until the bundled picture reaches 30, 35 and 40 dB."""
    from coordfit.config import make_config
    from coordfit.images import bundled_picture
    from coordfit.training import Trainer

    table = []
    for precision in ("float32",) if quick else ("float32", "tf32"):
        options = {"depth": 5, "num_frequencies": 256, "hidden_size": 256, "sigma": 10.0}
        options |= {"steps": 40 if quick else 3000, "evaluate_every": 20 if quick else 50, "target_psnr": 40.0}
        if quick:
            options |= {"hidden_size": 16, "num_frequencies": 8, "batch_size": 64}
        result = Trainer(
            bundled_picture(32 if quick else 128), make_config(options), make(precision=precision)
        ).run()
        reached = {
            f"{level} dB": next((row["seconds"] for row in result.history if row["psnr_train"] >= level), None)
            for level in (30, 35, 40)
        }
        last = result.history[-1]
        table.append({"precision": precision, "steps": last["step"], "psnr": last["psnr_train"]} | reached)
    return table


def measure(make: Callable[..., Any], quick: bool) -> dict[str, Any]:
    """All parts, each with its seconds; a part that fails leaves its error and the rest goes on."""
    from .peers import peers
    from .timing import timings

    parts: dict[str, Callable[[], Any]] = {
        "machine": lambda: machine(make()),
        "epilogues": lambda: epilogues(make(), quick),
        "parity": lambda: all_parity(make, quick),
        "graphs": lambda: graphs(make, quick),
        "seconds_to_psnr": lambda: seconds_to_psnr(make, quick),
        "timings": lambda: timings(make, quick, TIMING_SECONDS),
        "peers": lambda: peers(quick),
        "suite": lambda: suite(quick),
    }
    report: dict[str, Any] = {"seconds": {}}
    for name, part in parts.items():
        start = time.monotonic()
        try:
            report[name] = part()
        except Exception as error:
            report[name] = {"holds": False, "fault": f"{type(error).__name__}: {error}"}
        report["seconds"][name] = round(time.monotonic() - start, 2)
        print(f"{name}: {report['seconds'][name]} s", file=sys.stderr, flush=True)
    report["holds"] = all(verdicts(report))
    return report


def verdicts(report: dict[str, Any]) -> list[bool]:
    """Everything in the report that says whether something holds."""
    found = [row["holds"] for row in rows_of(report["parity"]) if "holds" in row]
    found += [
        row.get("equal", False) and not row["not_recorded"]
        for row in rows_of(report["graphs"])
        if "case" in row
    ]
    parts = (report[name] for name in ("machine", "parity", "graphs", "seconds_to_psnr", "timings", "suite"))
    return found + [bool(part["holds"]) for part in parts if isinstance(part, dict) and "holds" in part]


def rows_of(part: Any) -> list[dict[str, Any]]:
    """A part as rows: a table as it is, anything else as one row."""
    return part if isinstance(part, list) else [part]


def as_markdown(report: dict[str, Any]) -> str:
    """The report as tables, one for each part."""
    text = ["# The GPU path, measured", "", f"All checks hold: {report['holds']}", ""]
    for name, part in report.items():
        if name in ("holds", "seconds"):
            continue
        rows = rows_of(part)
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text += [f"## {name} ({report['seconds'].get(name)} s)", ""]
        text += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        text += [f"| {' | '.join(_cell(row.get(key)) for key in columns)} |" for row in rows]
        text.append("")
    return "\n".join(text)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "/").replace("\n", " ")


def main(arguments: list[str] | None = None, make: Callable[..., Any] | None = None) -> int:
    """Measure and write `gpu.json` and `gpu.md`; `make` makes a backend, the GPU's where there is none."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for gpu.json and gpu.md")
    options = parser.parse_args(arguments)
    if make is None:
        from backends.cupy_backend import CupyBackend

        if reason := CupyBackend.why_unavailable():
            print(f"no GPU to measure: {reason}", file=sys.stderr)
            return NO_GPU
        make = CupyBackend
    report = measure(make, options.quick)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    text = as_markdown(report)
    (options.out / "gpu.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0 if report["holds"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
