"""Measure what `--sigma auto` gains over sigma = 1 in the course project's setting.

    python -m bench.seed_setting              # eight cases: some ten minutes on two quiet cores
    python -m bench.seed_setting --json bench/results/seed_setting.json --show

A case is a photograph, cut to its middle square and resampled to 128x128, and a mode: all pixels trained, or
every second row and column. The recipe is `seed-adam` (300 full-batch steps of Adam, m = 64, F-256-256-256-3);
sigma 1, as the project had it, and the chosen one are one batch. The rate is constant, so that the last step
ends somewhere around the best: figures of every second pixel, whose gains are small, are means of three seeds.
"""

from __future__ import annotations

import itertools
from statistics import fmean
from typing import Any

from coordfit import get_backend, make_config
from coordfit.tasks.jobs.sigma import choose_sigma
from coordfit.training.job import Job
from coordfit.training.result import FitResult
from coordfit.training.trainer import fit_together

from .command_line import run_main
from .recorded_cases import Case, cases_of, settings_of, study_parser
from .scikit_pictures import square_photograph

SEEDS = {"all": 1, "every-second": 3}
MODES = tuple(SEEDS)
FIGURES = ("psnr_train", "psnr_held_out", "psnr")
AIM = 2.0  # dB, of all pixels, if all are trained


def measure(key: Case, backend: Any) -> Case:
    """Return PSNR in dB of training, held-out and all pixels, at sigma 1 and at the chosen one."""
    mode = key["mode"]
    picture = square_photograph(key["picture"], key["size"])
    base = make_config(key["settings"], {"train_on": mode, "size": None}, recipe="seed-adam")
    chosen = choose_sigma(Job(picture, base.replace(sigma="auto")), backend)[0]
    sigmas = {"one": 1.0, "auto": chosen}
    configs = [base.replace(sigma=sigma, seed=seed) for sigma in sigmas.values() for seed in range(SEEDS[mode])]
    results = iter(fit_together([Job(picture, config) for config in configs], backend))
    told = {which: _means([next(results) for _ in range(SEEDS[mode])]) for which in sigmas}
    return {"chosen": chosen} | told


def _means(results: list[FitResult]) -> dict[str, float | None]:
    """Return each figure as a mean over the seeds; None if no pixel is held out."""
    columns = {figure: [result.metrics[figure] for result in results] for figure in FIGURES}
    return {figure: None if None in column else fmean(column) for figure, column in columns.items()}


def gain(case: Case, figure: str) -> float:
    """Return what the chosen sigma has more than 1, in dB."""
    return float(case["auto"][figure] - case["one"][figure])


def show(cases: list[Case]) -> None:
    """Print a line for each case, and for each mode the mean gain."""
    print("PSNR / dB at sigma 1, at the chosen one, and the gain")
    heads = "".join(f"{kind + ' pixels':>24}" for kind in ("training", "held-out", "all"))
    print(f"{'picture':<10}{'trained':<13}{'auto':>5}{heads}")
    for case in cases:
        print(f"{case['picture']:<10}{case['mode']:<13}{case['chosen']:>5g}" + "".join(_cells(case)))
    for mode in MODES:
        if gains := [gain(case, "psnr") for case in cases if case["mode"] == mode]:
            print(f"{mode}: {fmean(gains):+.2f} dB on all pixels in the mean, {min(gains):+.2f} dB at least")


def _cells(case: Case) -> list[str]:
    return [
        f"{case['one'][f]:>9.2f}{case['auto'][f]:>7.2f}{gain(case, f):>+8.2f}" if case["one"][f] else 24 * " "
        for f in FIGURES
    ]


def main() -> int:
    """Measure, write, print; return 1 if a gain on all pixels, all of them trained, is below the aim."""
    parser = study_parser("seed_setting", __doc__, (128,))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    args = parser.parse_args()
    places = itertools.product(args.sizes, args.modes, args.pictures)
    keys = [{"picture": p, "size": n, "mode": mode, "settings": settings_of(args)} for n, mode, p in places]
    backend = get_backend("cpu", threads=args.threads)
    shown = cases_of(args, keys, lambda key: measure(key, backend), args.threads)
    show(shown)
    return 0 if all(gain(case, "psnr") >= AIM for case in shown if case["mode"] == "all") else 1


if __name__ == "__main__":
    run_main("seed_setting", main)
