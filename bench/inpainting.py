"""Hide half of the pixels: what networks make of them, beside fillings that learn nothing.

    python -m bench.inpainting                # four photographs at 128x128: a minute on two quiet cores
    python -m bench.inpainting --average 4    # the mean of four networks each: some three minutes
    python -m bench.inpainting --missing 0.9 --sizes 64
    python -m bench.inpainting --json bench/results/inpainting.json --show

Photographs are cut to their middle squares. PSNR is that of hidden pixels alone; the nearest known pixel and
biharmonic equations (Damelin and Hoang, 2018, as scikit-image has them) are what a network has to beat.
"""

from __future__ import annotations

import itertools
from statistics import fmean
from typing import Any

from coordfit import get_backend
from coordfit.images.masks import hide
from coordfit.tasks.filling.network import DEFAULTS, Inpainter, plan_inpainting
from coordfit.tasks.jobs.settings import Settings
from coordfit.tiles.plan import TileOptions

from .command_line import count, run_main, share
from .recorded_cases import Case, cases_of, settings_of, study_parser
from .scikit_pictures import square_photograph

FIGURES = {
    "psnr_hidden": "network",
    "psnr_hidden_nearest": "nearest",
    "psnr_hidden_biharmonic": "biharmonic",
    "ssim_filled": "network",
    "ssim_nearest": "nearest",
    "ssim_biharmonic": "biharmonic",
}


def measure(key: Case, backend: Any) -> Case:
    """Fill one photograph by the mean of as many networks as the key says."""
    settings = Settings([key["settings"]], defaults=DEFAULTS)
    picture = square_photograph(key["picture"], key["size"])
    masked = hide(picture, missing=key["missing"], seed=settings.config.seed)
    job = plan_inpainting(masked, settings, TileOptions(), key["average"])
    metrics = Inpainter(masked, job, backend).run().metrics
    return {column: metrics[column] for column in (*FIGURES, "sigma", "steps", "seconds")}


def show(cases: list[Case]) -> None:
    """Print a line for each case, and their mean."""
    print(f"{'':<22}{'PSNR of hidden pixels / dB':^36}{'SSIM of the filled picture':^36}")
    print(f"{'picture':<12}{'size':>5}{'sigma':>5}" + "".join(f"{label:>12}" for label in FIGURES.values()))
    for case in cases:
        cells = "".join(f"{case[c]:>12.{2 if c.startswith('psnr') else 4}f}" for c in FIGURES)
        print(f"{case['picture']:<12}{case['size']:>5}{case['sigma']:>5.2g}{cells}")
    means = (fmean(case[column] for case in cases) for column in FIGURES)
    print(f"{'mean':<22}" + "".join(f"{mean:>12.{2 if mean > 1 else 4}f}" for mean in means))


def main() -> int:
    """Measure, write, print; return 1 if a network is not better than the nearest pixel."""
    parser = study_parser("inpainting", __doc__, (128,))
    parser.add_argument("--missing", type=share, default=0.5)
    parser.add_argument("--average", type=count, default=1, help="networks that the mean is taken of")
    args = parser.parse_args()
    of_all = {"missing": args.missing, "average": args.average, "settings": settings_of(args)}
    keys = [{"picture": p, "size": n} | of_all for n, p in itertools.product(args.sizes, args.pictures)]
    backend = get_backend("cpu", threads=args.threads)
    shown = cases_of(args, keys, lambda key: measure(key, backend), args.threads)
    show(shown)
    return 0 if all(case["psnr_hidden"] > case["psnr_hidden_nearest"] for case in shown) else 1


if __name__ == "__main__":
    run_main("inpainting", main)
