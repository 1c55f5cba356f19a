"""Plant known faults one by one, and count those that the tests notice.

    python tests/mutation/run.py --jobs 2

`policy.toml` and `arithmetic.toml` have the faults, each with the tests that must notice it. Every fault gets a
copy of the tree in a temporary folder; the tree itself is never changed. Ends with 1 if fewer are noticed than
`ASKED` says, and with 2 if tests fail without a fault or a fault is no piece of the source any more.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASKED = {"policy": 0.95, "arithmetic": 0.98}
"""The share of each group that must be noticed."""

# Numba checks the file of a compiled function alone, and not those of functions that it calls.
_COMPILED = re.compile("numba|rans_loops")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """A fault: a piece `old` of a file, which becomes `new`."""

    group: str
    title: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.title}"

    def problem(self, root: Path = ROOT) -> str:
        """Why the fault cannot be planted; empty if it can."""
        file = root / self.file
        if missing := [name for name in (self.file, *self.tests) if not (root / name).is_file()]:
            return f"there is no {missing[0]}"
        count = file.read_text(encoding="utf-8").count(self.old)
        return "" if count == 1 and self.old != self.new else f"its piece of source occurs {count} times"

    def plant(self, root: Path) -> None:
        """Change the file in a copy of the tree."""
        file = root / self.file
        file.write_text(file.read_text(encoding="utf-8").replace(self.old, self.new), encoding="utf-8")
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            compiled.unlink()


def read_mutants() -> list[Mutant]:
    """All faults, in the order of their files."""
    found = []
    for group in ASKED:
        text = Path(__file__).with_name(f"{group}.toml").read_text(encoding="utf-8")
        for part in tomllib.loads(text)["part"]:
            tests = tuple(part["tests"])
            found += [Mutant(group, title, part["file"], *change, tests) for title, *change in part["mutants"]]
    return found


class Runs:
    """Runs of pytest in copies of the tree."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.tree, self._folder, self._seconds = folder / "tree", folder, seconds

    def check(self, files: Iterable[str], jobs: int) -> str:
        """Run tests without a fault, which compiles what all copies share; what fails, or nothing."""
        shutil.copytree(ROOT, self.tree, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        side_by_side = ["-n", str(jobs), "--dist", "worksteal"] if jobs > 1 else []
        code, text = self._pytest(self.tree, [*side_by_side, *sorted(set(files))], seconds=None)
        return "" if code == 0 else text

    def outcome(self, mutant: Mutant) -> tuple[bool, str]:
        """Whether a fault was noticed, and by which test; one whose tests take too long was not."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            tree = Path(folder) / "tree"
            is_compiled = _COMPILED.search(mutant.file) is not None
            leave_out = shutil.ignore_patterns("*.nbi", "*.nbc") if is_compiled else None
            shutil.copytree(self.tree, tree, ignore=leave_out)
            mutant.plant(tree)
            code, text = self._pytest(tree, mutant.tests, self._seconds)
        if code in (3, 4, 5):
            raise RuntimeError(f"pytest ended with {code} for {mutant}:\n{text}")
        if code in (0, None):
            return False, "its tests pass" if code == 0 else f"its tests take over {self._seconds:g} s"
        found = _FAILED.search(text)
        return True, found[1] if found else f"pytest ended with {code}"

    def _pytest(self, tree: Path, options: Sequence[str], seconds: float | None) -> tuple[int | None, str]:
        """Run pytest in a copy of the tree; return its code, None if it took too long, and what it said."""
        told = ["-x", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-m", "", *told, *options]
        # Hypothesis draws the same examples each time where CI is set.
        own = {"PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(tree / ".cache"), "CI": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(
            command, cwd=tree, env=os.environ | own, text=True, start_new_session=True, **pipes
        )
        try:
            text, _ = process.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                return None, text
            raise
        return process.returncode, text


def main() -> int:
    """Run what the command line asks for, and return the exit code."""
    options = _options()
    mutants = [m for m in read_mutants() if re.search(options.only, f"{m.group} {m}")]
    if broken := [f"{m}: {problem}" for m in mutants if (problem := m.problem())]:
        print(*broken, sep="\n")
        return 2
    noticed: dict[Mutant, bool] = {}
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        runs = Runs(Path(folder), options.seconds)
        if failed := runs.check((name for m in mutants for name in m.tests), options.jobs):
            print(failed, "the tests fail without a fault", sep="\n")
            return 2
        pool = ThreadPoolExecutor(options.jobs)
        try:
            for mutant, (is_noticed, why) in zip(mutants, pool.map(runs.outcome, mutants), strict=True):
                noticed[mutant] = is_noticed
                print(f"{'noticed' if is_noticed else 'SURVIVES':<9} {mutant} [{why}]", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
    return _report(noticed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="faults at a time")
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="of those whose group, file or title has it"
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="after which a fault's tests are ended")
    return parser.parse_args()


def _report(noticed: dict[Mutant, bool]) -> int:
    """Print a line for each group; return 1 if one has less than is asked."""
    code = 0
    print(f"\n{'group':<12}{'faults':>8}{'noticed':>9}{'share':>9}{'asked':>9}")
    for group, asked in ASKED.items():
        own = [is_noticed for mutant, is_noticed in noticed.items() if mutant.group == group]
        if own:
            share = sum(own) / len(own)
            print(f"{group:<12}{len(own):>8}{sum(own):>9}{share:>9.1%}{asked:>9.0%}")
            code = max(code, int(share < asked))
    return code


if __name__ == "__main__":
    began = time.perf_counter()
    ended = main()
    print(f"\n{time.perf_counter() - began:.0f} s")
    sys.exit(ended)
