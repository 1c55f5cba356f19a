"""Halve photographs, enlarge them again, and compare with the original: PSNR over all channels.

    python -m bench.enlarge kodim01.png kodim03.png                   # halved by means over 2x2 pixels
    python -m bench.enlarge --fitted --steps 300 kodim01.png          # halved, and fitted to 40 dB
    python -m bench.enlarge --every-second --sizes 128 256            # every second pixel of four photographs
    python -m bench.enlarge --json bench/results/enlarge.json --show

Beside Pillow's bicubic and Lanczos stands Lanczos with two rounds of back-projection: the halved result is
compared with the halved picture, and the difference is enlarged and added. Rows and columns that are left out
are points, and not means: `coordfit inpaint` fills them by kriging, and PSNR is that of these pixels. With
`--fitted` the halved picture, in 8 bits, becomes a function of few bits by the recipe `compact`; it is drawn at
twice the size as the function is between its pixels, and as `coordfit render` does, which enlarges it. Seconds
are of the processor, with one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import coordfit
from coordfit import get_backend
from coordfit.enlarging import enlarged
from coordfit.images import load_picture
from coordfit.images.formats.png import quantize
from coordfit.images.metrics import interpolate_every_second, psnr
from coordfit.images.resizing import resize_channels
from coordfit.kriging import fill_hidden

from .command_line import PHOTOGRAPHS, BadInputError, Parser, count, new_file, recorded, run_main
from .recorded_cases import Case, cases_of
from .scikit_pictures import square_photograph

Colours = NDArray[np.float32]


def halved(colours: Colours) -> Colours:
    """Return the means over 2x2 pixels (H/2, W/2, C)."""
    height, width, channels = colours.shape
    means: Colours = colours.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))
    return means


def resized(kernel: Image.Resampling) -> Callable[[Colours], Colours]:
    """Return Pillow's way to twice the size."""
    return lambda small: resize_channels(small, (2 * small.shape[1], 2 * small.shape[0]), kernel)


def back_projected(small: Colours) -> Colours:
    """Return Lanczos's result, whose halves are brought nearer to the picture twice."""
    large = resized(Image.Resampling.LANCZOS)(small)
    for _ in range(2):
        large += resized(Image.Resampling.BICUBIC)(small - halved(large))
    return large


def by_network(small: Colours) -> Colours:
    """Return what `coordfit enlarge` makes of it, with one thread."""
    with get_backend("numpy", threads=1).activate():
        large = enlarged(small, 2 * small.shape[0], 2 * small.shape[1])
    assert large is not None
    return large


METHODS: dict[str, Callable[[Colours], Colours]] = {
    "bicubic": resized(Image.Resampling.BICUBIC),
    "Lanczos": resized(Image.Resampling.LANCZOS),
    "Lanczos, back-projected": back_projected,
    "coordfit enlarge": by_network,
}


def measure_halved(key: Case, files: dict[str, Path]) -> Case:
    """Return PSNR and seconds of each method for one picture, cropped to even sides."""
    truth = even_sides(files[key["picture"]])
    small = halved(truth)
    return {"methods": {name: scored(partial(method, small), truth) for name, method in METHODS.items()}}


