"""How long a step takes, by the device's own clock: medians of several stretches of steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from backends.cupy_backend import STEPS_AT_ONCE

from .steps import RUNGS, Case, make_step, on_rung

STRETCHES = 5


def median_milliseconds(backend: Any, run: Callable[[int], None], steps: int) -> float:
    """Median over stretches of the milliseconds of a step, between two events on the backend's stream."""
    cuda, times = backend.xp.cuda, []
    for _ in range(STRETCHES):
        start, end = cuda.Event(), cuda.Event()
        start.record(cuda.get_current_stream())
        run(steps)
        end.record(cuda.get_current_stream())
        end.synchronize()
        times.append(float(cuda.get_elapsed_time(start, end)) / steps)
    return statistics.median(times)


def time_step(make: Any, case: Case, rung: str, precision: str, seconds: float) -> dict[str, Any]:
    """Milliseconds of a step of a case on a rung, with as many steps as take about so many seconds."""
    backend = on_rung(make, rung, precision=precision)
    row: dict[str, Any] = {"width": case.width, "rows": case.rows, "members": case.members}
    row |= {"rung": rung, "precision": precision}
    with backend.activate():
        before, taken = backend.memory_in_use(), 0
        step = make_step(backend, case)

        def run(count: int) -> None:
            nonlocal taken
            step.advance(taken, count)
            taken += count

        run(2 * STEPS_AT_ONCE)  # compiles, plans, records
        backend.synchronize()
        start = time.perf_counter()
        run(STEPS_AT_ONCE)
        backend.synchronize()
        each = max((time.perf_counter() - start) / STEPS_AT_ONCE, 1e-6)
        # Whole replays, so that no step is taken alone.
        replays = min(max(1, seconds / each / STRETCHES // STEPS_AT_ONCE), 128)
        steps = int(replays) * STEPS_AT_ONCE
        milliseconds = median_milliseconds(backend, run, steps)
        row |= {"milliseconds": milliseconds, "steps": steps, "tflops": case.flops / milliseconds * 1e-9}
        row |= {"memory_bytes": backend.memory_in_use() - before, "not_recorded": backend.not_recorded}
    return row


def cases(quick: bool) -> Iterator[tuple[Case, str, str]]:
    """What is timed, the most telling first: a budget may end the list early."""
    if quick:
        small = Case(side=16, batch=64, width=16, frequencies=8, depth=3)
        yield from ((small, rung, "float32") for rung in RUNGS)
        return
    for members in (1, 4, 16, 64):
        for rung in RUNGS:
            for width in (256, 128, 64):
                for batch in (None, 1024):
                    for precision in ("float32", "tf32"):
                        if members == 1 or rung in ("graph", "library"):
                            yield Case(width=width, batch=batch, members=members), rung, precision


def timings(make: Any, quick: bool, budget: float) -> list[dict[str, Any]]:
    """A row for each case; a fault or the end of the budget is a row too."""
    end, table = time.monotonic() + budget, []
    for case, rung, precision in cases(quick):
        about = {"width": case.width, "rows": case.rows, "members": case.members}
        about |= {"rung": rung, "precision": precision}
        if time.monotonic() > end:
            table.append(about | {"fault": f"left out: the budget of {budget:.0f} s is spent"})
            continue
        try:
            table.append(time_step(make, case, rung, precision, 0.02 if quick else 0.5))
        except Exception as error:
            table.append(about | {"fault": f"{type(error).__name__}: {error}"})
    return table
