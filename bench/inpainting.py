"""Half of the pixels hidden: what `coordfit inpaint` makes of them, beside fillings that learn nothing.

    python -m bench.inpainting                # four photographs at 128x128: a minute on two quiet cores
    python -m bench.inpainting --average 4    # the mean of four networks each: some three minutes
    python -m bench.inpainting --missing 0.9 --sizes 64
    python -m bench.inpainting --json bench/results/inpainting.json --show

Photographs are cut to their middle squares. PSNR is that of hidden pixels alone; the nearest known pixel and
biharmonic equations (Damelin and Hoang, 2018, as scikit-image has them) are what a network has to beat.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from coordfit import get_backend
from coordfit.files import write_json
from coordfit.inpainting import Inpainter, inpainting_config
from coordfit.masks import hide

from .scikit_pictures import PHOTOGRAPHS, square_photograph

FIGURES = {
    "psnr_hidden": "network",
    "psnr_hidden_nearest": "nearest",
    "psnr_hidden_biharmonic": "biharmonic",
    "ssim_filled": "network",
    "ssim_nearest": "nearest",
    "ssim_biharmonic": "biharmonic",
}
Case = dict[str, Any]


def measure(name: str, size: int, missing: float, average: int, settings: Case, backend: Any) -> Case:
    """One photograph, filled by the mean of `average` networks."""
    config = inpainting_config(settings)
    masked = hide(square_photograph(name, size), missing=missing, seed=config.seed)
    metrics = Inpainter(masked, config, backend, average).run().metrics
    told = {column: metrics[column] for column in (*FIGURES, "sigma", "steps", "seconds")}
    place = {"picture": name, "size": size, "missing": missing, "average": average, "settings": settings}
    return place | told


def show(cases: list[Case]) -> None:
    """A line for each case and their mean."""
    print(f"{'':<22}{'PSNR of hidden pixels / dB':^36}{'SSIM of the filled picture':^36}")
    print(f"{'picture':<12}{'size':>5}{'sigma':>5}" + "".join(f"{label:>12}" for label in FIGURES.values()))
    for case in cases:
        cells = "".join(f"{case[c]:>12.{2 if c.startswith('psnr') else 4}f}" for c in FIGURES)
        print(f"{case['picture']:<12}{case['size']:>5}{case['sigma']:>5.2g}{cells}")
    means = (fmean(case[column] for case in cases) for column in FIGURES)
    print(f"{'mean':<22}" + "".join(f"{mean:>12.{2 if mean > 1 else 4}f}" for mean in means))


def main() -> int:
    """Measure, write, print; 1 where a network is not better than the nearest pixel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", nargs="+", choices=PHOTOGRAPHS, default=PHOTOGRAPHS)
    parser.add_argument("--sizes", nargs="+", type=int, default=(128,))
    parser.add_argument("--missing", type=float, default=0.5)
    parser.add_argument("--average", type=int, default=1, help="networks that the mean is taken of")
    parser.add_argument("--steps", type=int, help="of each fit, instead of the default")
    parser.add_argument("--json", type=Path, help="write the cases here; those of other runs stay")
    parser.add_argument("--show", action="store_true", help="print the table of that file, and no more")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    settings = {} if args.steps is None else {"steps": args.steps}
    cases: list[Case] = json.loads(args.json.read_text())["cases"] if args.json and args.json.exists() else []
    backend, shown = get_backend("cpu", threads=args.threads), []
    for size in args.sizes:
        for name in args.pictures:
            key = {"picture": name, "size": size, "missing": args.missing, "average": args.average}
            key |= {"settings": settings}
            same = [case for case in cases if key.items() <= case.items()]
            if not args.show:
                made = measure(name, size, args.missing, args.average, settings, backend)
                cases, same = [case for case in cases if case not in same] + [made], [made]
                if args.json:
                    write_json(args.json, {"cases": cases})
            shown += same
    show(shown)
    return 0 if all(case["psnr_hidden"] > case["psnr_hidden_nearest"] for case in shown) else 1


if __name__ == "__main__":
    raise SystemExit(main())
