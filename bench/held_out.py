"""Score encodings on pixels that training has not seen: the right order, and how a wrong sigma fails.

    python -m bench.held_out                  # twelve cases: some ten minutes on two quiet cores
    python -m bench.held_out --json bench/results/held_out.json --show

A case is a photograph, cut to its middle square and resampled to N x N pixels, of which every second row and
column is trained on. `none`, `basic` and the Gaussian encoding at the sigmas of `SHARES`, at 1 and at that of
`--sigma auto` are one batch. What is expected after Tancik et al. (NeurIPS 2020), figure 10: none < basic <
Gaussian at a right sigma on held-out pixels; too small a sigma blurs training pixels and those between alike,
too large a one learns the training pixels and leaves noise between them.
"""

from __future__ import annotations

import itertools
from typing import Any

from coordfit import get_backend, make_config
from coordfit.config import RECIPES
from coordfit.images.metrics import psnr
from coordfit.pixels.masks import training_mask
from coordfit.tasks.jobs.sigma import choose_sigma
from coordfit.training.job import Job
from coordfit.training.trainer import fit_together

from .command_line import run_main
from .recorded_cases import Case, cases_of, settings_of, study_parser
from .scikit_pictures import square_photograph

SIZES = (32, 128, 256)
SHARES = (1 / 256, 1 / 64, 1 / 32, 1 / 16, 1 / 2)
"""Sigmas as shares of the number of training pixels along a side."""
FAILS = 0.3  # dB; less than this below the best is no failure


def measure(key: Case, shares: list[float], backend: Any) -> Case:
    """Fit all networks of one case: PSNR of training pixels, of held-out ones and of all."""
    size = key["size"]
    picture = square_photograph(key["picture"], size)
    base = make_config(key["settings"], {"train_on": "every-second", "size": None}, recipe=key["recipe"])
    chosen = choose_sigma(Job(picture, base.replace(sigma="auto")), backend)[0]
    sigmas = sorted({1.0, chosen, *(float(f"{share * size / 2:.2g}") for share in shares)})
    variants: list[tuple[str, float | None]] = [("none", None), ("basic", None)]
    variants += [("gaussian", sigma) for sigma in sigmas]
    once = base.resolved_steps((size // 2) ** 2)
    configs = [base.replace(encoding=e, sigma=s, evaluate_every=once) for e, s in variants]
    results = fit_together([Job(picture, config) for config in configs], backend)
    inside = ~training_mask("every-second", picture.samples)
    inside[-1], inside[:, -1] = False, False  # what lies beyond the last training pixels is a guess
    rows = [
        {"encoding": encoding, "sigma": sigma, "stopped": result.stopped}
        | {figure: result.metrics[figure] for figure in ("psnr_train", "psnr_held_out", "psnr")}
        | {"psnr_inside": psnr(result.reconstruction, picture.pixels, where=inside)}
        for (encoding, sigma), result in zip(variants, results, strict=True)
    ]
    return {"auto": chosen, "rows": rows}


def best(case: Case) -> Case:
    """Return the Gaussian network with the highest PSNR on held-out pixels."""
    return max(gaussians(case), key=lambda row: row["psnr_held_out"])


def gaussians(case: Case) -> list[Case]:
    """Return the rows of the Gaussian encoding, from the smallest sigma to the largest."""
    return [row for row in case["rows"] if row["encoding"] == "gaussian"]


def at_sigma(case: Case, sigma: float) -> Case:
    """Return the Gaussian network of one sigma."""
    return next(row for row in gaussians(case) if row["sigma"] == sigma)


def has_order(case: Case) -> bool:
    """Whether held-out pixels came out as none < basic < Gaussian at the best sigma."""
    none, basic = (row["psnr_held_out"] for row in case["rows"][:2])
    return bool(none < basic < best(case)["psnr_held_out"])


def blurs(case: Case) -> bool:
    """Whether the smallest sigma fails on training pixels and on held-out ones."""
    small, right = gaussians(case)[0], best(case)
    figures = ("psnr_train", "psnr_held_out")
    return small["sigma"] < right["sigma"] and all(small[f] < right[f] - FAILS for f in figures)


def is_noise(case: Case) -> bool:
    """Whether the largest sigma fails on held-out pixels alone."""
    large, right = gaussians(case)[-1], best(case)
    fails = large["psnr_held_out"] < right["psnr_held_out"] - FAILS
    return bool(large["sigma"] > right["sigma"] and fails and large["psnr_train"] >= right["psnr_train"])


def verdicts(case: Case) -> list[bool]:
    """Return whether what is expected came out: the order, and, for wrong sigmas, how they fail."""
    tried = len(gaussians(case)) > 2
    return [has_order(case), *([blurs(case), is_noise(case)] if tried else [])]


def show(cases: list[Case]) -> None:
    """Print a line for each case: for each sigma PSNR of the training pixels, then of the held-out ones."""
    print("PSNR / dB of held-out pixels, for the Gaussian encoding after that of training pixels")
    print(
        f"{'picture':<10}{'size':>5}{'none':>7}{'basic':>7}{'sigma too small':>22}{'best sigma':>22}"
        f"{'sigma too large':>22}{'auto':>22}{'more than sigma 1':>19}  order, blur, noise"
    )
    for case in cases:
        rows, auto = gaussians(case), at_sigma(case, case["auto"])
        pairs = "".join(
            f"{r['sigma']:>8g}:{r['psnr_train']:>6.2f} {r['psnr_held_out']:>6.2f}"
            for r in (rows[0], best(case), rows[-1], auto)
        )
        one = at_sigma(case, 1.0)
        gains = "".join(f"{auto[f] - one[f]:>+9.2f}" for f in ("psnr_train", "psnr_held_out"))
        none, basic = (row["psnr_held_out"] for row in case["rows"][:2])
        words = " ".join("yes" if verdict else "NO" for verdict in verdicts(case))
        print(f"{case['picture']:<10}{case['size']:>5}{none:>7.2f}{basic:>7.2f}{pairs}{gains:>19}  {words}")


def main() -> int:
    """Measure, write, print; return 1 if the order does not come out or a wrong sigma does not fail."""
    parser = study_parser("held_out", __doc__, SIZES)
    parser.add_argument("--recipe", choices=RECIPES, default="interpolate")
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES)
    args = parser.parse_args()
    of_all = {"recipe": args.recipe, "settings": settings_of(args)}
    keys = [{"picture": p, "size": n} | of_all for n, p in itertools.product(args.sizes, args.pictures)]
    backend = get_backend("cpu", threads=args.threads)
    shown = cases_of(args, keys, lambda key: measure(key, args.shares, backend), args.threads)
    show(shown)
    return 0 if all(all(verdicts(case)) for case in shown) else 1


if __name__ == "__main__":
    run_main("held_out", main)
