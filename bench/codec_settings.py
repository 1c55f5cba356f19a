"""Train pyramids with other settings: what each piece of the codec is worth.

    python -m bench.codec_settings a.png b.png                           # the defaults alone
    python -m bench.codec_settings a.png b.png --set hidden=12 --set "temperatures=(0.3, 0.1)" --steps 100

Prints what training makes small, `MSE / lambda` plus the bits per pixel of the latents, in the mean over the
pictures' middle squares, and the processor seconds of one picture. A difference is one of bits per pixel at
equal quality. `--set` takes a field of `PyramidSettings`, and is one line of the table.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from coordfit import get_backend
from coordfit.codec import PyramidSettings
from coordfit.codec.pyramid.training import PyramidTrainer

from .command_line import BadInputError, Parser, count, new_file, run_main
from .records import Runs

FIELDS = {field.name for field in dataclasses.fields(PyramidSettings)}


def setting(text: str) -> tuple[str, Any]:
    """Return the name and the value of NAME=VALUE, for `type=` of an option."""
    name, _, value = text.partition("=")
    if name not in FIELDS:
        raise argparse.ArgumentTypeError(f"there is no setting {name!r}; known: {', '.join(sorted(FIELDS))}")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        raise argparse.ArgumentTypeError(f"{value!r} is no number, word or tuple of {name}") from None


def middle(file: Path, side: int) -> np.ndarray[Any, Any]:
    """Return the colours (3, side, side) of the middle of a picture, in [0, 1]."""
    pixels = np.asarray(Image.open(file).convert("RGB"), np.float32) / 255
    if min(pixels.shape[:2]) < side:
        raise BadInputError(f"{file} is smaller than {side}x{side}; take --side")
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side].transpose(2, 0, 1)


def loss(colours: np.ndarray[Any, Any], settings: PyramidSettings, lmbda: float, steps: int) -> float:
    """Return `MSE / lambda + bits per pixel` after training."""
    trainer = PyramidTrainer(colours, lmbda, settings)
    for step in range(steps):
        trainer.step(step / steps)
    mse, bits = trainer.loss_parts()
    return mse / lmbda + bits


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.codec_settings", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--set", action="append", type=setting, default=[], metavar="NAME=VALUE", dest="changes"
    )
    parser.add_argument("--steps", type=count, default=300)
    parser.add_argument("--side", type=count, default=192)
    parser.add_argument("--lambda", type=float, default=1.5e-4, dest="lmbda")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the rows here; others stay")
    parser.add_argument("--without-times", action="store_true", help="of that file, where the machine is busy")
    options = parser.parse_args()
    runs = Runs(options.json, "rows", threads=1)
    of = {"pictures": [file.name for file in options.files], "side": options.side, "lambda": options.lmbda}
    pictures = [middle(file, options.side) for file in options.files]
    for change in [(), *options.changes]:
        settings = dataclasses.replace(PyramidSettings(), **dict([change] if change else []))
        began = time.process_time()
        with get_backend("numpy", threads=1).activate():
            found = fmean(loss(colours, settings, options.lmbda, options.steps) for colours in pictures)
        seconds = (time.process_time() - began) / len(pictures)
        name = "=".join(map(str, change)) or "defaults"
        times = {} if options.without_times else {"seconds": seconds}
        runs.keep({"change": name, "steps": options.steps, **of}, {"loss": found} | times)
        print(f"{name:<40}{found:8.3f}{seconds:8.1f} s", flush=True)


if __name__ == "__main__":
    run_main("codec_settings", main)
