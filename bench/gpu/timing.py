"""How long a step takes, by the device's own clock: medians of several stretches of steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from backends.cupy_backend import STEPS_AT_ONCE

from .steps import RUNGS, Case, Rows, fault_of, make_step, on_rung

STRETCHES = 5
PRECISIONS = ("bf16", "tf32", "float32")


def median_milliseconds(backend: Any, run: Callable[[int], None], steps: int, stretches: int) -> float:
    """Median over stretches of the milliseconds of a step, between two events on the backend's stream."""
    cuda, times = backend.xp.cuda, []
    for _ in range(stretches):
        start, end = cuda.Event(), cuda.Event()
        start.record(cuda.get_current_stream())
        run(steps)
        end.record(cuda.get_current_stream())
        end.synchronize()
        times.append(float(cuda.get_elapsed_time(start, end)) / steps)
    return statistics.median(times)


def time_step(
    make: Any, case: Case, rung: str, precision: str, seconds: float, stretches: int = STRETCHES
) -> dict[str, Any]:
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
        replays = min(max(1, seconds / each / stretches // STEPS_AT_ONCE), 128)
        steps = int(replays) * STEPS_AT_ONCE
        milliseconds = median_milliseconds(backend, run, steps, stretches)
        row |= {"milliseconds": milliseconds, "steps": steps, "tflops": case.flops / milliseconds * 1e-9}
        row |= {"memory_bytes": backend.memory_in_use() - before, "not_recorded": backend.not_recorded}
    return row


def cases(quick: bool, counts: Sequence[int]) -> Iterator[tuple[Case, str, str]]:
    """What is timed for so many networks, the most telling first: a budget may end the list early."""
    if quick:
        small = {"side": 8, "batch": 20, "width": 8, "frequencies": 4, "depth": 3}
        rungs = [(1, rung, "float32") for rung in RUNGS] + [(4, "graph", "bf16")]
        yield from ((Case(members=k, **small), rung, word) for k, rung, word in rungs if k in counts)
        return
    for members in counts:
        for rung in RUNGS if members == 1 else ("graph", "library") if members <= 4 else RUNGS[:2]:
            for width in (256, 128, 64):
                for batch in (None, 1024):
                    for precision in ("float32",) if rung == "generic" else PRECISIONS:
                        yield Case(width=width, batch=batch, members=members), rung, precision


def timings(make: Any, quick: bool, budget: float, counts: Sequence[int]) -> Rows:
    """A row for each case; a fault or the end of the budget is a row too."""
    end = time.monotonic() + budget
    for case, rung, precision in cases(quick, counts):
        about = {"width": case.width, "rows": case.rows, "members": case.members}
        about |= {"rung": rung, "precision": precision}
        if time.monotonic() > end:
            yield about | {"fault": f"left out: the budget of {budget:.0f} s is spent"}
            continue
        try:
            yield time_step(make, case, rung, precision, *((0.0, 1) if quick else (0.4, STRETCHES)))
        except Exception as error:
            yield about | fault_of(error)
