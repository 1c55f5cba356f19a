"""Run fits, renderings and sweeps for minutes or nights: memory, handles and threads must stay flat.

    python -m bench.soak --minutes 30            # prints a table; ends with 1 if something grew
    python -m bench.soak --minutes 30 --json FILE

One process does, round after round, what a notebook left open overnight does: fits on every CPU backend that is
there, renderings, models saved and loaded, whole commands with their folders, sweeps here and on two processes,
runs that diverge and runs that are stopped by an error. It is sampled after each round, after a collection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path

from .command_line import Parser, new_file, run_main
from .records import write_record

ROWS = 20
# The allocator keeps what it had, and gives it back in pieces.
RSS_GROWTH_BYTES, RSS_GROWTH_SHARE = 8 << 20, 0.03
WARM_UP_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Sample:
    """What the process holds after a round."""

    minutes: float
    rounds: int
    rss: int
    handles: int
    threads: int
    children: int


def sample(began: float, rounds: int) -> Sample:
    """Look at this process as Linux sees it."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        minutes=(time.monotonic() - began) / 60,
        rounds=rounds,
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
        handles=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - no more handles than this one
        threads=threading.active_count(),
        children=len(active_children()),
    )


def growth(samples: Sequence[Sample]) -> list[str]:
    """Return what grew between the first and the last third after the warm-up, in words; empty if nothing."""
    settled = samples[int(WARM_UP_SHARE * len(samples)) :]
    third = max(1, len(settled) // 3)
    first, last = settled[:third], settled[-third:]
    found = []
    rss = [statistics.median(s.rss for s in part) for part in (first, last)]
    if rss[1] - rss[0] > max(RSS_GROWTH_BYTES, RSS_GROWTH_SHARE * rss[0]):
        found.append(f"memory grew from {rss[0] / 1e6:.1f} to {rss[1] / 1e6:.1f} MB")
    for name in ("handles", "threads", "children"):
        before, after = (statistics.median(getattr(s, name) for s in part) for part in (first, last))
        if after > before:
            found.append(f"{name} grew from {before:g} to {after:g}")
    return found


def rounds(seed: int) -> Iterator[Callable[[], object]]:
    """Yield work without an end, each round another."""
    import numpy as np

    import coordfit
    from coordfit.cli import main
    from coordfit.images import bundled_picture

    draw = random.Random(seed)
    devices = [name for name in ("numpy", "numba") if not coordfit.available_backends().get(name, "unknown")]

    def small() -> dict[str, object]:
        return {
            "device": draw.choice(devices),
            "threads": draw.choice([1, 2]),
            "steps": draw.randrange(5, 80),
            "hidden_size": draw.choice([16, 48, 128]),
            "batch_size": draw.choice([256, 1024, None]),
            "encoding": draw.choice(["none", "basic", "positional", "gaussian"]),
        }

    def fit_render_save() -> None:
        shape = (draw.randrange(8, 96), draw.randrange(8, 96), draw.choice([1, 3, 4]))
        result = coordfit.fit(np.random.default_rng(draw.randrange(1000)).random(shape, np.float32), **small())
        result.model.render(draw.randrange(1, 400))
        with tempfile.TemporaryDirectory() as folder:
            result.save(Path(folder, "m.safetensors"))
            coordfit.load(Path(folder, "m.safetensors"), device="numpy").render(40)

    def command() -> None:
        words = draw.choice(
            [["fit"], ["compare"], ["inpaint", "--missing", "0.4"], ["sweep", "--sigma", "1,2,4"]]
        )
        with tempfile.TemporaryDirectory() as folder:
            out = [
                "--out",
                str(Path(folder, "run")),
                "--size",
                "32",
                "--steps",
                "20",
                "--device",
                draw.choice(devices),
            ]
            code = main([*words, *out, "--no-progress"])
        assert code == 0, f"{words} ended with {code}"

    def sweep() -> None:
        coordfit.sweep(
            bundled_picture(32), sigma=[1.0, 3.0], loss=["mse", "mae"], **small() | {"encoding": "gaussian"}
        )

    def sweep_on_processes() -> None:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            coordfit.sweep(
                bundled_picture(32), executor=pool, steps=20, sigma=[1.0, 3.0], depth=[2, 3], device="numpy"
            )

    def diverge() -> None:
        coordfit.fit(
            bundled_picture(32), steps=30, optimizer="sgd", learning_rate=1e30, device=draw.choice(devices)
        )

    def fail() -> None:
        def stop(progress: object) -> bool:
            raise ZeroDivisionError

        with contextlib.suppress(ZeroDivisionError):
            coordfit.fit(bundled_picture(128), callback=stop, **small())

    usual = [fit_render_save, fit_render_save, fit_render_save, command, sweep, diverge, fail]
    number = 0
    while True:
        number += 1
        yield sweep_on_processes if number % 40 == 0 else draw.choice(usual)


def soak(minutes: float, seed: int) -> list[Sample]:
    """Work for that many seconds; return a sample after each round, and print a line now and then."""
    began, samples, told = time.monotonic(), [], 0
    print(
        f"{'minutes':>8} {'rounds':>7} {'RSS/MB':>8} {'handles':>8} {'threads':>8} {'children':>9}", flush=True
    )
    for number, work in enumerate(rounds(seed), start=1):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            work()
        now = sample(began, number)
        samples.append(now)
        if now.minutes * ROWS / minutes >= told:
            told += 1
            print(
                f"{now.minutes:8.2f} {now.rounds:7d} {now.rss / 1e6:8.1f} {now.handles:8d} {now.threads:8d} "
                f"{now.children:9d}",
                flush=True,
            )
        if now.minutes >= minutes:
            return samples
    raise AssertionError("rounds never end")


def main() -> int:
    """Soak, print what grew."""
    parser = Parser(prog="python -m bench.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=new_file, help="all samples")
    options = parser.parse_args()
    samples = soak(options.minutes, options.seed)
    found = growth(samples)
    if options.json:
        write_record(options.json, {"samples": samples})
    print("; ".join(found) or f"flat over {len(samples)} rounds")
    return 1 if found else 0


if __name__ == "__main__":
    run_main("soak", main)
