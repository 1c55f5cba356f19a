"""Draw arrays and derivatives: `coordfit render` for what is no picture in [0, 1]."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...files import Outputs, printable
from ...images import save_picture
from ...models.rendering import Rendered
from ...signals.facts import Frame, SignalFacts
from ...signals.grid import SampleGrid
from ...sources.writing import ENDINGS, suffix_for, write_array
from ..exit_codes import EXIT_OK
from ..option_types import UsageError
from ..options import Options
from ..session import make_log
from ..streams import print_json
from .render_size import grid_of, shape_of

_NUMPY = (".npy", ".npz")


def is_of_numbers(model: Rendered, options: Options) -> bool:
    """Whether a rendering is written as numbers: a derivative, an array, or a picture to a file of NumPy's."""
    suffix = options.out.suffix.lower() if options.out is not None else ""
    if options.derivative is not None or suffix in _NUMPY:
        return True
    own = model.signal
    can_be_drawn = own.dimensions == 2 and own.channels <= 4
    return own.frame is not None and not (can_be_drawn and suffix not in ("", *ENDINGS))


def draw_numbers(model: Rendered, file: Path, options: Options) -> int:
    """Write the values or a derivative of a signal on a grid to a file, and print its path."""
    own, kind = model.signal, options.derivative
    grid, shape = grid_of(options, model), shape_of(options, model)
    frame = _frame_of(own, is_derivative=kind is not None).of_grid(grid, own.shape)
    path = options.out or file.with_name(_name(file.stem, grid, own, kind))
    is_drawn = path.suffix.lower() not in ENDINGS
    if is_drawn and not (own.dimensions == 2 and own.channels <= 4):
        raise UsageError(
            f"{printable(path)} is a picture, and the signal has {own.dimensions} axes and {own.channels} "
            f"channels: name one of {', '.join(ENDINGS)}"
        )
    Outputs((), files=(path,)).check(path.parent, overwrite=options.overwrite)
    try:
        values = (
            model.render(shape=shape, crop=options.crop)
            if kind is None
            else model.render_derivative(kind, shape, crop=options.crop)
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if is_drawn:
        levels, told = _as_picture(values.reshape(*grid.shape, own.channels), str(kind))
        save_picture(path, levels)
        make_log(options)(told)
    else:
        write_array(path, values, frame)
    if options.json:
        extremes = {"lowest": float(values.min()), "highest": float(values.max())}
        print_json({"file": str(path), "shape": list(values.shape), **extremes, "device": model.backend.device})
    else:
        print(printable(path))
    return EXIT_OK


def _name(stem: str, grid: SampleGrid, own: SignalFacts, kind: str | None) -> str:
    extent = "x".join(str(side) for side in grid.shape[::-1])
    if kind is None:
        return f"{stem}-{extent}{suffix_for(own.name)}"
    return f"{stem}-{kind}-{extent}{'.png' if own.frame is None else '.npy'}"


def _frame_of(own: SignalFacts, *, is_derivative: bool) -> Frame:
    """Return the frame of what is written; derivatives and pictures are in floating point."""
    if own.frame is None:
        return Frame(("y", "x"), (0.0, 0.0), (1.0, 1.0))
    return dataclasses.replace(own.frame, dtype="float32") if is_derivative else own.frame


def _as_picture(values: NDArray[Any], kind: str) -> tuple[NDArray[np.float32], str]:
    """Return a derivative (H, W, C) as levels in [0, 1], and what they mean in words."""
    largest = max(float(np.abs(values).max()), 1e-30)
    if kind == "gradient-norm":
        return (values / largest).astype(np.float32), f"black is 0, white {largest:.4g} per pixel"
    levels = 0.5 + 0.5 * values / largest
    return levels.astype(np.float32), f"grey is 0, black {-largest:.4g} and white {largest:.4g} per pixel"
