"""Say what is proven and measured on a GPU, part by part, the most wanted first."""

from __future__ import annotations

import functools
import importlib.util
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import ceilings, suite
from .kernels import kernels
from .parity import graph_equals_eager, parity
from .peers import peers
from .steps import Case, Row, Rows, fault_of, make_step, on_rung
from .timing import RECIPES, main_cases, other_cases, recipes, timings

Make = Callable[..., Any]


@dataclass(frozen=True)
class Part:
    """A part: (make, quick, seconds) -> rows, and the seconds that it may take.

    Its process gets a little less, so that it ends by itself; a part over its limit is killed.
    """

    measure: Callable[[Make, bool, float], Iterable[Row]]
    seconds: float


def machine(make: Make, quick: bool, seconds: float) -> Rows:
    """Yield device, driver and versions."""
    backend = make()
    planner = backend.gpu.autotuner.planner
    library = None if planner is None else planner.library
    yield backend.describe() | {
        "cublaslt": backend.gpu.autotuner.why if library is None else ".".join(map(str, library.version)),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.platform(),
        "limits": "; ".join(backend.limits()),
    }


def smoke(make: Make, quick: bool, seconds: float) -> Rows:
    """Check that steps run at all, one by one and replayed, in every precision, and fits of the recipes."""
    small: Row = {"side": 32, "width": 64, "frequencies": 32, "depth": 4}
    few: Row = {"hidden_size": 8, "num_frequencies": 4, "batch_size": 20, "size": 32}
    steps = 64
    if quick:
        small, steps = {"side": 8, "width": 8, "frequencies": 4, "depth": 3}, 16
    for precision in ("float32", "bf16", "tf32", "fp16"):
        for way in ("eager", "graph"):
            for batch, members in ((None, 1), (20 if quick else 256, 3)):
                case = Case(batch=batch, members=members, **small)
                row: Row = {"what": str(case), "precision": precision, "way": way}
                yield row | _outcome(functools.partial(_some_steps, make, case, precision, way, steps))
    for recipe in RECIPES:
        row = {"what": f"recipe {recipe}, {steps} steps", "precision": "float32", "way": "fit"}
        options = (few if quick else {}) | {"steps": steps}
        yield row | _outcome(functools.partial(_fit, make, recipe, "float32", **options))


def _outcome(work: Callable[[], Row]) -> Row:
    start = time.perf_counter()
    try:
        row = work()
    except Exception as error:
        row = {"holds": False} | fault_of(error)
    return row | {"seconds": time.perf_counter() - start}


def _some_steps(make: Make, case: Case, precision: str, way: str, steps: int) -> Row:
    backend = on_rung(make, way, precision=precision)
    with backend.activate():
        step = make_step(backend, case)
        step.advance(0, steps)
        losses = step.new_losses(wait=True)
    reason = backend.gpu.not_recorded if way == "graph" else ""
    falls = bool(np.isfinite(losses).all() and (losses[-4:].mean(0) < losses[:4].mean(0)).all())
    return {"holds": falls and not reason, "loss": float(losses[-1].mean()), "not_recorded": reason}


def _fit(make: Make, recipe: str, precision: str, **options: Any) -> Row:
    from coordfit.config import make_config
    from coordfit.images import bundled_picture
    from coordfit.training.job import Job
    from coordfit.training.trainer import fit_alone

    backend = make(precision=precision)
    start = time.perf_counter()
    config = make_config(options, recipe=recipe)
    result = fit_alone(Job(bundled_picture(options.get("size", 128)), config), backend)
    last = result.history[-1]
    levels = {
        f"{level} dB": next((r["seconds"] for r in result.history if r["psnr_train"] >= level), None)
        for level in (30, 35, 40, 45)
    }
    return {
        "holds": not backend.gpu.not_recorded,
        "psnr": last["psnr_train"],
        "steps": last["step"],
        "training seconds": last["seconds"],
        "seconds of the call": time.perf_counter() - start,
        "not_recorded": backend.gpu.not_recorded,
    } | levels


def seconds_to_psnr(make: Make, quick: bool, seconds: float) -> Rows:
    """Measure seconds of training until the bundled picture reaches some PSNR, by the shipped recipes.

    Each runs twice: the first compiles kernels and times products. Then until 40 dB, like `--target-psnr 40`.
    """
    if importlib.util.find_spec("PIL") is None:
        yield {"skipped": "Pillow, which reads the picture, is not installed"}
        return
    small: Row = {"size": 32, "hidden_size": 8, "num_frequencies": 4, "batch_size": 20, "steps": 20}
    for precision in ("float32",) if quick else ("bf16", "tf32", "float32"):
        for recipe in RECIPES:
            for options in ({}, {}, {"target_psnr": 40.0}):
                row: Row = {
                    "recipe": recipe,
                    "precision": precision,
                    "until": options.get("target_psnr", "the end"),
                }
                work = functools.partial(_fit, make, recipe, precision, **(options | (small if quick else {})))
                yield row | _outcome(work)


