"""Prove and measure the GPU path: `python -m bench.gpu [--out DIR] [--seconds S] [--parts A,B] [--merge FILE]`.

Every part is a process of its own, so a fault of the device ends that part alone. Every row is in the report
within a moment: a run that is killed leaves what it had. A second run takes an earlier report with
`--merge` and measures what that one lacks. Exit codes: 0 when all that was checked holds, 1 when something does
not, 2 for wrong usage, 3 if there is no GPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..command_line import Parser
from .part import NO_GPU, pretended
from .parts import PARTS
from .report import ROOT, Report
from .summary import summary

SECONDS = 545  # of the whole command: with its start and its end it stays under ten minutes
FEWEST_SECONDS = 5  # seconds in which a part can do anything
_BEGAN = time.monotonic()
_TO_START = 8  # seconds of a part that importing and a first look at the device may take
_LOOK_EVERY = 0.2  # seconds: how much of a killed run may be lost
Row = dict[str, Any]


class NoGpuError(Exception):
    """Raised if there is nothing to measure; the message says why."""


def measure(report: Report, names: list[str], out: Path, seconds: float, words: list[str]) -> None:
    """Measure parts one after the other, within this many seconds since the process began."""
    for name in names:
        start = time.monotonic()
        limit = min(PARTS[name].seconds, seconds - (start - _BEGAN))
        if limit < FEWEST_SECONDS:
            if not report.rows(name):  # what an earlier run has is better than nothing
                report.keep(
                    name, [{"fault": f"left out: the {seconds:.0f} s of the whole command are spent"}], 0
                )
        else:
            for rows in child(name, out / "gpu.log", limit, words):
                report.keep(name, rows, time.monotonic() - start, is_done=False)
                report.write(out)
            report.keep(name, report.rows(name), time.monotonic() - start)
        report.write(out)
        print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


def child(name: str, log: Path, seconds: float, words: list[str]) -> Iterator[list[Row]]:
    """Yield the rows of a part, measured by a process of its own; if that fails, the last row says how."""
    with tempfile.TemporaryDirectory() as folder, log.open("ab") as stream:
        file, fault = Path(folder) / "rows.json", ""
        stream.write(f"\n== {name}\n".encode())
        stream.flush()
        told = max(seconds / 2, seconds - _TO_START)
        command = [*child_command(), name, str(file), "--seconds", str(told), *words]
        seen = -1
        with session(command, stream) as process:
            end = time.monotonic() + seconds
            while process.poll() is None and not fault:
                if time.monotonic() > end:
                    fault = f"not done after {seconds:.0f} s"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_EVERY)
                if file.exists() and (found := file.stat().st_mtime_ns) != seen:
                    seen = found
                    yield rows_in(file)
        if process.returncode == NO_GPU:
            raise NoGpuError(tail(log, 1))
        if process.returncode and not fault:
            fault = f"the process ended with {process.returncode}: {tail(log, 2)}"
        yield [*rows_in(file), *([{"holds": False, "fault": fault}] if fault else [])]


@contextlib.contextmanager
def session(command: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process, and end it with all that it has started however this block is left."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,  # held open: a child ends when its parent is killed
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None or hasattr(os, "killpg"):
            with contextlib.suppress(OSError):  # gone already
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
        process.wait()
        if process.stdin:
            process.stdin.close()


def child_command() -> list[str]:
    """Return the command that measures a part."""
    return [sys.executable, "-m", "bench.gpu.part"]


def rows_in(file: Path) -> list[Row]:
    """Return the rows that a child has written so far."""
    found: list[Row] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return found


def tail(log: Path, lines: int) -> str:
    """Return the last lines of a log, as one."""
    return " / ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def chosen_parts(text: str | None, report: Report, merging: bool) -> list[str]:
    """Return the parts to measure, in their order; ValueError for an unknown one."""
    if text is None:
        return ["machine", *report.lacks([n for n in PARTS if n != "machine"])] if merging else list(PARTS)
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := [word for word in wanted if word not in PARTS]:
        raise ValueError(f"there is no part {unknown[0]!r}; known: {', '.join(PARTS)}")
    return [name for name in PARTS if name in wanted or name == "machine"]


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the report and its log, and print a summary last."""
    parser = Parser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on a pretended GPU; needs g++")
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "bench" / "results",
        help="folder for gpu-<device>.json, .md and gpu.log",
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="of the whole command (default: %(default)s)"
    )
    parser.add_argument("--parts", metavar="A,B", help=f"measure these: {', '.join(PARTS)}")
    parser.add_argument(
        "--merge", type=Path, metavar="FILE", help="an earlier gpu-<device>.json, to be completed"
    )
    options = parser.parse_args(arguments)
    quick = options.quick or options.dry_run
    try:
        earlier = None if options.merge is None else json.loads(options.merge.read_text(encoding="utf-8"))
        report = Report(quick, earlier)
        names = chosen_parts(options.parts, report, options.merge is not None)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.log").write_bytes(b"")
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"bench.gpu: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if options.dry_run:
        if reason := pretended().why_unavailable():
            print(f"bench.gpu: --dry-run runs the kernels on the CPU: {reason}", file=sys.stderr)
            return 2
        pretended().shim()  # compiled once, before any part is timed
    words = [*(["--quick"] if quick else []), *(["--dry-run"] if options.dry_run else [])]
    report.begin(shlex.join(["python", "-m", "bench.gpu", *(sys.argv[1:] if arguments is None else arguments)]))
    try:
        measure(report, names, options.out, options.seconds, words)
    except NoGpuError as error:
        print(error, file=sys.stderr)
        return NO_GPU
    print("\n".join(summary(report)))
    return 0 if report.holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
