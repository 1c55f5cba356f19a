"""Show where the time of a step goes: every kernel of a replayed step by name, as CUPTI sees it.

PyTorch's profiler sees all kernels of a process, whatever library launches them, and those of a CUDA graph.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from coordfit.config import make_config
from coordfit.images import bundled_picture
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

from .steps import Case, Row, Rows, fault_of, make_step
from .timing import Stepping

_ON_THE_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_LETTERS = 90  # letters of a name: templates of products are long


def kernels(make: Any, quick: bool, seconds: float) -> Rows:
    """Yield a table for each case: kernels by name, microseconds and share of a step, and gaps between them."""
    if quick:
        yield {"skipped": "--quick"}
        return
    for title, precision, case in (
        ("width 256, full batch, bf16", "bf16", Case()),
        ("width 256, full batch, tf32", "tf32", Case()),
        ("width 64, 1024 rows, bf16", "bf16", Case(width=64, batch=1024)),
        ("recipe fast, float32", "float32", "fast"),
        ("recipe fast, bf16", "bf16", "fast"),
        ("recipe sharp, bf16", "bf16", "sharp"),
    ):
        try:
            backend = make(precision=precision)
            with backend.activate():
                step = made(backend, case)
                yield from ({"table": title} | row for row in of_a_step(Stepping(step), backend))
        except ImportError as error:
            yield {"skipped": f"PyTorch, whose profiler counts kernels, is not installed: {error}"}
            return
        except Exception as error:
            yield {"table": title} | fault_of(error)


def made(backend: Any, case: Case | str) -> Any:
    """Return the steps of a case, or of a recipe on the bundled picture."""
    if isinstance(case, Case):
        return make_step(backend, case)
    return Trainer([Job(bundled_picture(), make_config({}, recipe=case))], backend).training_step


def of_a_step(run: Callable[[int], None], backend: Any, steps: int = 160) -> Rows:
    """Yield the kernels of some steps that run one after the other."""
    import torch

    torch.cuda.init()
    run(64)
    backend.synchronize()
    for _ in range(2):  # the profiler's first stretch begins late
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run(steps)
            backend.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    yield from by_name(events, steps)


def by_name(events: Iterable[Row], steps: int) -> Rows:
    """Yield rows of a Chrome trace's kernels: launches, microseconds and share of a step; sum and rest."""
    found = [e for e in events if e.get("ph") == "X" and e.get("cat") in _ON_THE_DEVICE]
    if not found:
        raise RuntimeError("the profiler saw no kernel")
    times: dict[str, list[float]] = defaultdict(list)
    for event in found:
        times[short(event["name"])].append(float(event["dur"]))
    begin = min(float(e["ts"]) for e in found)
    whole = max(float(e["ts"]) + float(e["dur"]) for e in found) - begin
    busy = sum(map(sum, times.values()))
    for name, durations in sorted(times.items(), key=lambda item: -sum(item[1])):
        yield _row(name, len(durations), sum(durations), whole, steps)
    yield _row("all kernels", len(found), busy, whole, steps)
    yield _row("between kernels", len(found), whole - busy, whole, steps)


def _row(name: str, count: int, microseconds: float, whole: float, steps: int) -> Row:
    return {
        "kernel": name,
        "launches": count / steps,
        "microseconds": microseconds / steps,
        "each": microseconds / count,
        "share": microseconds / whole,
    }


def short(name: str) -> str:
    """Return a kernel's name without its arguments."""
    name = re.sub(r"^void ", "", name)
    name = re.sub(r"\((?!anonymous)[^()]*\)( \[.*\])?$", "", name)
    return name if len(name) <= _LETTERS else name[: _LETTERS - 3] + "..."
