"""Hide half of the pixels, and fill them by kriging, beside biharmonic equations; nothing is trained.

    python -m bench.kriging                    # four photographs at 128x128: some ten seconds
    python -m bench.kriging --missing 0.9
    python -m bench.kriging --sizes 128 256 512 --json bench/results/kriging.json --show

PSNR is that of hidden pixels. `within` is the share of them whose error, a root mean square over channels,
is at most one or two of the standard deviations that kriging gives for them.
"""

from __future__ import annotations

import itertools
import time
from statistics import fmean

import numpy as np

from coordfit.images.interpolation import biharmonic_fill
from coordfit.images.masks import hide
from coordfit.images.metrics import psnr
from coordfit.kriging import fill_hidden

from .command_line import run_main, share
from .recorded_cases import Case, cases_of, study_parser
from .scikit_pictures import square_photograph

COLUMNS = ("psnr_hidden_biharmonic", "psnr_hidden", "within_1", "within_2", "seconds")


def measure(key: Case, threads: int) -> Case:
    """Fill one photograph both ways."""
    masked = hide(square_photograph(key["picture"], key["size"]), missing=key["missing"], seed=0)
    truth, hidden = masked.picture.pixels, ~masked.known
    began = time.perf_counter()
    filled, deviation = fill_hidden(truth, masked.known, threads=threads)
    seconds = time.perf_counter() - began
    error = np.sqrt(np.mean((filled - truth) ** 2, axis=-1))[hidden]
    found = {f"within_{n}": float(np.mean(error <= n * deviation[hidden])) for n in (1, 2)}
    shown = np.where(masked.known[..., None], truth, 0.0)
    smooth = np.clip(biharmonic_fill(shown, masked.known), 0.0, 1.0)
    both = {"psnr_hidden": filled, "psnr_hidden_biharmonic": smooth}
    return (
        found
        | {name: psnr(picture, truth, where=hidden) for name, picture in both.items()}
        | {"seconds": seconds}
    )


def show(cases: list[Case]) -> None:
    """Print a line for each case, and their mean."""
    labels = ("biharmonic", "kriging", "within 1", "within 2", "seconds")
    print(f"{'picture':<12}{'size':>5}" + "".join(f"{label:>12}" for label in labels))
    for case in cases:
        print(f"{case['picture']:<12}{case['size']:>5}" + "".join(f"{case[c]:>12.2f}" for c in COLUMNS))
    print(f"{'mean':<17}" + "".join(f"{fmean(case[c] for case in cases):>12.2f}" for c in COLUMNS))


def main() -> int:
    """Measure, write, print; return 1 if kriging is not better than biharmonic equations."""
    parser = study_parser("kriging", __doc__, (128,))
    parser.add_argument("--missing", type=share, default=0.5)
    args = parser.parse_args()
    pairs = itertools.product(args.sizes, args.pictures)
    keys = [{"picture": name, "size": size, "missing": args.missing} for size, name in pairs]
    threads = args.threads or 1
    shown = cases_of(args, keys, lambda key: measure(key, threads), threads)
    show(shown)
    return 0 if all(case["psnr_hidden"] > case["psnr_hidden_biharmonic"] for case in shown) else 1


if __name__ == "__main__":
    run_main("kriging", main)
