"""Draw a picture with scratches, their mask and the filling.

Run as `python -m bench.figures.scratches docs/figures/inpaint.png`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

import coordfit

from ..command_line import Parser, new_file, run_main

SCRATCHES = (
    [(8, 31), (52, 49), (90, 52), (122, 71)],
    [(71, 4), (63, 60), (76, 123)],
    [(20, 101), (60, 92)],
)
WIDTH, MARGIN = 2, 2
"""In pixels: of a scratch, and how far its mask goes beyond it on each side."""


def draw() -> Image.Image:
    """Return the sheet of `coordfit.inpaint` for the bundled picture with scratches."""
    picture = coordfit.bundled_picture()
    damaged = Image.fromarray(np.uint8(np.rint(255 * picture.pixels)))
    mask = Image.new("L", damaged.size, 255)
    for points in SCRATCHES:
        ImageDraw.Draw(damaged).line(points, fill=(250, 246, 240), width=WIDTH)
        ImageDraw.Draw(mask).line(points, fill=0, width=WIDTH + 2 * MARGIN)
        for x, y in (points[0], points[-1]):
            square = (x - MARGIN, y - MARGIN, x + MARGIN, y + MARGIN)
            ImageDraw.Draw(mask).rectangle(square, fill=0)
    photo = dataclasses.replace(coordfit.load_picture(np.asarray(damaged) / 255.0), name="photo.png")
    return coordfit.inpaint(photo, np.asarray(mask) > 0).comparison()


def main() -> None:
    """Write the picture."""
    parser = Parser(prog="python -m bench.figures.scratches", description=__doc__)
    parser.add_argument("target", type=new_file, metavar="FILE.png")
    draw().save(parser.parse_args().target, optimize=True)


if __name__ == "__main__":
    run_main("figures.scratches", main)
