"""Measure what `--sigma auto` loses against the best of a dense sweep, on four photographs.

    python -m bench.sigma_auto                # all cases: some twenty minutes on two quiet cores
    python -m bench.sigma_auto --sizes 32 --modes all --pictures coffee
    python -m bench.sigma_auto --json bench/results/sigma_auto.json --keep    # train what is missing
    python -m bench.sigma_auto --json bench/results/sigma_auto.json --show

A case is a photograph, cut to its middle square and resampled to N x N pixels, and a mode: `all` pixels trained
and scored, or `every-second` trained and the others scored. `auto` chooses on its own; the sigmas of the sweep
and the chosen one are fits with the default settings, trained together as one batch. The loss is what the best
of them has more than the chosen one, in dB. Small pictures are memorised beyond the rounding of their 8 bits
(58.92 dB), where seeds differ by some dB: the table tells such figures, and the loss counts up to there.
With few pixels held out (32x32), fits of one sigma differ by up to 1 dB from seed to seed, and the best of a
sweep is the luckiest of it: figures there are means of three seeds.
The cost is the time of the choice by that of one of the batch's fits. Cases are written as they finish.
"""

from __future__ import annotations

import time
from statistics import fmean
from typing import Any

from coordfit import get_backend, make_config
from coordfit.images import Picture
from coordfit.tasks.jobs.sigma import choose_sigma
from coordfit.training.job import Job
from coordfit.training.trainer import fit_together

from .command_line import PHOTOGRAPHS, BadInputError, Parser, count, new_file, run_main
from .records import Runs
from .scikit_pictures import square_photograph

# Neighbours differ by a factor of 1.4. If the best of a sweep is its first or last, it was too narrow.
SWEEPS = {
    ("all", 32): (4.0, 5.6, 8.0, 11.0, 16.0, 22.0, 32.0),
    ("all", 128): (5.6, 8.0, 11.0, 16.0, 22.0),
    ("all", 256): (5.6, 8.0, 11.0, 16.0, 22.0),
    ("every-second", 32): (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0),
    ("every-second", 128): (1.0, 1.4, 2.0, 2.8, 4.0, 5.6),
    ("every-second", 256): (2.0, 2.8, 4.0, 5.6, 8.0),
}
SEEDS = {("every-second", 32): 3}  # one elsewhere
MODES, SIZES = ("all", "every-second"), (32, 128, 256)
FIGURE = {"all": "psnr", "every-second": "psnr_held_out"}
BOUND, ROUNDING = 1.0, 58.92  # dB

Case = dict[str, Any]


def trained(
    picture: Picture, mode: str, sigmas: list[float], settings: Case, backend: Any
) -> tuple[dict[str, float], float]:
    """Return PSNR by sigma, a mean over the seeds, and the seconds that one of the batch's networks took."""
    once = make_config(settings, {"train_on": mode}).resolved_steps(picture.height * picture.width)
    seeds = SEEDS.get((mode, picture.height), 1)
    base = make_config(settings, {"train_on": mode, "evaluate_every": once})
    configs = [base.replace(sigma=sigma, seed=seed) for sigma in sigmas for seed in range(seeds)]
    results = fit_together([Job(picture, config) for config in configs], backend)
    each = [result.metrics[FIGURE[mode]] for result in results]
    figures = {f"{sigma:g}": fmean(each[seeds * i : seeds * (i + 1)]) for i, sigma in enumerate(sigmas)}
    return figures, results[0].metrics["seconds"] / len(configs)


def measure(case: Case, settings: Case, known: Case | None, backend: Any) -> Case:
    """Measure a case with its sweep and its choice; figures in `known`, an earlier measurement, are kept."""
    mode, size = case["mode"], case["size"]
    picture = square_photograph(case["picture"], size)
    start = time.perf_counter()
    chosen = choose_sigma(Job(picture, make_config(settings, {"train_on": mode, "sigma": "auto"})), backend)[0]
    seconds_choice = time.perf_counter() - start
    figures: dict[str, float] = dict(known["psnr"]) if known else {}
    wanted = {chosen} if figures else {*SWEEPS[mode, size], chosen}
    missing = sorted(sigma for sigma in wanted if f"{sigma:g}" not in figures)
    seconds_fit = (known["seconds_fit"] if known else None) or 0.0
    if missing:
        more, seconds = trained(picture, mode, missing, settings, backend)
        figures |= more
        seconds_fit = seconds_fit or seconds
    return case | {
        "settings": settings,
        "chosen": chosen,
        "psnr": dict(sorted(figures.items(), key=lambda item: float(item[0]))),
        "seconds_choice": seconds_choice,
        "seconds_fit": seconds_fit,
    }


def loss(case: Case) -> float:
    """Return what the chosen sigma loses, in dB, of figures up to the rounding of 8 bits."""
    best = max(case["psnr"].values())
    return max(0.0, min(best, ROUNDING) - min(case["psnr"][f"{case['chosen']:g}"], ROUNDING))


def show(cases: list[Case]) -> None:
    """Print the table."""
    print("picture    size mode           auto     dB   best     dB  loss  cost")
    for case in cases:
        figures = case["psnr"]
        best = max(figures, key=lambda sigma: figures[sigma])
        edge = "  best at the edge of the sweep" if best in (next(iter(figures)), list(figures)[-1]) else ""
        print(
            f"{case['picture']:<10} {case['size']:>4} {case['mode']:<12} {case['chosen']:>6g} "
            f"{figures[format(case['chosen'], 'g')]:>6.2f} {best:>6} {figures[best]:>6.2f} {loss(case):>5.2f} "
            f"{_cost(case):>5}{edge}"
        )
    print(f"largest loss {max(map(loss, cases)):.2f} dB")


def _cost(case: Case) -> str:
    """Return the time of the choice as a share of a fit's; nothing if the machine was too busy to tell."""
    choice, fit = case["seconds_choice"], case["seconds_fit"]
    return f"{choice / fit:.0%}" if choice and fit else ""


def main() -> int:
    """Measure, write, print; return 1 if a loss is above the bound."""
    parser = Parser(prog="python -m bench.sigma_auto", description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", nargs="+", choices=PHOTOGRAPHS, default=PHOTOGRAPHS)
    parser.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=SIZES)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--json", type=new_file, help="write the cases here; those of other runs stay")
    parser.add_argument("--keep", action="store_true", help="do not train again what that file holds")
    parser.add_argument("--show", action="store_true", help="print the table of that file, and no more")
    parser.add_argument("--steps", type=count, help="of each fit, instead of the default")
    parser.add_argument("--threads", type=count)
    args = parser.parse_args()
    settings = {} if args.steps is None else {"steps": args.steps}
    defaults = make_config().as_dict()
    runs = Runs(args.json, "cases", ["scikit-image"], args.threads, defaults=defaults)
    cases = runs.rows
    if not args.show:
        backend, cases = get_backend("cpu", threads=args.threads), []
        for size in args.sizes:
            for mode in args.modes:
                for name in args.pictures:
                    place = {"picture": name, "size": size, "mode": mode}
                    key = place | {"settings": settings}
                    known = next(iter(runs.find(key)), None) if args.keep else None
                    cases.append(runs.keep(key, measure(place, settings, known, backend)))
    if not cases:
        raise BadInputError("--show prints the table of a file: name one with cases by --json")
    show(cases)
    return 0 if all(loss(case) <= BOUND for case in cases) else 1


if __name__ == "__main__":
    run_main("sigma_auto", main)
