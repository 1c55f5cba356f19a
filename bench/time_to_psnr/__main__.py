"""Run the contenders in turns, picture by picture, each in a process of its own; print tables.

python -m bench.time_to_psnr --json FILE --plot FILE.svg     # all; a quarter of an hour
python -m bench.time_to_psnr --contenders "torch: Adam, cosine" "torch: fast (Muon)" "coordfit: fast (Muon)"
python -m bench.time_to_psnr --quick                         # does it run?
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from typing import Any

from ..command_line import PHOTOGRAPHS, Parser, count, device_name, need, new_file, picture_name, run_main
from ..peers.environment import environment
from ..records import write_record
from .contenders import CONTENDERS, GAINS, LEVELS, Contender

# One run: {"contender", "picture", "length", "rows"}.
Run = dict[str, Any]


def first_at(rows: list[dict[str, float]], level: float, figure: str) -> float:
    """Return seconds or visits at the first evaluation that reaches a level; infinite if none does."""
    return next((row[figure] for row in rows if row["psnr"] >= level), math.inf)


def geometric_mean(values: list[float]) -> float:
    """Return the geometric mean, infinite if a value is."""
    return math.exp(sum(map(math.log, values)) / len(values)) if all(map(math.isfinite, values)) else math.inf


def best(runs: list[Run], contender: str, level: float, figure: str) -> float:
    """Return the geometric mean over pictures at the length of schedule that is best for the level."""
    by_length: dict[int, list[float]] = {}
    for run in runs:
        if run["contender"] == contender:
            by_length.setdefault(run["length"], []).append(first_at(run["rows"], level, figure))
    return min((geometric_mean(values) for values in by_length.values()), default=math.inf)


def table(runs: list[Run], figure: str, form: str) -> str:
    """Return contenders in rows, levels in columns."""
    names = list(dict.fromkeys(run["contender"] for run in runs))
    lines = [
        f"| {figure} to | " + " | ".join(f"{level:g} dB" for level in LEVELS) + " |",
        "|---" * (1 + len(LEVELS)) + "|",
    ]
    for name in names:
        cells = [best(runs, name, level, figure) for level in LEVELS]
        texts = [form.format(value) if math.isfinite(value) else "-" for value in cells]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def gains(runs: list[Run], figure: str, level: float = 40.0) -> dict[str, float]:
    """Return what the recipe gains in each library, and the library with each recipe, where both arrive."""
    time = {name: best(runs, name, level, figure) for name in CONTENDERS}
    factors = {what: time[slow] / time[fast] for what, (slow, fast) in GAINS.items()}
    return {what: factor for what, factor in factors.items() if 0.0 < factor < math.inf}


def runs_of(contender: Contender, picture: str, size: int, device: str) -> list[dict[str, Any]]:
    """Run all lengths of one contender on one picture, in this process."""
    from coordfit.config import make_config

    from ..scikit_pictures import picture_of
    from .curves import run, warm_up

    image = picture_of(picture, size)
    found = []
    for length in contender.lengths:
        config = make_config(contender.settings, {"steps": length}, recipe=contender.recipe)
        if not found:
            warm_up(contender.library, config, image, device)
        rows = run(contender.library, image, config, stop_at=contender.stop_at, device=device)
        found.append({"length": length, "rows": rows})
    return found


def in_a_process(name: str, picture: str, options: argparse.Namespace) -> list[Run]:
    """Run the same in a process that has seen no other contender."""
    words = ["--one", name, picture, "--size", str(options.size), "--device", options.device]
    words += ["--quick"] if options.quick else []
    command = [sys.executable, "-m", "bench.time_to_psnr", *words]
    variables = environment(CONTENDERS[name].library, os.cpu_count() or 1)
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables).stdout
    return [{"contender": name, "picture": picture, **found} for found in json.loads(answer)]


def contender_of(name: str, quick: bool) -> Contender:
    """Return the contender of a name; a short one for a trial."""
    whole = CONTENDERS[name]
    if not quick:
        return whole
    small = {"num_frequencies": 8, "hidden_size": 16, "batch_size": 64}
    return Contender(whole.library, whole.recipe, (6,), whole.settings | small)


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.time_to_psnr")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--pictures", nargs="+", type=picture_name, default=PHOTOGRAPHS, metavar="NAME|FILE")
    parser.add_argument("--size", type=count, default=128)
    parser.add_argument("--device", type=device_name, default="cpu", help="of coordfit")
    parser.add_argument("--quick", action="store_true", help="tiny networks and a few steps")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=new_file, metavar="FILE")
    parser.add_argument("--plot", type=new_file, metavar="FILE.svg")
    options = parser.parse_args()
    if options.one:
        name, picture = options.one
        found = runs_of(contender_of(name, options.quick), picture, options.size, options.device)
        print(json.dumps(found))
        return
    if any(CONTENDERS[name].library == "torch" for name in options.contenders):
        need("torch", "pip install -e . --group peers, or choose others by --contenders")
    runs: list[Run] = []
    for picture in options.pictures:
        for name in options.contenders:
            runs += in_a_process(name, picture, options)
            print(f"{picture}: {name}", file=sys.stderr, flush=True)
            if options.json:  # after every one: the whole takes long
                write_record(options.json, {"size": options.size, "runs": runs}, ("torch", "scikit-image"))
    figures = {"seconds": "{:.2f}", "processor seconds": "{:.2f}", "visits": "{:,.0f}"}
    print("\n\n".join(table(runs, figure, form) for figure, form in figures.items()), "", sep="\n")
    for figure in ("seconds", "processor seconds"):
        for what, factor in gains(runs, figure).items():
            print(f"{what}: {factor:.2f} times fewer {figure} to 40 dB")
    if options.plot:
        from .plot import draw

        draw(runs, lambda name, level: best(runs, name, level, "seconds"), options.plot)


if __name__ == "__main__":
    run_main("time_to_psnr", main)
