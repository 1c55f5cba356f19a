"""Whole photographs by tiles: seconds to a PSNR, and that time and memory grow with the pixels alone.

    python -m bench.whole_pictures PICTURE ... [--target 40] [--repeats 3]
    python -m bench.whole_pictures PICTURE --target 38 --megapixels 1 3 12

With `--megapixels` the picture is enlarged to each size, with detail added, and each fit is a process of its
own, so that the peak of its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from coordfit._backends import get_backend
from coordfit.images import Picture, load_picture
from coordfit.tiles.fit import TiledFit
from coordfit.tiles.plan import TilePlan, plan_tiles

_REFERENCE = 400_000


def fit(picture: Picture, target: float, device: str, folder: Path | None = None) -> dict[str, Any]:
    """One fit by the tiles that `auto` takes for large pictures; its figures, and the peak of memory in MiB."""
    plan = plan_tiles(picture, 8, {"target_psnr": target})
    if not isinstance(plan, TilePlan):
        raise SystemExit(plan)
    metrics = TiledFit(picture, plan, get_backend(device), folder=folder).run().metrics
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pixels = picture.height * picture.width
    names = ("psnr", "ssim", "seconds", "epochs", "parameters_per_value", "bits_per_pixel", "tiles")
    per_reference = metrics["seconds"] * _REFERENCE / pixels
    return {name: metrics[name] for name in names} | {"pixels": pixels, "rate": per_reference, "peak_mib": peak}


def enlarged(path: str, megapixels: float) -> Picture:
    """A picture of so many pixels: the one that is there enlarged, and detail from its own grain added."""
    image = Image.open(path).convert("RGB")
    scale = math.sqrt(megapixels * 1e6 / (image.width * image.height))
    size = (round(image.width * scale), round(image.height * scale))
    large = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.uint8)
    small = np.asarray(image, dtype=np.float32)
    blurred = image.resize((image.width // 2, image.height // 2)).resize(image.size, Image.Resampling.BILINEAR)
    grain = small - np.asarray(blurred, dtype=np.float32)
    repeats = (-(-size[1] // image.height), -(-size[0] // image.width), 1)
    detail = np.tile(grain, repeats)[: size[1], : size[0]]
    return load_picture(np.clip(large + detail, 0, 255).astype(np.uint8))


def in_a_process(path: str, target: float, megapixels: float, device: str) -> dict[str, Any]:
    """The figures of a fit of an enlarged picture, by a process that does nothing else."""
    words = [sys.executable, "-m", __spec__.name, path, "--target", str(target), "--device", device]
    done = subprocess.run(
        [*words, "--only-megapixels", str(megapixels)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.whole_pictures", description=__doc__)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--target", type=float, default=40.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--megapixels", type=float, nargs="+")
    parser.add_argument("--only-megapixels", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_megapixels:
        with tempfile.TemporaryDirectory() as folder:
            picture = enlarged(options.pictures[0], options.only_megapixels)
            print(json.dumps(fit(picture, options.target, options.device, Path(folder))))
        return
    print("| picture | pixels | PSNR | SSIM | s | s / 400 000 pixels | steps | parameters / value | peak MiB |")
    print("|---" * 9 + "|")
    for path in options.pictures:
        if options.megapixels:
            for size in options.megapixels:
                _print_row(path, in_a_process(path, options.target, size, options.device))
            continue
        picture = load_picture(path)
        fit(load_picture(picture.pixels[:64, :64]), options.target, options.device)  # what is compiled is there
        runs = [fit(picture, options.target, options.device) for _ in range(options.repeats)]
        middle = statistics.median(run["seconds"] for run in runs)
        _print_row(path, next(run for run in runs if run["seconds"] == middle))


def _print_row(path: str, run: dict[str, Any]) -> None:
    cells = [
        Path(path).name,
        f"{run['pixels']:,d}",
        f"{run['psnr']:.2f}",
        f"{run['ssim']:.4f}",
        f"{run['seconds']:.2f}",
        f"{run['rate']:.2f}",
        f"{run['epochs']:.1f}",
        f"{run['parameters_per_value']:.2f}",
        f"{run['peak_mib']:.0f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
