"""`coordfit render`: a model's picture at any size, a few rows at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tqdm import tqdm

from ..errors import OutputError
from ..files import atomic_write, jsonable, printable
from ..images import save_picture
from ..model import Model
from ..model_file import load_model
from ..pixel_grid import PixelGrid
from ..png import PngWriter, quantize
from . import EXIT_OK
from .fit import make_backend, speaker
from .options import Options, UsageError


def run(options: Options) -> int:
    """Render a model to a picture file and print its path."""
    backend = make_backend(options, speaker(options))
    model = load_model(options.model, backend=backend)
    grid = _grid(options, model)
    path = options.out or options.model.with_name(f"{options.model.stem}-{grid.width}x{grid.height}.png")
    if path.exists() and not options.overwrite and path.is_file():
        raise OutputError(f"{printable(path)} is there already; add --overwrite to replace it")
    if path.suffix.lower() == ".png":
        write_png(path, model, grid, shown=not (options.quiet or options.no_progress or options.json))
    else:
        crop = (grid.left, grid.top, grid.width, grid.height)
        save_picture(path, model.render(grid.full_height, grid.full_width, crop=crop))
    if options.json:
        facts = {
            "picture": str(path),
            "width": grid.width,
            "height": grid.height,
            "device": model.backend.device,
        }
        print(json.dumps(jsonable(facts), allow_nan=False))
    else:
        print(printable(path))
    return EXIT_OK


def write_png(path: Path, model: Model, grid: PixelGrid, *, shown: bool) -> None:
    """Render rows and write them as they come: the picture need not fit into memory."""
    depth = model.picture.bit_depth
    bar = tqdm(total=grid.height, unit="row", file=sys.stderr, disable=None if shown else True, mininterval=0.2)
    with bar, atomic_write(path) as file:
        writer = PngWriter(file, grid.width, grid.height, model.picture.channels, depth)
        for rows in model.render_rows(grid):
            writer.write_rows(quantize(rows, depth))
            bar.update(len(rows))
        writer.close()


def _grid(options: Options, model: Model) -> PixelGrid:
    own = model.picture
    width, height = own.width, own.height
    if isinstance(options.size, tuple):
        width, height = options.size
    elif options.size is not None or options.scale is not None:
        factor = options.scale or options.size / max(width, height)
        width, height = max(1, round(width * factor)), max(1, round(height * factor))
    try:
        return model.grid(height, width, crop=options.crop)
    except ValueError as error:
        raise UsageError(str(error)) from error
