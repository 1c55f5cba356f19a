"""Time the peers in turns, compare, print."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np

from ..command_line import Parser, count, need, new_file, run_main
from ..records import Runs
from .cases import CASES, Case
from .environment import environment
from .tables import means, table
from .worker import PEERS

CHECK_STEPS = 5
TOLERANCE = 2e-3
OURS = ("coordfit", "coordfit-numpy", "coordfit-generic")


class Child:
    """A peer's process on so many processors."""

    def __init__(self, name: str, cores: int) -> None:
        self.name, self.cores = name, cores
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", name, str(cores)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(name.partition("-")[0], cores),
        )

    def ask(self, **command: Any) -> Any:
        """Send a command and wait for its answer; None if the peer's process has ended."""
        if self.process.stdin is None or self.process.stdout is None:
            return None
        try:
            print(json.dumps(command), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def measure(case: Case, names: list[str], cores: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Return what was measured of a case on so many processors, the peers taking turns, if they agree."""
    children = [Child(name, cores) for name in names]
    try:
        steps = 1 if case.render else CHECK_STEPS
        prepared = {c.name: c.ask(do="prepare", case=case.name, steps=steps) for c in children}
        alive = [child for child in children if prepared[child.name] is not None]
        check_agreement(case, {child.name: prepared[child.name]["losses"][:steps] for child in alive})
        times: dict[str, list[tuple[float, float]]] = {child.name: [] for child in alive}
        rates = []
        for _ in range(rounds):
            if alive[0].name in OURS:
                rates.append(alive[0].ask(do="rates", bytes=case.parameter_bytes))
            for child in alive:
                times[child.name].append(child.ask(do="time", seconds=seconds))
    finally:
        for child in children:
            child.close()
    return {
        "wall": {name: [wall for wall, _ in pairs] for name, pairs in times.items()},
        "processor": {name: [processor for _, processor in pairs] for name, pairs in times.items()},
        "settings": {child.name: prepared[child.name]["setting"] for child in alive},
        "missing": sorted(set(names) - set(times)),
        **limits(case, rates),
    }


def limits(case: Case, rates: list[dict[str, float]]) -> dict[str, float]:
    """Return the least seconds of a step on this machine: of its products, and of Adam's reads and writes."""
    if not rates:
        return {}
    products, copies = (max(rate[name] for rate in rates) for name in ("products", "copies"))
    traffic = 0.0 if case.render else case.optimizer_bytes / copies
    return {
        "products_rate": products,
        "copies_rate": copies,
        "products": case.flops / products,
        "traffic": traffic,
    }


def check_agreement(case: Case, losses: dict[str, list[float]]) -> None:
    """Refuse to compare peers that do not compute the same."""
    reference = next(iter(losses.values()))
    for name, values in losses.items():
        if not np.allclose(values, reference, rtol=TOLERANCE):
            raise SystemExit(f"{case.name}: {name} computes {values}, not {reference}")


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=[c.name for c in CASES], default=[c.name for c in CASES])
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--cores", nargs="+", type=count, default=[2, 1], help="processors for each peer")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument(
        "--json", type=new_file, metavar="FILE", help="write everything here too, beside other cases"
    )
    options = parser.parse_args()
    libraries = sorted({name.partition("-")[0] for name in options.peers} - {"coordfit"})
    for library in libraries:
        need(library, "pip install -e . --group peers, or choose others by --peers")
    runs = Runs(options.json, "results", libraries)
    for case in CASES:
        for cores in options.cores if case.name in options.cases else ():
            found = measure(case, options.peers, cores, options.rounds, options.seconds)
            row = runs.keep({"case": case.name, "cores": cores}, found)
            print(table([row])[-1], file=sys.stderr, flush=True)
    print(*table(runs.rows), "", *means(runs.rows), sep="\n")


if __name__ == "__main__":
    run_main("peers", main)
