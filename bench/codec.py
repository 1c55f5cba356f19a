"""Compare `coordfit compress` with the codecs of Pillow: bits per pixel of files at the same PSNR.

    python -m bench.codec kodim07.png kodim15.png                            # 500 steps, 34, 36, 38 and 40 dB
    python -m bench.codec kodim*.png --psnr 38 40 --steps 2800 --json bench/results/codec.json
    python -m bench.codec --show --json a.json --with b.json --plot docs/figures/codec.svg

A row is a picture at a point; threads change its seconds alone. The record's rows of the same picture, point,
budget and commit are kept, so that a run can be interrupted, and two processes can measure different pictures
into different records. Encoding and decoding run in a fresh process each, whose peak memory is that of the row.
The other codecs' bits are at the PSNR of the row, interpolated between two neighbouring qualities.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coordfit.codec import Compressed, Target, compress, decode, decompress
from coordfit.images.metrics import bits_per_pixel, psnr
from coordfit.images.other_codecs import BEST_EFFORT, Curve
from coordfit.images.other_codecs import decode as decode_other

from .codec_scores import Row, plot, tables
from .command_line import BadInputError, Parser, count, new_file, recorded, run_main
from .memory import peak_mib
from .records import Runs, made

Pixels = NDArray[np.uint8]


def pixels_of(picture: str) -> Pixels:
    """Return the levels (H, W, 3) of a picture file, or (H, W, 1) if it is grey."""
    with Image.open(picture) as image:
        levels = np.asarray(image.convert("L" if image.mode == "L" else "RGB"))
    return levels.reshape(*levels.shape[:2], -1)


def timed(work: Callable[[], Any], name: str) -> tuple[Any, dict[str, float]]:
    """Return what a call returns, with its processor and wall seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    spent = {f"{name}_processor": time.process_time() - processor, f"{name}_wall": time.perf_counter() - wall}
    return found, spent


def encoded(
    picture: str, point: dict[str, float], budget: dict[str, Any], threads: int | None
) -> tuple[bytes, Row]:
    """Return a picture's file, and what it took."""
    target = Target(**{"lmbda" if name == "lambda" else name: value for name, value in point.items()})
    (data, report), spent = timed(
        lambda: compress(pixels_of(picture), target, threads=threads, **budget), "encode"
    )
    return data, spent | {"steps": report.steps, "lambda": report.lmbda, "encode_peak_mib": peak_mib()}


def decoded(data: bytes, picture: str) -> Row:
    """Return the figures of a file: quality, size, and what decoding took."""
    found, spent = timed(lambda: decompress(data), "decode")
    peak = peak_mib()
    pixels = pixels_of(picture)
    return {
        "psnr": psnr(found / 255.0, pixels / 255.0),
        "bits": bits_per_pixel(len(data), pixels[..., 0].size),
        **spent,
        "decode_peak_mib": peak,
        "macs_per_pixel": macs_per_pixel(decode(data)),
    }


def macs_per_pixel(picture: Compressed) -> float:
    """Return the multiply-accumulates of decoding, by pixel of the picture.

    Those of the context network for each latent, of enlarging (four weights for each value of a row at the full
    width, and four for each of the picture), and of each weight of the decoder network for each pixel.
    """
    latents = sum(level.size for level in picture.latents)
    contexts = sum(layer.weights.size for layer in picture.network.layers)
    enlarging = sum(len(level) * (4 + 4 / 2**i) for i, level in enumerate(picture.latents) if i)
    decoder = sum(array.values.size for array in picture.synthesis if array.values.ndim > 1)
    return latents * contexts / (picture.height * picture.width) + enlarging + decoder


