"""What is proven and measured on a GPU, part by part, the most telling first."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .parity import graph_equals_eager, parity
from .peers import peers
from .sanitizer import sanitized
from .steps import Case, Rows, fault_of
from .timing import timings

ROOT = Path(__file__).parents[2]
Make = Callable[..., Any]


@dataclass(frozen=True)
class Part:
    """A part: (make, quick, seconds) -> rows, and the seconds that it may take."""

    measure: Callable[[Make, bool, float], Iterable[dict[str, Any]]]
    seconds: float


def rows_of(
    part: Part, make: Make, quick: bool, seconds: float, keep: Callable[[list[dict[str, Any]]], None]
) -> list[dict[str, Any]]:
    """The rows of a part, each told to `keep` as it comes; a fault is the last row."""
    rows: list[dict[str, Any]] = []
    try:
        for row in part.measure(make, quick, seconds):
            rows.append(row)
            keep(rows)
    except Exception as error:
        rows.append({"holds": False} | fault_of(error))
    return rows


def commit() -> str:
    """The commit that is measured, or "unknown"."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def machine(make: Make, quick: bool, seconds: float) -> Rows:
    """Device, driver, versions, commit."""
    backend = make()
    planner = backend.ladder.planner
    library = None if planner is None else planner.library
    yield backend.describe() | {
        "cublaslt": backend.ladder.why if library is None else ".".join(map(str, library.version)),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.platform(),
        "commit": commit(),
    }


def epilogues(make: Make, quick: bool, seconds: float) -> Rows:
    """Which epilogues cublasLt has here, for each precision, for one network and for three."""
    from backends.cublaslt import survey

    backend = make()
    if backend.ladder.planner is None:
        raise RuntimeError(backend.ladder.why)
    with backend.activate():
        yield from survey(backend.ladder.planner, *((64, 16) if quick else (16384, 256)))


def parity_of(precision: str, make: Make, quick: bool, seconds: float) -> Rows:
    """Errors against float64 of every product, kernel and whole step."""
    backend = make(precision="float32" if precision == "float64" else precision)
    with backend.activate():
        yield from parity(backend, precision, *((24, 16) if quick else (4096, 128)))


def graphs(make: Make, quick: bool, seconds: float) -> Rows:
    """Whether replayed steps are the steps, bit by bit, in each precision."""
    if quick:
        small = {"side": 8, "width": 8, "frequencies": 4, "depth": 3}
        yield graph_equals_eager(make, Case(**small), "bf16", 19)
        yield graph_equals_eager(make, Case(**small), "float32", 19, "two streams")
        yield graph_equals_eager(make, Case(batch=20, members=3, **small), "float32", 19)
        return
    for precision in ("float32", "tf32", "bf16", "fp16"):
        for batch, members in ((None, 1), (None, 3), (1024, 1), (1024, 3)):
            for rung in ("graph", "two streams") if precision in ("float32", "bf16") else ("graph",):
                yield graph_equals_eager(make, Case(batch=batch, members=members), precision, 400, rung)


def seconds_to_psnr(make: Make, quick: bool, seconds: float) -> Rows:
    """Seconds of training until the bundled picture reaches 30, 35 and 40 dB."""
    if importlib.util.find_spec("PIL") is None:
        yield {"skipped": "Pillow, which reads the picture, is not installed"}
        return
    from coordfit.config import make_config
    from coordfit.images import bundled_picture
    from coordfit.training import Trainer

    options = {"depth": 5, "num_frequencies": 256, "hidden_size": 256, "sigma": 10.0}
    options |= {"steps": 3000, "evaluate_every": 50, "target_psnr": 40.0}
    if quick:
        options |= {"hidden_size": 8, "num_frequencies": 4, "batch_size": 20, "steps": 20, "evaluate_every": 10}
    for precision in ("float32",) if quick else ("bf16", "tf32", "float32"):
        for batch in (20,) if quick else (1024, None):
            picture, config = (
                bundled_picture(32 if quick else 128),
                make_config(options | {"batch_size": batch}),
            )
            result = Trainer(picture, config, make(precision=precision)).run()
            reached = {
                f"{level} dB": next((r["seconds"] for r in result.history if r["psnr_train"] >= level), None)
                for level in (30, 35, 40)
            }
            last = result.history[-1]
            row = {"precision": precision, "batch": batch or "full", "steps": last["step"]}
            yield row | {"psnr": last["psnr_train"]} | reached


def tests(make: Make, quick: bool, seconds: float) -> Rows:
    """The project's own tests on this GPU, in a process of their own."""
    if quick or importlib.util.find_spec("pytest") is None:
        yield {"skipped": "--quick" if quick else "pytest is not installed"}
        return
    chosen = "cupy and not cupy-on-host and not test_cupy"  # on the device, and not on the pretended one
    words = ["-m", "pytest", "-q", "-k", chosen, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"COORDFIT_REQUIRE_BACKENDS": "cupy"},
        capture_output=True,
        text=True,
        timeout=seconds - 5,
        check=False,
    )
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield {"holds": done.returncode == 0, "summary": lines[-1:], "failed": failed[:100]}


def _timings(counts: tuple[int, ...], make: Make, quick: bool, seconds: float) -> Rows:
    yield from timings(make, quick, seconds - 15, counts)


def _peers(library: str, make: Make, quick: bool, seconds: float) -> Rows:
    yield from peers(quick, library, seconds - 15)


PARTS: dict[str, Part] = {
    "machine": Part(machine, 30),
    "epilogues": Part(epilogues, 40),
    "parity in float32": Part(functools.partial(parity_of, "float32"), 45),
    "parity in bf16": Part(functools.partial(parity_of, "bf16"), 45),
    "parity in tf32": Part(functools.partial(parity_of, "tf32"), 45),
    "graphs": Part(graphs, 60),
    "seconds to PSNR": Part(seconds_to_psnr, 60),
    "timings of one network": Part(functools.partial(_timings, (1,)), 110),
    "PyTorch": Part(functools.partial(_peers, "torch"), 120),
    "timings of networks together": Part(functools.partial(_timings, (16, 4, 64)), 70),
    "JAX": Part(functools.partial(_peers, "jax"), 60),
    "tests": Part(tests, 150),
    "parity in fp16": Part(functools.partial(parity_of, "fp16"), 40),
    "parity in float64": Part(functools.partial(parity_of, "float64"), 40),
    "sanitizer": Part(lambda make, quick, seconds: sanitized(quick, seconds - 5), 90),
}
"""By name, in the order in which they are measured: the seconds of the whole command end the list early."""
