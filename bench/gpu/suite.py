"""Run the project's tests on the GPU, and NVIDIA's sanitizer, in processes with a limit of time."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .steps import Case, Row, Rows, make_step, on_rung

ROOT = Path(__file__).parents[2]
FOUND = 9  # the exit code that the sanitizer is told to end with
_LINES = 30  # lines of the sanitizer's output, and of failures


def tests(marker: str, make: Any, quick: bool, seconds: float) -> Rows:
    """Yield one row: how many tests of a marker passed, failed and were skipped within the time."""
    if quick or importlib.util.find_spec("pytest") is None:
        yield {"skipped": "--quick" if quick else "pytest is not installed"}
        return
    words = [
        "-m",
        "pytest",
        "-v",
        "--tb=short",
        "-m",
        marker,
        "-p",
        "no:cacheprovider",
        "-W",
        "default",
        "tests",
    ]
    if importlib.util.find_spec("xdist"):
        words += ["-n", str(min(8, os.cpu_count() or 1))]
    if importlib.util.find_spec("pytest_timeout"):
        words += ["--timeout=60"]
    code, text = run_within([sys.executable, *words], seconds, {"COORDFIT_REQUIRE_BACKENDS": "cupy"})
    print(text, flush=True)
    yield outcome(code, text) | {"marker": marker}


# A line of a test that has ended, as pytest prints it in one process, and in several.
_ENDED = re.compile(
    r"^(?:(?P<test>tests/.*::.*) (?P<word>PASSED|FAILED|ERROR|SKIPPED)\b.*\[ *\d+%\]"
    r"|\[gw\d+\] \[ *\d+%\] (?P<word2>PASSED|FAILED|ERROR|SKIPPED) (?P<test2>tests/.*))$"
)


def outcome(code: int | None, text: str) -> Row:
    """Return counts of pytest's verbose output, which may be cut off; no test that passed is no success."""
    found = [match for line in text.splitlines() if (match := _ENDED.match(line.rstrip()))]
    words = [match["word"] or match["word2"] for match in found]
    counts = {word.lower(): words.count(word) for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")}
    failures = [
        m["test"] or m["test2"] for m, word in zip(found, words, strict=True) if word in ("FAILED", "ERROR")
    ]
    row: Row = {"holds": code == 0 and counts["passed"] > 0} | counts | {"failures": failures[:_LINES]}
    return row | ({"fault": "not done in its time"} if code is None else {})


def run_within(command: list[str], seconds: float, more: dict[str, str]) -> tuple[int | None, str]:
    """Return the exit code (None if the time was over) and all output of a process and its children."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | more,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None = None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(OSError, AttributeError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
        stream.seek(0)
        return code, stream.read()


def sanitized(tool: str, make: Any, quick: bool, seconds: float) -> Rows:
    """Yield what compute-sanitizer finds in a few small steps on some tiers."""
    program = shutil.which("compute-sanitizer")
    if quick or program is None:
        reason = "--quick" if quick else "compute-sanitizer is not on the path (it comes with the toolkit)"
        yield {"skipped": reason}
        return
    # Calls that fail and are meant to (what the driver does not know, whose pointer this is) are no errors.
    words = ["--tool", tool, "--error-exitcode", str(FOUND)]
    words += ["--report-api-errors", "no"] if tool == "memcheck" else []
    code, text = run_within([program, *words, sys.executable, "-m", __spec__.name], seconds, {})
    print(text, flush=True)
    row: Row = {"tool": tool, "holds": code == 0, "exit code": code, "said": text.splitlines()[-_LINES:]}
    yield row | ({"fault": "not done in its time"} if code is None else {})


def a_few_steps(make: Any) -> None:
    """Take steps of one network and of three, in two precisions, replayed and with plain products."""
    for precision in ("float32", "bf16"):
        for tier in ("epilogues", "plain"):
            for members in (1, 3):
                backend = on_rung(make, tier, precision=precision)
                case = Case(side=12, batch=50, width=33, members=members, frequencies=9, depth=3)
                with backend.activate():
                    make_step(backend, case).advance(0, 20)


if __name__ == "__main__":
    from coordfit.backends.cupy_backend.backend import CupyBackend

    a_few_steps(CupyBackend)
