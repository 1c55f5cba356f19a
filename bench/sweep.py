"""Time a whole sweep of 16 settings beside PyTorch: one after the other, and as batched products.

    pip install -e . --group peers
    python -m bench.sweep         # six minutes: 600 steps of each, as by default; three rounds
    python -m bench.sweep --steps 100     # set-up and evaluation weigh more
    python -m bench.sweep --json bench/results/sweep.json

The sweep is `coordfit.sweep` on the bundled 128x128 picture, default network and batches, Adam with four
learning rates and four seeds (each with frequencies and weights of its own), from the loaded picture to the
table. PyTorch trains networks of the same shape on as many random pixels and ends with their PSNR; coordfit's
table has the SSIM too. PyTorch's whole step is compiled, Adam included, and it has the environment of
`bench.peers`. The three take turns, each in a process of its own on all cores; medians count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from .command_line import Parser, count, need, new_file, run_main
from .peers.environment import environment
from .records import write_record

RATES, SEEDS, SIGMA = (1e-3, 2e-3, 4e-3, 8e-3), (0, 1, 2, 3), 10.0
WAYS = ("coordfit", "torch-loop", "torch-batched")


def with_coordfit(steps: int) -> list[float]:
    """Return the PSNR of the 16 networks, best first."""
    import coordfit
    from coordfit.images import bundled_picture

    table = coordfit.sweep(
        bundled_picture(128),
        device="cpu",
        sigma=SIGMA,
        optimizer="adam",
        learning_rate=list(RATES),
        seed=list(SEEDS),
        steps=steps,
        evaluate_every=steps,
    )
    return [float(value) for value in table["psnr"]]


def with_torch(steps: int, *, batched: bool) -> list[float]:
    """Train the same networks in PyTorch: 16 times one, or once all of them."""
    from coordfit.images import bundled_picture

    pixels = bundled_picture(128).pixels
    settings = [(rate, seed) for rate in RATES for seed in SEEDS]
    groups = [settings] if batched else [[setting] for setting in settings]
    return sorted((value for group in groups for value in _train(pixels, group, steps)), reverse=True)


def _train(pixels: Any, settings: list[tuple[float, int]], steps: int) -> list[float]:
    """Return the PSNR of K networks on (K, N, F) features; for one of them the axis K is left out."""
    import torch

    from coordfit import make_config

    from .time_to_psnr.torch_fit import Recipe, forward, take_step

    config, one = make_config(), len(settings) == 1
    draws = [np.random.default_rng(seed) for _, seed in settings]
    height, width, channels = pixels.shape
    y, x = np.mgrid[:height, :width]
    coordinates = torch.from_numpy(((np.stack([x, y], -1) + 0.5) / max(height, width)).reshape(-1, 2)).float()
    target = torch.from_numpy(pixels.reshape(-1, channels).copy())

    def stacked(arrays: list[Any]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays).astype(np.float32).squeeze(0 if one else ()))

    B = stacked([rng.normal(0.0, SIGMA, (config.num_frequencies, 2)) for rng in draws])
    phase = 2.0 * torch.pi * (coordinates @ B.mT)
    features = torch.cat([phase.cos(), phase.sin()], dim=-1)
    sizes = [2 * config.num_frequencies, *[config.hidden_size] * (config.depth - 1), channels]
    parameters = []
    for n_in, n_out in itertools.pairwise(sizes):
        parameters.append(stacked([rng.normal(0.0, np.sqrt(2.0 / n_in), (n_in, n_out)) for rng in draws]))
        parameters.append(torch.zeros((*parameters[-1].shape[:-2], 1, n_out)))
    rates = torch.tensor([rate for rate, _ in settings])
    rate = rates[0] if one else rates[:, None, None]
    moments = [[torch.zeros_like(p) for p in parameters] for _ in range(2)]
    state = (parameters, *moments, torch.zeros(()))
    recipe = Recipe("relu", "sigmoid", 0.0, False, 0.0, config.beta1, config.beta2, config.epsilon)
    order = torch.from_numpy(draws[0].integers(0, height * width, (steps, config.batch_size)))
    with torch.no_grad():
        for rows in order:
            take_step(recipe, *state, rate, features, target, rows)
        error = torch.square(forward(recipe, parameters, features).clamp(0.0, 1.0) - target).mean(dim=(-2, -1))
    return [float(value) for value in (-10.0 * torch.log10(error)).reshape(-1)]


def _answer(way: str) -> None:
    """Train when a line with a number of steps comes in; print how long it took, and the best PSNR."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        start = time.perf_counter()
        if way == "coordfit":
            values = with_coordfit(int(line))
        else:
            values = with_torch(int(line), batched=way == "torch-batched")
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "psnr": values[0]}), file=answers, flush=True)


def medians(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return the median seconds of each way, and by what factor others take more than coordfit."""
    seconds = {way: statistics.median(turn[way]["seconds"] for turn in rounds) for way in WAYS}
    return {"seconds": seconds, "ratios": {way: seconds[way] / seconds["coordfit"] for way in WAYS[1:]}}


def main() -> None:
    """Measure in turns, write, print."""
    parser = Parser(prog="python -m bench.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=count, default=600)
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--json", type=new_file)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        _answer(args.way)
        return
    need("torch", "pip install -e . --group peers")
    children = {
        way: subprocess.Popen(
            [sys.executable, "-m", "bench.sweep", "--way", way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(way.partition("-")[0], os.cpu_count() or 1),
        )
        for way in WAYS
    }

    def ask(way: str, steps: int) -> dict[str, float]:
        child = children[way]
        assert child.stdin is not None
        assert child.stdout is not None
        print(steps, file=child.stdin, flush=True)
        answer: dict[str, float] = json.loads(child.stdout.readline())
        time.sleep(0.3)  # its threads may still be spinning
        return answer

    for way in WAYS:
        ask(way, 3)  # imports, compiled code
    rounds = []
    for _ in range(args.rounds):
        rounds.append({way: ask(way, args.steps) for way in WAYS})
        print(
            *(f"{way} {rounds[-1][way]['seconds']:.2f} s" for way in WAYS),
            sep=", ",
            file=sys.stderr,
            flush=True,
        )
        if args.json:
            write_record(
                args.json, {"steps": args.steps, **medians(rounds), "rounds": rounds}, libraries=["torch"]
            )
    for child in children.values():
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    seconds, ratios = medians(rounds).values()
    for way in WAYS:
        ratio = f"  {ratios[way]:.2f} times coordfit" if way in ratios else ""
        print(f"{way:<14} {seconds[way]:6.2f} s  best {rounds[0][way]['psnr']:.2f} dB{ratio}")


if __name__ == "__main__":
    run_main("sweep", main)
