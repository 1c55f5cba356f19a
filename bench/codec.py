"""Compare `coordfit.codec` with the codecs of Pillow: bits per pixel of files at the same PSNR.

    python -m bench.codec kodim07.png kodim15.png                          # 500 steps, three prices of a bit
    python -m bench.codec kodim07.png --lambdas 2e-4 --seconds 60 --json codec.json

A codec's bits at a PSNR are interpolated, as logarithms, between the qualities below. Seconds are of the
processor; training and encoding have one thread.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from coordfit.codec import Target, compress, decompress
from coordfit.images.metrics import psnr

from .command_line import Parser, count, new_file, run_main

QUALITIES = {
    "JPEG": [{"quality": q, "optimize": True, "progressive": True} for q in (30, 50, 70, 80, 88, 94, 97)],
    "JPEG 4:4:4": [
        {"quality": q, "optimize": True, "progressive": True, "subsampling": 0}
        for q in (30, 50, 70, 80, 88, 94, 97, 99)
    ],
    "JPEG2000": [
        {"quality_mode": "dB", "quality_layers": [q], "irreversible": True, "mct": 1} for q in range(28, 47, 2)
    ],
    "WEBP": [{"quality": q, "method": 6} for q in (15, 45, 75, 85, 90, 95, 98, 100)],
    "AVIF": [{"quality": q, "speed": 6, "subsampling": "4:4:4"} for q in (45, 55, 65, 75, 82, 88, 92, 95, 98)],
}

Pixels = NDArray[np.uint8]


def classical(pixels: Pixels) -> dict[str, list[tuple[float, float]]]:
    """Return PSNR and bits per pixel of each of Pillow's codecs at each quality, rising."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, qualities in QUALITIES.items():
        kind = name.split()[0]
        if kind == "AVIF" and not features.check("avif"):
            continue
        points = []
        for options in qualities:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, kind, **options)
            decoded = np.asarray(Image.open(file).convert("RGB"))
            points.append((psnr(decoded / 255.0, pixels / 255.0), 8 * file.tell() / pixels[..., 0].size))
        found[name] = sorted(points)
    return found


def bits_at(points: list[tuple[float, float]], decibels: float) -> float:
    """Return the bits per pixel at a PSNR; NaN beyond the points."""
    values, bits = zip(*points, strict=True)
    found = np.interp(decibels, values, np.log(bits), left=math.nan, right=math.nan)
    return float(np.exp(found))


def ours(pixels: Pixels, lmbda: float, budget: dict[str, Any]) -> dict[str, Any]:
    """Return what one price of a bit comes to."""
    start = time.process_time()
    data, report = compress(pixels, Target(lmbda=lmbda), **budget)
    encoded = time.process_time()
    found = decompress(data)
    return {
        "lambda": lmbda,
        "psnr": psnr(found / 255.0, pixels / 255.0),
        "bits": 8 * len(data) / pixels[..., 0].size,
        "steps": report.steps,
        "encode": encoded - start,
        "decode": time.process_time() - encoded,
    }


def rows_of(picture: str, lambdas: list[float], budget: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each price of a bit, with what the other codecs take at its PSNR."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    others = classical(pixels)
    for lmbda in lambdas:
        row = ours(pixels, lmbda, budget)
        yield {
            "picture": picture,
            **row,
            **{name: bits_at(points, row["psnr"]) for name, points in others.items()},
        }


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.codec")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--lambdas", nargs="+", type=float, default=[8e-4, 2e-4, 1e-4])
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=count, default=500)
    budget.add_argument("--seconds", type=float)
    parser.add_argument("--json", type=new_file, metavar="FILE")
    options = parser.parse_args()
    chosen = {"seconds": options.seconds} if options.seconds else {"steps": options.steps}
    names = [*QUALITIES]
    print(f"| picture | lambda | PSNR | bits | encode, decode | {' | '.join(names)} |")
    print(f"|{'---|' * (5 + len(names))}")
    found = []
    for file in options.files:
        for row in rows_of(file, options.lambdas, chosen):
            found.append(row)
            others = " | ".join(f"{row.get(name, math.nan):.3f}" for name in names)
            seconds = f"{row['encode']:.0f} s, {row['decode']:.2f} s"
            head = f"{file} | {row['lambda']:g} | {row['psnr']:.2f} | {row['bits']:.3f} | {seconds}"
            print(f"| {head} | {others} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    run_main("codec", main)
