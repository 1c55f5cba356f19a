"""Run the commands whose figures README.md and docs/ tell, each a process of its own, and keep what they print.

    python -m bench.commands --json bench/results/commands.json                   # some fifteen minutes
    python -m bench.commands --only "coordfit --recipe sharp" "coordfit inpaint --missing 0.5"
    python -m bench.commands --without-times --json FILE                          # where the machine is busy

All take the bundled picture. Seconds are medians: `seconds` those of training, as the command tells them, and
`seconds_in_all` those of the whole process.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .command_line import BadInputError, Parser, count, new_file, run_main
from .records import Runs

ROOT = Path(__file__).parents[1]
SMALL = "--output-activation identity --hidden-size 24 --depth 2"
COMMANDS = (
    "coordfit",
    "coordfit --device numpy",
    "coordfit --recipe sharp",
    "coordfit --size 32 --recipe sharp --steps 60",
    "coordfit --tiles 8 --target-psnr 40",
    "coordfit --tiles 8 --target-psnr 40 --device numpy",
    "coordfit --recipe paper --target-psnr 40 --evaluate-every 20",
    "coordfit --encoding grid --device numpy",
    *(f"coordfit --encoding pyramid --output-start {start} {SMALL}" for start in ("picture", "drawn")),
    *(
        f"coordfit --train-on every-second --encoding {encoding}"
        for encoding in ("none", "basic", "positional", "gaussian", "grid")
    ),
    "coordfit inpaint --missing 0.5",
    "coordfit inpaint --missing 0.5 --average 4 --steps 300",
    "coordfit --recipe sharp --train-on every-second --steps 600",
    "coordfit --recipe fast --train-on every-second --steps 600",
    "coordfit --recipe sharp --device numpy --steps 300",
    "coordfit --recipe fast --device numpy --steps 300",
    "coordfit experiments",
    "coordfit experiments --quick",
)
ONCE = ("coordfit --recipe paper", "coordfit experiments")
"""What takes too long to be repeated."""
FIGURES = (
    "psnr", "psnr_train", "psnr_held_out", "psnr_held_out_bilinear", "psnr_held_out_bicubic", "psnr_hidden",
    "psnr_hidden_nearest", "psnr_hidden_biharmonic", "ssim", "loss", "backend", "threads", "steps",
    "parameters", "parameters_per_value", "bits_per_pixel", "other_bits_per_pixel", "deviation_mean",
    "deviation_largest", "within_1", "within_2", "sigma", "seconds",
)  # fmt: skip
TIMES = ("seconds", "seconds_in_all", "batch_seconds")


def figures_of(told: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a command's JSON."""
    metrics = told.get("metrics", {})
    return {name: metrics[name] for name in FIGURES if metrics.get(name) is not None}


def run(command: str) -> tuple[dict[str, Any], float]:
    """Return what a command prints as JSON, and its seconds."""
    _, *words = shlex.split(command)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "coordfit", *words, "--out", str(Path(folder, "out")), "--json"]
        began = time.perf_counter()
        done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
        seconds = time.perf_counter() - began
    if done.returncode:
        raise BadInputError(f"`{command}` ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return json.loads(done.stdout), seconds


def measure(command: str, repeats: int) -> dict[str, Any]:
    """Return the figures of a command, those of the last of some runs, and medians of their seconds."""
    told = [run(command) for _ in range(1 if command.startswith(ONCE) else repeats)]
    figures = figures_of(told[-1][0])
    trained = [answer["metrics"]["seconds"] for answer, _ in told if "seconds" in figures]
    return (
        figures
        | ({"seconds": statistics.median(trained)} if trained else {})
        | {"seconds_in_all": statistics.median(seconds for _, seconds in told)}
    )


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without its seconds."""
    return {name: value for name, value in row.items() if name not in TIMES}


def said(rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    """Yield a line for each command."""
    names = ("psnr", "psnr_held_out", "psnr_hidden", "bits_per_pixel", "seconds", "seconds_in_all")
    for row in rows:
        figures = ", ".join(f"{name} {row[name]:.2f}" for name in names if name in row)
        yield f"{row['command']}: {figures}"


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.commands", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=COMMANDS, metavar="COMMAND")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--without-times", action="store_true", help="where the machine is busy")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the rows here; others stay")
    options = parser.parse_args()
    runs = Runs(options.json, "rows")
    for command in options.only:
        row = measure(command, 1 if options.without_times else options.repeats)
        kept = runs.keep({"command": command}, without_times(row) if options.without_times else row)
        print(*said([kept]), flush=True)


if __name__ == "__main__":
    run_main("commands", main)
