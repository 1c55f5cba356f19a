"""Some steps under NVIDIA's compute-sanitizer: accesses outside of memory, and races between threads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from .steps import Case, Rows, make_step, on_rung

ROOT = Path(__file__).parents[2]
TOOLS = ("memcheck", "racecheck")
FOUND = 9  # the exit code that the tool is told to end with


def sanitized(quick: bool, seconds: float) -> Rows:
    """A row for each tool: what it found in a few small steps on every rung, in a process of their own."""
    program = shutil.which("compute-sanitizer")
    if quick or program is None:
        yield {
            "skipped": "--quick"
            if quick
            else "compute-sanitizer is not on the path (it comes with the toolkit)"
        }
        return
    for tool in TOOLS:
        command = [program, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable, "-m", __spec__.name]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds / len(TOOLS), check=False
        )
        yield {"tool": tool, "holds": done.returncode == 0, "said": done.stdout.splitlines()[-1:]}


def a_few_steps(make: Any) -> None:
    """Steps of one network and of three, in each precision, replayed and one by one."""
    for precision in ("float32", "bf16"):
        for rung in ("graph", "plain"):
            for members in (1, 3):
                backend = on_rung(make, rung, precision=precision)
                case = Case(side=12, batch=50, width=33, members=members, frequencies=9, depth=3)
                with backend.activate():
                    make_step(backend, case).advance(0, 20)


if __name__ == "__main__":
    from backends.cupy_backend import CupyBackend

    a_few_steps(CupyBackend)