def products(make: Make, quick: bool, seconds: float) -> Rows:
    """Time each product of a step on each tier by each candidate, in a graph; dW in slices of rows."""
    small: Row = {"side": 8, "width": 8, "frequencies": 4, "depth": 3}
    end = time.monotonic() + seconds
    for width in (8,) if quick else (256, 64, 128):
        for batch in (20,) if quick else (None, 1024):
            for precision in ("float32", "bf16") if quick else ("bf16", "tf32", "float32"):
                case = Case(batch=batch, **small) if quick else Case(width=width, batch=batch)
                row: Row = {"width": width, "precision": precision}
                if time.monotonic() > end:
                    yield row | {"rows": case.rows, "fault": "left out: the time of the part is spent"}
                    continue
                try:
                    backend = make(precision=precision)
                    with backend.activate():
                        backend.gpu.autotuner = ceilings.timed_autotuner(backend)
                        make_step(backend, case)(None, 1e-3)
                        yield from ceilings.products_of(backend.gpu.autotuner.report(), row)
                except Exception as error:
                    yield row | {"rows": case.rows} | fault_of(error)
    for precision in ("bf16", "tf32"):
        for slices in (2,) if quick else (4, 8, 16, 32):
            about: Row = {"table": "dW in slices", "precision": precision}
            try:
                backend = make(precision=precision)
                with backend.activate():
                    yield about | ceilings.sliced_weights(
                        backend, *((32, 16) if quick else (16384, 256)), slices
                    )
            except Exception as error:
                yield about | fault_of(error)


def epilogues(make: Make, quick: bool, seconds: float) -> Rows:
    """List the epilogues that cublasLt has here, for each precision, for one network and for three."""
    from coordfit.backends.cupy_backend.cublaslt.survey import refused_products

    backend = make()
    if backend.gpu.autotuner.planner is None:
        raise RuntimeError(backend.gpu.autotuner.why)
    with backend.activate():
        yield from refused_products(backend.gpu.autotuner.planner, *((64, 16) if quick else (16384, 256)))


def parity_of(precision: str, make: Make, quick: bool, seconds: float) -> Rows:
    """Yield errors against float64 of every product, kernel and whole step, with epilogues and without."""
    yield from parity(make, precision, *((24, 16) if quick else (4096, 128)))


def graphs(make: Make, quick: bool, seconds: float) -> Rows:
    """Check that replayed steps are the steps, bit by bit, in each precision."""
    if quick:
        small = {"side": 8, "width": 8, "frequencies": 4, "depth": 3}
        yield graph_equals_eager(make, Case(**small), "bf16", 19)
        yield graph_equals_eager(make, Case(**small), "float32", 19, "two streams")
        yield graph_equals_eager(make, Case(batch=20, members=3, **small), "float32", 19)
        return
    for precision in ("float32", "tf32", "bf16", "fp16"):
        for batch, members in ((None, 1), (1024, 3), (None, 3), (1024, 1)):
            for tier in ("graph", "two streams") if precision in ("float32", "bf16") else ("graph",):
                yield graph_equals_eager(make, Case(batch=batch, members=members), precision, 400, tier)


def _timings(cases: Callable[[bool], Any], make: Make, quick: bool, seconds: float) -> Rows:
    yield from timings(list(cases(quick)), make, quick, seconds)


def _of_peers(library: str, ways: tuple[str, ...], widths: tuple[int, ...]) -> Any:
    return functools.partial(peers, library, ways, widths)


MAIN: dict[str, Part] = {
    "machine": Part(machine, 20),
    "smoke": Part(smoke, 40),
    "ceilings": Part(ceilings.ceilings, 15),
    "timings": Part(functools.partial(_timings, main_cases), 40),
    "products": Part(products, 35),
    "kernels": Part(kernels, 35),
    "recipes": Part(recipes, 20),
    "PyTorch": Part(_of_peers("torch", ("graph",), (256, 64, 128)), 45),
    "seconds to PSNR": Part(seconds_to_psnr, 30),
    "parity in float32": Part(functools.partial(parity_of, "float32"), 20),
    "parity in bf16": Part(functools.partial(parity_of, "bf16"), 20),
    "parity in tf32": Part(functools.partial(parity_of, "tf32"), 20),
    "graphs": Part(graphs, 60),
    "JAX": Part(_of_peers("jax", ("scan",), (256,)), 70),
    "smoke tests": Part(functools.partial(suite.tests, "gpu_smoke"), 60),
}
"""What the first command measures; the limits leave room above what an H200 took, and sum to its time."""

REST: dict[str, Part] = {
    "memcheck": Part(functools.partial(suite.sanitized, "memcheck"), 60),
    "tests": Part(functools.partial(suite.tests, "gpu"), 120),
    "PyTorch, eager": Part(_of_peers("torch", ("eager",), (256, 64, 128)), 40),
    "racecheck": Part(functools.partial(suite.sanitized, "racecheck"), 60),
    "parity in fp16": Part(functools.partial(parity_of, "fp16"), 25),
    "parity in float64": Part(functools.partial(parity_of, "float64"), 25),
    "other tiers": Part(functools.partial(_timings, other_cases), 45),
    "epilogues": Part(epilogues, 15),
    "PyTorch, compiled": Part(_of_peers("torch", ("compiled, graph", "compiled"), (256,)), 180),
}
"""What follows where there is time, and what a second command measures; compiling takes a minute a case."""

PARTS = MAIN | REST
"""By name, in the order in which they are measured."""
