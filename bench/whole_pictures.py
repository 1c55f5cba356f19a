"""Fit whole photographs by tiles: seconds to a PSNR; time and memory grow with the pixels alone.

    python -m bench.whole_pictures [NAME|FILE ...] [--target 40] [--repeats 3] [--json FILE]
    python -m bench.whole_pictures coffee --megapixels 1.5 3 12 --fit "--tiles 8 --target-psnr 38" --json FILE
    python -m bench.whole_pictures coffee --megapixels 12 --fit "--recipe compact"

With `--megapixels` the picture is enlarged to each size, with detail added, and written to a file. Then
`coordfit fit` learns it and `coordfit render` draws 512x512 pixels of the model, each a process of its own, so
that the peak of its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from coordfit.backends import get_backend
from coordfit.images import Picture, load_picture
from coordfit.images.formats.png import PngWriter
from coordfit.tiles.fit import TiledFit
from coordfit.tiles.plan import TilePlan, plan_tiles

from .command_line import (
    PHOTOGRAPHS,
    BadInputError,
    Parser,
    count,
    device_name,
    new_file,
    picture_name,
    run_main,
)
from .records import ROOT, Runs
from .scikit_pictures import image_named, picture_named

_REFERENCE = 400_000


_ROWS_AT_ONCE = 256
_CROP = 512
_TIMES = ("seconds", "rate", "seconds_in_all", "crop_seconds")


def fit(picture: Picture, target: float, device: str) -> dict[str, Any]:
    """Return one fit by the tiles that `auto` takes for large pictures, and its figures."""
    plan = plan_tiles(picture, 8, {"target_psnr": target})
    if not isinstance(plan, TilePlan):
        raise BadInputError(plan)
    metrics = TiledFit(picture, plan, get_backend(device)).run().metrics
    pixels = picture.height * picture.width
    names = ("psnr", "ssim", "seconds", "epochs", "parameters_per_value")
    per_reference = metrics["seconds"] * _REFERENCE / pixels
    return {name: metrics[name] for name in names} | {"pixels": pixels, "rate": per_reference}


def enlarge(name: str, megapixels: float, to: Path) -> tuple[int, int]:
    """Write a picture of that many pixels: an existing one enlarged, with detail from its own grain."""
    image = image_named(name).convert("RGB")
    scale = math.sqrt(megapixels * 1e6 / (image.width * image.height))
    width, height = round(image.width * scale), round(image.height * scale)
    blurred = image.resize((image.width // 2, image.height // 2)).resize(image.size, Image.Resampling.BILINEAR)
    grain = np.asarray(image, np.int16) - np.asarray(blurred, np.int16)
    grain = np.tile(grain, (1, -(-width // image.width), 1))[:, :width]
    with to.open("wb") as file, PngWriter(file, width, height, 3) as png:
        for top in range(0, height, _ROWS_AT_ONCE):
            stop = min(top + _ROWS_AT_ONCE, height)
            window = (0, top * image.height / height, image.width, stop * image.height / height)
            rows = image.resize((width, stop - top), Image.Resampling.BICUBIC, box=window)
            detailed = np.asarray(rows, np.int16) + grain[np.arange(top, stop) % image.height]
            png.write_rows(np.clip(detailed, 0, 255).astype(np.uint8))
    return width, height


def in_a_process(*words: str) -> tuple[Any, float, float]:
    """Return what `coordfit` prints as JSON, its seconds, and the peak of its memory in MiB."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "bench.memory", *words, "--json"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise BadInputError(f"{shlex.join(command)} ended with {process.returncode}")
    return json.loads(process.stdout), seconds, float(process.stderr.splitlines()[-1])


