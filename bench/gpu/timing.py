"""Time steps by the device's own clock: medians of several stretches of steps."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coordfit.backends.cupy_backend.backend import STEPS_AT_ONCE

from coordfit.config import make_config
from coordfit.images import bundled_picture
from coordfit.training.job import Job
from coordfit.training.step import TrainingStep
from coordfit.training.trainer import Trainer

from .steps import TIERS, Case, Row, Rows, fault_of, make_step, on_rung

STRETCHES = 5
PRECISIONS = ("bf16", "tf32", "float32")
RECIPES = ("fast", "sharp")


def median_milliseconds(backend: Any, run: Callable[[int], None], steps: int, stretches: int) -> float:
    """Return the median over stretches of milliseconds per step, between events on the backend's stream."""
    cuda, times = backend.xp.cuda, []
    for _ in range(stretches):
        start, end = cuda.Event(), cuda.Event()
        start.record(cuda.get_current_stream())
        run(steps)
        end.record(cuda.get_current_stream())
        end.synchronize()
        times.append(float(cuda.get_elapsed_time(start, end)) / steps)
    return statistics.median(times)


class Stepping:
    """Takes steps one after the other, so that a timing covers consecutive steps."""

    def __init__(self, step: TrainingStep) -> None:
        self.step, self.taken = step, 0

    def __call__(self, count: int) -> None:
        """Take some more."""
        self.step.advance(self.taken, count)
        self.taken += count


def time_steps(backend: Any, make: Callable[[], TrainingStep], seconds: float, stretches: int) -> Row:
    """Return milliseconds, memory and plans of an active backend's steps, as many as fit into some seconds."""
    gc.collect()  # frees networks of earlier cases, which refer to themselves
    backend.xp.get_default_memory_pool().free_all_blocks()
    before, start = backend.memory_in_use(), time.perf_counter()
    run = Stepping(make())
    run(2 * STEPS_AT_ONCE)  # compiles, plans, records
    backend.synchronize()
    first = time.perf_counter() - start
    start = time.perf_counter()
    run(STEPS_AT_ONCE)
    backend.synchronize()
    each = max((time.perf_counter() - start) / STEPS_AT_ONCE, 1e-6)
    # Whole replays, so that no step is taken alone.
    steps = int(min(max(1, seconds / each / stretches // STEPS_AT_ONCE), 128)) * STEPS_AT_ONCE
    return {
        "milliseconds": median_milliseconds(backend, run, steps, stretches),
        "steps": steps,
        "seconds_to_first": first,
        "memory_bytes": backend.memory_in_use() - before,
        "not_recorded": backend.gpu.not_recorded,
        "plans": backend.gpu.autotuner.report(),
    }


def time_case(
    make: Any, case: Case, tier: str, precision: str, seconds: float, stretches: int = STRETCHES
) -> Row:
    """Return a row of a step of a case on a tier."""
    backend = on_rung(make, tier, precision=precision)
    with backend.activate():
        row = time_steps(backend, lambda: make_step(backend, case), seconds, stretches)
    return about(case, tier, precision) | row | {"tflops": case.flops / row["milliseconds"] * 1e-9}


def time_recipe(
    make: Any, recipe: str, precision: str, seconds: float, stretches: int = STRETCHES, **options: Any
) -> Row:
    """Return a row of a step of a recipe as it is shipped, on the bundled picture."""
    backend = make(precision=precision)
    config = make_config(options, recipe=recipe)
    picture = bundled_picture(options.get("size", 128))
    with backend.activate():
        row = time_steps(
            backend, lambda: Trainer([Job(picture, config)], backend).training_step, seconds, stretches
        )
    return {"recipe": recipe, "rows": config.batch_size, "precision": precision} | row


def about(case: Case, tier: str, precision: str) -> Row:
    """Return what a row of timings is about."""
    row = {"width": case.width, "rows": case.rows, "members": case.members}
    return row | {"tier": tier, "precision": precision}


SMALL = {"side": 8, "batch": 20, "width": 8, "frequencies": 4, "depth": 3}


def main_cases(quick: bool) -> Iterator[tuple[Case, str, str]]:
    """Yield what users have: one network and sixteen, replayed, the most telling first."""
    if quick:
        yield Case(**SMALL), "graph", "float32"
        yield Case(members=4, **SMALL), "graph", "bf16"
        return
    for width in (256, 128, 64):
        for batch in (None, 1024):
            for precision in PRECISIONS:
                yield Case(width=width, batch=batch), "graph", precision
    for width in (256, 64):
        yield Case(width=width, batch=1024, members=16), "graph", "bf16"


def other_cases(quick: bool) -> Iterator[tuple[Case, str, str]]:
    """Yield the other tiers, and more networks together."""
    if quick:
        yield from ((Case(**SMALL), tier, "float32") for tier in TIERS[1:])
        return
    for tier in TIERS[1:]:
        for width in (256, 64):
            for batch in (None, 1024):
                for precision in ("float32",) if tier == "generic" else ("bf16", "tf32"):
                    yield Case(width=width, batch=batch), tier, precision
    for members in (4, 64):
        for precision in PRECISIONS:
            yield Case(width=64, batch=1024, members=members), "graph", precision


def timings(cases: Sequence[tuple[Case, str, str]], make: Any, quick: bool, budget: float) -> Rows:
    """Yield a row for each case; a fault or the end of the budget is a row too."""
    works = [
        (about(*case), lambda c=case, **o: time_case(make, *c, **o))
        for case in cases
    ]  # fmt: skip
    yield from within(works, quick, budget)


def recipes(make: Any, quick: bool, budget: float) -> Rows:
    """Yield a row for each recipe and precision."""
    options = {"size": 32, "batch_size": 20, "hidden_size": 8, "num_frequencies": 4} if quick else {}
    works = [
        (
            {"recipe": name, "precision": precision},
            lambda n=name, p=precision, **o: time_recipe(make, n, p, **o, **options),
        )
        for name in RECIPES
        for precision in (("float32",) if quick else PRECISIONS)
    ]
    yield from within(works, quick, budget)


def within(works: Sequence[tuple[Row, Callable[..., Row]]], quick: bool, budget: float) -> Rows:
    """Yield the row of each piece of work, given its seconds and stretches; faults are rows."""
    end = time.monotonic() + budget
    how = {"seconds": 0.0, "stretches": 1} if quick else {"seconds": 0.4, "stretches": STRETCHES}
    for row, work in works:
        if time.monotonic() > end:
            yield row | {"fault": f"left out: the budget of {budget:.0f} s is spent"}
            continue
        try:
            yield work(**how)
        except Exception as error:
            yield row | fault_of(error)
