"""Compress pictures one by one, and all in one large picture: what size costs or saves.

    python -m bench.codec_mosaic kodim*.png --times 2 --steps 200 --lmbda 2e-4

All have one size; the large picture has each of them `--times` times, in rows. At one price of a bit and one
number of steps, the difference of `bits per pixel + MSE / lambda` is one of bits at equal quality. Seconds are
of the clock; the peak is that of the process, which has the large picture last.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from coordfit.codec import CompressionReport, Target, compress
from coordfit.images import load_picture
from coordfit.images.formats.levels import Levels

from .command_line import BadInputError, Parser, count, new_file, run_main
from .memory import peak_mib
from .records import Runs


def measured(name: str, levels: Levels, lmbda: float, steps: int) -> tuple[float, float, float]:
    """Compress, print the figures, and return bits per pixel, MSE and the loss."""
    began = time.monotonic()
    _, report = compress(levels, Target(lmbda=lmbda), steps=steps)
    mse = 10 ** (-report.psnr / 10)
    height, width = levels.shape[:2]
    print(f"{name} ({width}x{height}): {_words(report)}, {time.monotonic() - began:.0f} s", flush=True)
    return report.bits_per_pixel, mse, report.bits_per_pixel + mse / lmbda


def _words(report: CompressionReport) -> str:
    return f"{report.psnr:.2f} dB, {report.bits_per_pixel:.3f} bits per pixel"


def mosaic(pictures: list[Levels], times: int) -> Levels:
    """Return a picture of all pictures, as nearly square as their number allows."""
    cells = pictures * times
    across = next(n for n in range(math.isqrt(len(cells)), 0, -1) if len(cells) % n == 0)
    rows = [np.concatenate(cells[i : i + across], 1) for i in range(0, len(cells), across)]
    return np.concatenate(rows)


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.codec_mosaic", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path)
    parser.add_argument("--times", type=count, default=1)
    parser.add_argument("--steps", type=count, default=200)
    parser.add_argument("--lmbda", type=float, default=2e-4)
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the row here; others stay")
    options = parser.parse_args()
    pictures = [load_picture(file).levels for file in options.files]
    if len({levels.shape for levels in pictures}) > 1:
        raise BadInputError("the pictures must have one size")
    found = [
        measured(file.name, levels, options.lmbda, options.steps)
        for file, levels in zip(options.files, pictures, strict=True)
    ]
    bits, mse, loss = np.mean(found, axis=0)
    print(f"mean: {-10 * math.log10(mse):.2f} dB, {bits:.3f} bits per pixel")
    large = measured("all in one", mosaic(pictures, options.times), options.lmbda, options.steps)
    share, peak = 100 * (large[2] - loss) / bits, peak_mib()
    print(f"at equal quality {share:+.1f} % of the bits; peak {peak:.0f} MiB")
    key = {"pictures": [file.name for file in options.files], "times": options.times}
    key |= {"steps": options.steps, "lambda": options.lmbda}
    Runs(options.json, "rows").keep(key, {"share_of_bits": share, "bits": bits, "peak_mib": peak})


if __name__ == "__main__":
    run_main("codec_mosaic", main)