def large(picture: str, megapixels: float, words: list[str], device: str) -> dict[str, Any]:
    """Return the figures of a fit of an enlarged picture, and of a window of its model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        width, height = enlarge(picture, megapixels, folder / "picture.png")
        run = ["--device", device, "--out", str(folder / "run"), "--max-pixels", str(width * height)]
        fitted, seconds, peak = in_a_process("fit", str(folder / "picture.png"), *words, *run)
        size = sum(file.stat().st_size for file in (folder / "run").iterdir())
        side = min(_CROP, width, height)
        window = f"{(width - side) // 2},{(height - side) // 2},{side},{side}"
        drawn = ["--crop", window, "--device", device, "--out", str(folder / "window.png")]
        _, crop_seconds, crop_peak = in_a_process("render", str(folder / "run"), *drawn)
    names = ("psnr", "ssim", "seconds", "epochs", "tiles", "parameters_per_value", "bits_per_pixel")
    metrics, pixels = fitted["metrics"], width * height
    metrics = {"epochs": metrics["steps"], "tiles": 0} | metrics  # of few bits
    return {
        "pixels": pixels,
        **{name: metrics[name] for name in names},
        "rate": metrics["seconds"] * _REFERENCE / pixels,
        "seconds_in_all": seconds,
        "peak_mib": peak,
        "folder_mb": size / 1e6,
        "crop_seconds": crop_seconds,
        "crop_peak_mib": crop_peak,
    }


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.whole_pictures", description=__doc__)
    parser.add_argument("pictures", nargs="*", type=picture_name, default=PHOTOGRAPHS, metavar="NAME|FILE")
    parser.add_argument("--target", type=float, default=40.0)
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--device", type=device_name, default="cpu")
    parser.add_argument("--megapixels", type=float, nargs="+")
    parser.add_argument("--fit", metavar="WORDS", help="of `coordfit fit`, with --megapixels")
    parser.add_argument(
        "--json", type=new_file, metavar="FILE", help="write the rows here too; those of other fits stay"
    )
    parser.add_argument("--without-times", action="store_true", help="of that file, where the machine is busy")
    options = parser.parse_args()
    runs = Runs(options.json, "rows", ["scikit-image"])
    if options.megapixels:
        words = shlex.split(options.fit or f"--tiles 8 --target-psnr {options.target:g}")
        _print_large(options, words, runs)
        return
    print("| picture | pixels | PSNR | SSIM | s | s / 400 000 pixels | steps | parameters / value |")
    print("|---" * 8 + "|")
    for name in options.pictures:
        picture = picture_named(name)
        fit(load_picture(picture.pixels[:64, :64]), options.target, options.device)  # compile first
        fits = [fit(picture, options.target, options.device) for _ in range(options.repeats)]
        middle = sorted(fits, key=lambda made: made["seconds"])[len(fits) // 2]
        key = {"picture": Path(name).stem, "target": options.target}
        row = runs.keep(key, middle | {"seconds_of_each": [made["seconds"] for made in fits]})
        print(f"| {row['picture']} | " + " | ".join(_cells(row)) + " |", flush=True)


def _print_large(options: argparse.Namespace, words: list[str], runs: Runs) -> None:
    print(
        "| picture | pixels | PSNR | SSIM | s | s / 400 000 pixels | steps | parameters / value | s in all "
        "| peak MiB | folder MB | 512x512 window, s | peak MiB |"
    )
    print("|---" * 13 + "|")
    for name in options.pictures:
        for megapixels in options.megapixels:
            row = large(name, megapixels, words, options.device)
            dropped = _TIMES if options.without_times else ()
            key = {"picture": Path(name).stem, "fit": shlex.join(words), "megapixels": megapixels}
            runs.keep(key, {figure: value for figure, value in row.items() if figure not in dropped})
            last = ("seconds_in_all", "peak_mib", "folder_mb", "crop_seconds", "crop_peak_mib")
            cells = [key["picture"], *_cells(row), *(f"{row[figure]:.0f}" for figure in last)]
            print("| " + " | ".join(cells) + " |", flush=True)


def _cells(run: dict[str, Any]) -> list[str]:
    return [
        f"{run['pixels']:,d}",
        f"{run['psnr']:.2f}",
        f"{run['ssim']:.4f}",
        f"{run['seconds']:.2f}",
        f"{run['rate']:.2f}",
        f"{run['epochs']:.1f}",
        f"{run['parameters_per_value']:.2f}",
    ]


if __name__ == "__main__":
    run_main("whole_pictures", main)
