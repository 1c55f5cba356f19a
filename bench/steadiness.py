"""Ask whether the default ever diverges, or ends low: many seeds, four pictures, three sizes.

    python -m bench.steadiness                    # 20 seeds, sizes 32, 64 and 128: some ten minutes
    python -m bench.steadiness --seeds 5 --sizes 128 --recipe sharp
    python -m bench.steadiness --json bench/results/steadiness.json    # rows of other recipes and sizes stay

Prints the least, mean and greatest PSNR on the training pixels; ends with 1 if a run is below the limit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from coordfit.backends import get_backend
from coordfit.config import RECIPES, make_config
from coordfit.training.job import Job
from coordfit.training.trainer import fit_together

from .command_line import PHOTOGRAPHS, Parser, count, device_name, new_file, picture_name, run_main
from .records import Runs
from .scikit_pictures import picture_of


def measure(picture: str, size: int, seeds: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the PSNR of all seeds on one picture."""
    image = picture_of(picture, size)
    settings = {} if options.steps is None else {"steps": options.steps}
    configs = [make_config(settings, {"seed": seed}, recipe=options.recipe) for seed in range(seeds)]
    start = time.perf_counter()
    results = fit_together([Job(image, config) for config in configs], get_backend(options.device))
    return {
        "psnr": [result.metrics["psnr_train"] for result in results],
        "stopped": sorted({result.stopped for result in results}),
        "seconds": time.perf_counter() - start,
    }


def main() -> int:
    """Run the command line."""
    parser = Parser(prog="python -m bench.steadiness")
    parser.add_argument("--seeds", type=count, default=20)
    parser.add_argument("--sizes", nargs="+", type=count, default=[32, 64, 128])
    parser.add_argument("--pictures", nargs="+", type=picture_name, default=PHOTOGRAPHS, metavar="NAME|FILE")
    parser.add_argument("--recipe", choices=RECIPES, default="default")
    parser.add_argument("--steps", type=count)
    parser.add_argument("--limit", type=float, default=35.0, help="dB that every run must reach")
    parser.add_argument("--device", type=device_name, default="cpu")
    parser.add_argument("--json", type=new_file, metavar="FILE")
    options = parser.parse_args()
    runs, found = Runs(options.json, "rows", ["scikit-image"]), []
    print("| picture | size | least | mean | greatest | ended by |\n|---|---|---|---|---|---|")
    for size in options.sizes:
        for picture in options.pictures:
            key = {"picture": picture, "size": size, "recipe": options.recipe, "steps": options.steps}
            found.append(row := runs.keep(key, measure(picture, size, options.seeds, options)))
            values = row["psnr"]
            figures = " | ".join(f"{v:.1f}" for v in (min(values), statistics.fmean(values), max(values)))
            print(f"| {picture} | {size} | {figures} | {', '.join(row['stopped'])} |", flush=True)
    low = sum(value < options.limit for row in found for value in row["psnr"])
    print(f"{low} of {sum(len(row['psnr']) for row in found)} runs below {options.limit:g} dB")
    return 1 if low else 0


if __name__ == "__main__":
    run_main("steadiness", main)
