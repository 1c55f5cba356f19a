"""Run `coordfit render`: a model's picture at any size, a few rows at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...codec.container import is_compressed
from ...files import Outputs, printable, write_bytes
from ...images import MAX_PIXELS, png_bytes, save_picture
from ...images.formats.png import MAX_SIDE
from ...models.deviation import deviation_of
from ...models.format import model_in
from ...models.rendering import Drawable
from ...models.writing import save_rows
from ...report.deviation import deviation_sheet
from ...signals.grid import SampleGrid
from ...tasks.compress import open_compressed
from ...tasks.enlarge import EnlargedDrawing
from ...tasks.load import load_networks, networks_in
from ..exit_codes import EXIT_OK
from ..option_types import UsageError
from ..options import Options
from ..session import is_shown, make_backend, make_log
from ..streams import print_json
from .render_numbers import draw_numbers, is_of_numbers
from .render_size import grid_of, shape_of
from .render_zoom import check_zoom, draw_zoom

_MOST_SCALE = 4  # up to which a picture is enlarged by default
_MOST_PIXELS = 10**10  # more would take days, and more bytes than most disks have


def run(options: Options) -> int:
    """Render a model to a picture file, or a zoom to a video, and print its path."""
    check_zoom(options)
    file = model_in(options.model)
    if options.deviation:
        return _draw_deviation(file, options)
    if is_compressed(file):
        if options.derivative is not None:
            raise UsageError(
                "--derivative is of networks and tiles, and this is a file of few bits; leave it out"
            )
        picture = open_compressed(file)
        return draw(picture, file, options) if options.zoom_to is None else draw_zoom(picture, file, options)
    model = load_networks(file, make_backend(options, make_log(options)))
    if options.zoom_to is not None:
        return draw_zoom(model, file, options, device=model.backend.device)
    if is_of_numbers(model, options):
        return draw_numbers(model, file, options)
    saw_all = model.config.train_on == "all"
    return draw(model, file, options, is_photograph=saw_all, device=model.backend.device)


def _draw_deviation(file: Path, options: Options) -> int:
    """Draw the standard deviation of a mean's networks, and print the picture's path."""
    backend = make_backend(options, make_log(options))
    networks = networks_in(options.model, backend)
    if not networks:
        raise UsageError("--deviation needs the folder of a run with --average K; leave it out")
    mean = load_networks(file, backend)
    grid = grid_of(options, mean)
    path = options.out or file.with_name(f"{file.stem}-deviation-{grid.width}x{grid.lines}.png")
    Outputs((), files=(path,)).check(path.parent, overwrite=options.overwrite)
    shape = shape_of(options, mean)
    deviation = deviation_of(networks, shape=shape, crop=options.crop)
    title = f"{mean.title}, mean of {len(networks)}"
    sheet = deviation_sheet(mean.render(shape=shape, crop=options.crop), deviation, title=title)
    write_bytes(path, png_bytes(sheet))
    if options.json:
        facts = {"width": grid.width, "height": grid.lines, "deviation_mean": float(deviation.mean())}
        print_json({"picture": str(path), **facts})
    else:
        print(printable(path))
    return EXIT_OK


def draw(model: Drawable, file: Path, options: Options, *, is_photograph: bool = True, **facts: str) -> int:
    """Draw what a file holds to a picture file, and print its path, or facts as JSON.

    `is_photograph` says whether `--method auto` may enlarge the picture's own size.
    """
    grid = grid_of(options, model)
    method = _method(options, model, grid, is_photograph=is_photograph)
    if method == "enlarge":
        make_log(options)("drawn in its own size and enlarged; --method function shows it between its pixels")
        model = EnlargedDrawing(model, getattr(options, "threads", None))
    path = options.out or file.with_name(f"{file.stem}-{grid.width}x{grid.lines}.png")
    _check_extent(grid, path, model)
    Outputs((), files=(path,)).check(path.parent, overwrite=options.overwrite)
    disable = None if is_shown(options) else True
    if path.suffix.lower() == ".png":
        with tqdm(total=grid.lines, unit="row", file=sys.stderr, disable=disable, mininterval=0.2) as bar:
            save_rows(path, model, grid, see=lambda rows: bar.update(len(rows)))
    else:
        save_picture(path, np.concatenate([*model.render_rows(grid)]))
    if options.json:
        print_json({"picture": str(path), "width": grid.width, "height": grid.lines, "method": method, **facts})
    else:
        print(printable(path))
    return EXIT_OK


def _method(options: Options, model: Drawable, grid: SampleGrid, *, is_photograph: bool) -> str:
    """Return `function` or `enlarge`; UsageError if the size cannot be enlarged to."""
    own, size = model.signal, grid.full_shape
    is_larger = size != own.size and size[0] >= own.height and size[1] >= own.width
    fits = is_larger and size[0] * size[1] <= MAX_PIXELS
    if options.method == "enlarge" and not fits:
        raise UsageError(
            f"--method enlarge is for sizes from {own.width}x{own.height} to {MAX_PIXELS} pixels, not for "
            f"{size[1]}x{size[0]}: add --method function"
        )
    if options.method != "auto":
        return str(options.method)
    is_near = size[0] <= _MOST_SCALE * own.height and size[1] <= _MOST_SCALE * own.width
    return "enlarge" if fits and is_near and is_photograph else "function"


def _check_extent(grid: SampleGrid, path: Path, model: Drawable) -> None:
    """Refuse a rendering that no file can hold, before any work."""
    is_png = path.suffix.lower() == ".png"
    sample_bytes = model.signal.bit_depth // 8 if is_png else np.dtype(model.dtype).itemsize
    needed = len(grid) * model.signal.channels * sample_bytes / 1e9
    asked = f"{grid.width}x{grid.lines} = {len(grid)} pixels"
    if len(grid) > _MOST_PIXELS or max(grid.width, grid.lines) > MAX_SIDE:
        raise UsageError(
            f"the rendering has {asked}, {needed:.0f} GB before they are packed; {_MOST_PIXELS} pixels and "
            f"sides of {MAX_SIDE} are the most: give a smaller --size or --scale, or windows of it with --crop"
        )
    if not is_png and len(grid) > MAX_PIXELS:
        raise UsageError(
            f"the rendering has {asked}, {needed:.1f} GB of memory, as only .png is written row by row; "
            f"{MAX_PIXELS} pixels are the most for {path.suffix or 'other formats'}: name a .png"
        )