def others(pixels: Pixels, decibels: float) -> Row:
    """Return the bits per pixel of each other codec at a PSNR, and its processor seconds near it."""
    found: Row = {}
    for codec in BEST_EFFORT:
        curve = Curve(codec, pixels)
        above = curve.reaching(decibels) if codec.is_there else None
        if above is None:
            continue
        image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        data, spent = timed(lambda c=codec, i=image, a=above: c.encode(i, a.index), "encode")
        _, decoding = timed(lambda d=data, i=image: decode_other(d, i.mode), "decode")
        found[codec.name] = {"bits": curve.bits_at(decibels)} | spent | decoding
    return found


def measure(picture: str, point: dict[str, float], budget: dict[str, Any], threads: int | None) -> Row:
    """Return the row of a picture at a point."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as fresh:
        data, row = fresh.submit(encoded, picture, point, budget, threads).result()
        row |= fresh.submit(decoded, data, picture).result()
    return row | {"others": others(pixels_of(picture), row["psnr"])}


def options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = Parser(prog="python -m bench.codec", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="pictures")
    points = parser.add_mutually_exclusive_group()
    points.add_argument("--psnr", nargs="+", type=float, default=[34, 36, 38, 40], metavar="DB")
    points.add_argument("--lambdas", nargs="+", type=float, help="prices of a bit, in place of PSNR")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=count, default=500)
    budget.add_argument("--seconds", type=float)
    parser.add_argument("--threads", type=count, help="of training (default: all cores)")
    parser.add_argument(
        "--json", type=new_file, metavar="FILE", help="the record: read, and written row by row"
    )
    parser.add_argument("--with", nargs="+", type=Path, default=[], metavar="FILE", dest="more")
    parser.add_argument("--show", action="store_true", help="measure nothing, and print the means")
    parser.add_argument("--plot", type=new_file, metavar="FILE.svg")
    asked = parser.parse_args()
    if not asked.files and not asked.show and not asked.plot:
        parser.error("name pictures to measure, or --show or --plot with --json")
    return asked


def main() -> None:
    """Run the command line."""
    asked = options()
    runs = Runs(asked.json, "rows", threads=asked.threads)
    more = [row for file in asked.more for row in recorded(file, "rows")]
    if asked.show or not asked.files:
        rows = [*runs.rows, *more]
        wanted = {Path(file).name for file in asked.files}
        rows = [row for row in rows if not wanted or row["picture"] in wanted]
    else:
        rows = measured(asked, runs, more)
    if not rows:
        raise BadInputError("there is no row to show: name a record with rows by --json or --with")
    print("\n".join(tables(rows)))
    if asked.plot:
        plot(rows, asked.plot)


def measured(asked: argparse.Namespace, runs: Runs, more: list[Row]) -> list[Row]:
    """Return the rows of all pictures at all points, and tell each as it comes."""
    budget = {"seconds": asked.seconds} if asked.seconds else {"steps": asked.steps}
    name, values = ("lambda", asked.lambdas) if asked.lambdas else ("psnr", asked.psnr)
    digests = {file: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in asked.files}
    named = made((), asked.threads)
    of = {"commit": f"{named['commit']}{'-dirty' * bool(named['dirty'])}"}
    rows = []
    for file in asked.files:
        for value in values:
            key = {"digest": digests[file], "point": {name: value}, "budget": budget}
            known = [*runs.find(key | of), *(row for row in more if (key | of).items() <= row.items())]
            if not known:
                found = measure(file, {name: value}, budget, asked.threads)
                known = [runs.keep(key, of | {"picture": Path(file).name} | found)]
            rows.append(known[0])
            print(said(known[0]), file=sys.stderr, flush=True)
    return rows


def said(row: Row) -> str:
    """Return a row in one line."""
    beside = ", ".join(f"{name} {found['bits']:.3f}" for name, found in row["others"].items())
    head = f"{row['picture']}: {row['psnr'] or math.nan:.2f} dB, {row['bits']:.3f} bits per pixel"
    return f"{head}, {row['steps']} steps, {row['encode_processor']:.0f} s; {beside}"


if __name__ == "__main__":
    run_main("codec", main)
