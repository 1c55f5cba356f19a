"""Time the peers in turns, compare, print."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib import metadata
from typing import Any

import numpy as np

from ..command_line import Parser, count, need, new_file, run_main
from .cases import CASES, Case
from .worker import PEERS

CHECK_STEPS = 5
TOLERANCE = 2e-3
OURS = ("coordfit", "coordfit-numpy", "coordfit-generic")


class Child:
    """A peer's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
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


def measure(case: Case, names: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Return median seconds of a step for each peer, the peers taking turns, and whether they agree."""
    children = [Child(name) for name in names]
    try:
        steps = 1 if case.render else CHECK_STEPS
        losses = {c.name: c.ask(do="prepare", case=case.name, steps=steps) for c in children}
        alive = [child for child in children if losses[child.name] is not None]
        check_agreement(case, {child.name: losses[child.name] for child in alive})
        times: dict[str, list[float]] = {child.name: [] for child in alive}
        rates = []
        for _ in range(rounds):
            rates.append(alive[0].ask(do="gemm") if alive[0].name == "coordfit" else None)
            for child in alive:
                times[child.name].append(child.ask(do="time", seconds=seconds))
    finally:
        for child in children:
            child.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    measured = [rate for rate in rates if rate is not None]
    rate = statistics.median(measured) if measured else None
    return summary(case, medians, times, rate) | {"missing": sorted(set(names) - set(medians))}


def check_agreement(case: Case, losses: dict[str, list[float]]) -> None:
    """Refuse to compare peers that do not compute the same."""
    reference = next(iter(losses.values()))
    for name, values in losses.items():
        if not np.allclose(values, reference, rtol=TOLERANCE):
            raise SystemExit(f"{case.name}: {name} computes {values}, not {reference}")


def summary(
    case: Case, medians: dict[str, float], times: dict[str, list[float]], rate: float | None
) -> dict[str, Any]:
    """Return what is kept of one case."""
    peers = {name: value for name, value in medians.items() if name not in OURS}
    fastest = min(peers, key=lambda name: peers[name]) if peers else None
    ours = medians.get("coordfit")
    generic = medians.get("coordfit-generic")
    return {
        "case": case.name,
        "flops": case.flops,
        "seconds": medians,
        "rounds": times,
        "gemm_rate": rate,
        "share_of_gemm": case.flops / ours / rate if ours and rate else None,
        "fastest_peer": fastest,
        "ratio": peers[fastest] / ours if fastest and ours else None,
        "ratio_to_generic": generic / ours if generic and ours else None,
    }


def print_table(results: list[dict[str, Any]]) -> None:
    """Print milliseconds of a step, and ratios (above 1: coordfit is faster)."""
    names = list(dict.fromkeys(name for result in results for name in result["seconds"]))
    print("| case | " + " | ".join(names) + " | fastest peer / coordfit | generic / coordfit | share of GEMM |")
    print("|---" * (len(names) + 4) + "|")
    for result in results:
        cells = [f"{result['seconds'][n] * 1e3:.3g}" if n in result["seconds"] else "" for n in names]
        cells += [_number(result["ratio"], ".2f"), _number(result["ratio_to_generic"], ".2f")]
        cells += [_number(result["share_of_gemm"], ".0%")]
        print(f"| {result['case']} | " + " | ".join(cells) + " |")
    ratios = [result["ratio"] for result in results if result["ratio"]]
    if ratios:
        mean = statistics.geometric_mean(ratios)
        print(f"\nfastest peer / coordfit: geometric mean {mean:.2f}, smallest {min(ratios):.2f}")


def _number(value: float | None, pattern: str) -> str:
    return "" if value is None else format(value, pattern)


def versions() -> dict[str, str]:
    """Return versions of the peers and facts of the machine."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "cores": str(os.cpu_count())}
    for name in ("coordfit", "numpy", "numba", "torch", "jax"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def peers_for(case: Case, asked: list[str]) -> list[str]:
    """Return the peers of a case: a loop over networks makes sense only if there are several."""
    return [name for name in asked if case.members or not name.startswith("torch-loop")]


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=[c.name for c in CASES], default=[c.name for c in CASES])
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write everything here too")
    options = parser.parse_args()
    for library in {name.partition("-")[0] for name in options.peers} - {"coordfit"}:
        need(library, "pip install -e . --group peers, or choose others by --peers")
    results = []
    for case in CASES:
        if case.name in options.cases:
            results.append(measure(case, peers_for(case, options.peers), options.rounds, options.seconds))
            print(f"{case.name}: {_number(results[-1]['ratio'], '.2f')}", file=sys.stderr, flush=True)
            if options.json:  # after every case: the whole takes long
                options.json.write_text(json.dumps({"versions": versions(), "results": results}, indent=1))
    print_table(results)
    print(", ".join(f"{name} {version}" for name, version in versions().items()))


if __name__ == "__main__":
    run_main("peers", main)
