"""Train sixteen small pictures as one batch, and one after another, and compare the seconds.

    python -m bench.batches --json bench/results/batches.json    # two minutes

Pictures are windows of the bundled one. Both ways take turns, and the first turn is left out. Seconds are
medians, from the loaded pictures to the results.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import coordfit
from coordfit.backends import get_backend
from coordfit.config import make_config
from coordfit.images import load_picture
from coordfit.training.job import Job
from coordfit.training.trainer import fit_together

from .command_line import Parser, count, new_file, run_main
from .records import Runs

PICTURES = 16
CASES: dict[str, dict[str, Any]] = {
    "small networks, 32x32": {"hidden_size": 16, "num_frequencies": 16, "depth": 3, "steps": 600},
    "the default network, 64x64": {"steps": 150},
}
SIZES = dict(zip(CASES, (32, 64), strict=True))


def jobs(case: str) -> list[Job]:
    """Return a job for each window."""
    pixels, size = coordfit.bundled_picture().pixels, SIZES[case]
    at = [(9 * i % (129 - size), 23 * i % (129 - size)) for i in range(PICTURES)]
    windows = [load_picture(pixels[y : y + size, x : x + size].copy()) for y, x in at]
    return [Job(window, make_config(CASES[case])) for window in windows]


def seconds(groups: list[list[Job]]) -> float:
    """Return the seconds of training groups of jobs one after another."""
    began = time.perf_counter()
    for group in groups:
        fit_together(group, get_backend("cpu"))
    return time.perf_counter() - began


def measure(case: str, repeats: int) -> dict[str, float]:
    """Return the median seconds of both ways."""
    every = jobs(case)
    ways = {"together": [every], "alone": [[job] for job in every]}
    found = [{way: seconds(groups) for way, groups in ways.items()} for _ in range(repeats + 1)][1:]
    return {way: statistics.median(turn[way] for turn in found) for way in ways}


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.batches", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=count, default=5)
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the rows here")
    options = parser.parse_args()
    runs = Runs(options.json, "rows")
    for case in CASES:
        row = runs.keep({"case": case}, measure(case, options.repeats))
        print(f"{case}: {row['together']:.2f} s together, {row['alone']:.2f} s alone", flush=True)


if __name__ == "__main__":
    run_main("batches", main)
