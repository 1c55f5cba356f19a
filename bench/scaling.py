"""Measure how cost and memory of a fit grow with the picture: a process of its own for each size.

    python -m bench.scaling                    # prints a table
    python -m bench.scaling --json FILE --plot FILE.svg

Time is that of training steps alone, for one pixel of a batch; memory is the peak of the whole process through
`coordfit.fit` with a few steps, and what is left of it when the interpreter with its imports, the picture as it
was given (uint8) and the picture as it is trained on (float32) are taken off.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .command_line import Parser, count, new_file, run_main
from .memory import peak_mib
from .records import write_record

SIZES = (128, 256, 512, 1024, 2048, 4096)
STEPS = 150


def measure(size: int) -> dict[str, float]:
    """Return figures of one size, measured in this process."""
    import numpy as np

    import coordfit
    from coordfit.images import load_picture
    from coordfit.training.job import Job
    from coordfit.training.trainer import Trainer

    coordfit.fit(np.zeros((16, 16, 3), np.uint8), device="cpu", steps=1)  # imports everything
    imports = 2**20 * peak_mib()
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    coordfit.fit(pixels, device="cpu", steps=3, evaluate_every=3)
    peak = 2**20 * peak_mib()

    backend = coordfit.get_backend("cpu")
    trainer = Trainer([Job(load_picture(pixels), coordfit.make_config())], backend)
    with backend.activate():
        for _ in range(20):
            trainer.take_steps(1)
        start = time.perf_counter()
        for _ in range(STEPS):
            trainer.take_steps(1)
        seconds = time.perf_counter() - start
    picture = size * size * 3 * 4
    return {
        "size": size,
        "nanoseconds_per_pixel": seconds / STEPS / trainer.member.batch_rows * 1e9,
        "peak_bytes": peak,
        "picture_bytes": picture,
        "constant_bytes": peak - imports - pixels.nbytes - picture,
    }


def in_a_process(size: int) -> dict[str, float]:
    """Return figures of one size, from a process that has seen no other."""
    command = [sys.executable, "-m", "bench.scaling", "--one", str(size)]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Plot nanoseconds per pixel, and megabytes, against the picture's side."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = [result["size"] for result in results]
    left.plot(sizes, [result["nanoseconds_per_pixel"] for result in results], "o-", color="#1f2a5a")
    left.set(
        xscale="log", ylim=(0, None), xlabel="side of the picture", ylabel="ns of training per pixel visit"
    )
    for key, label, colour in (
        ("peak_bytes", "peak of the process", "#1f2a5a"),
        ("picture_bytes", "the picture in float32", "#d9703a"),
        ("constant_bytes", "what else the fit takes", "#2b8ba8"),
    ):
        right.plot(sizes, [result[key] / 2**20 for result in results], "o-", label=label, color=colour)
    right.set(xscale="log", yscale="log", xlabel="side of the picture", ylabel="MiB")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasSVG(figure).print_svg(path)


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.scaling")
    parser.add_argument("--sizes", nargs="+", type=count, default=SIZES)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=new_file, metavar="FILE")
    parser.add_argument("--plot", type=new_file, metavar="FILE.svg")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    results = []
    for size in options.sizes:
        results.append(in_a_process(size))
        if options.json:
            write_record(options.json, {"rows": results})
    print("| side | ns per pixel visit | peak, MiB | picture, MiB | constant, MiB |\n|---|---|---|---|---|")
    for r in results:
        memory = (r[key] / 2**20 for key in ("peak_bytes", "picture_bytes", "constant_bytes"))
        cells = (f"{r['nanoseconds_per_pixel']:.0f}", *(f"{m:.0f}" for m in memory))
        print(f"| {r['size']} | " + " | ".join(cells) + " |")
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    run_main("scaling", main)