def even_sides(file: Path) -> Colours:
    """Return a picture's colours, cropped to even sides."""
    colours: Colours = load_picture(file).pixels
    return colours[: colours.shape[0] // 2 * 2, : colours.shape[1] // 2 * 2]


def scored(draw: Callable[[], NDArray[np.floating]], truth: Colours) -> list[float]:
    """Return the PSNR of a drawing, and its seconds."""
    began = time.process_time()
    large = draw()
    return [psnr(large, truth) or 0.0, time.process_time() - began]


def measure_fitted(key: Case, files: dict[str, Path]) -> Case:
    """Return PSNR and seconds of drawing the function of a halved picture, beside Lanczos without one."""
    truth = even_sides(files[key["picture"]])
    small = halved(truth)
    fitted = coordfit.fit(quantize(small, 8), recipe="compact", steps=key["steps"], threads=1)
    drawn = {
        "Lanczos, back-projected": lambda: back_projected(small),
        "function": lambda: fitted.render(*truth.shape[:2]),
        "coordfit render": lambda: by_network(fitted.reconstruction.astype(np.float32)),
    }
    found = {name: scored(draw, truth) for name, draw in drawn.items()}
    figures = {name: fitted.metrics[name] for name in ("psnr", "bits_per_pixel", "seconds")}
    return {"methods": found, "fit": figures}


def measure_every_second(key: Case) -> Case:
    """Return PSNR of left out pixels, by bicubic interpolation and by kriging."""
    truth = square_photograph(key["picture"], key["size"]).pixels
    known = np.zeros(truth.shape[:2], np.bool_)
    known[::2, ::2] = True
    began = time.process_time()
    filling = fill_hidden(truth, known)
    assert filling is not None
    seconds = time.process_time() - began
    bicubic = interpolate_every_second(truth, "bicubic")
    methods = {
        "bicubic": [psnr(bicubic, truth, where=~known), 0.0],
        "coordfit inpaint": [psnr(filling.colours, truth, where=~known), seconds],
    }
    return {"methods": methods}


def show(cases: list[Case]) -> None:
    """Print a table for each kind of reduction, with means."""
    for kind in dict.fromkeys((case["reduction"], case.get("size")) for case in cases):
        same = [case for case in cases if (case["reduction"], case.get("size")) == kind]
        names = [*same[0]["methods"]]
        size = f", {kind[1]}x{kind[1]}" if kind[1] else ""
        print(f"{kind[0]}{size}\n| picture | {' | '.join(names)} | seconds |")
        print("|---" * (2 + len(names)) + "|")
        for case in same:
            print(f"| {case['picture']} | {_line([case], names)}")
        print(f"| mean of {len(same)} | {_line(same, names)}\n")
        if "fit" in same[0]:
            means = [fmean(case["fit"][name] for case in same) for name in ("psnr", "bits_per_pixel")]
            print(f"the functions: {means[0]:.2f} dB at {means[1]:.3f} bits per pixel\n")


def _line(cases: list[Case], names: list[str]) -> str:
    decibels = " | ".join(f"{fmean(case['methods'][name][0] for case in cases):.2f}" for name in names)
    return f"{decibels} | {fmean(case['methods'][names[-1]][1] for case in cases):.1f} |"


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.enlarge", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", type=Path)
    parser.add_argument("--every-second", action="store_true", help="leave out pixels of four photographs")
    parser.add_argument("--fitted", action="store_true", help="fit the halved pictures first, to 40 dB")
    parser.add_argument("--steps", type=count, default=300, help="of --fitted (default: 300)")
    parser.add_argument("--sizes", nargs="+", type=count, default=[128, 256])
    parser.add_argument("--json", type=new_file, help="write the cases here; those of other runs stay")
    parser.add_argument("--keep", action="store_true", help="do not measure again what that file holds")
    parser.add_argument("--show", action="store_true", help="print all that this file holds, and no more")
    options = parser.parse_args()
    if not (options.files or options.every_second or options.show):
        raise BadInputError("name pictures, or --every-second, or --show with --json")
    if options.show:
        cases = recorded(options.json, "cases") if options.json else []
    elif options.every_second:
        keys = [
            {"picture": name, "reduction": "every second pixel", "size": size}
            for size in options.sizes
            for name in PHOTOGRAPHS
        ]
        cases = cases_of(options, keys, measure_every_second, 1)
    else:
        files = {file.name: file for file in options.files}
        how = {"reduction": "means over 2x2 pixels"}
        if options.fitted:
            how = {"reduction": "means over 2x2 pixels, fitted to 40 dB", "steps": options.steps}
        measure = measure_fitted if options.fitted else measure_halved
        keys = [{"picture": name, **how} for name in files]
        cases = cases_of(options, keys, lambda key: measure(key, files), 1)
    if not cases:
        raise BadInputError("--show needs a file with cases: name it by --json")
    show(cases)


if __name__ == "__main__":
    run_main("enlarge", main)
