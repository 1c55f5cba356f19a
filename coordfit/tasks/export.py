"""`export`: a fitted model as a file of another program, or as a page that draws it."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np

from ..codec import CompressedPicture
from ..errors import ConfigError
from ..exports.arrays import PAGE, ModelArrays, arrays_of
from ..exports.html_page import save_function_page, save_picture_page
from ..exports.numpy_archive import save_npz
from ..exports.onnx_file import save_onnx
from ..exports.torch_module import program_beside, save_torch
from ..files import FilePath, printable
from ..fit_options import ExportFormat
from ..models.rendering import Rendered
from .enlarge import EnlargedDrawing
from .load import load

SUFFIXES: dict[ExportFormat, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "torch": (".pt", ".pth"),
    "npz": (".npz",),
    "html": (".html", ".htm"),
}
"""The suffixes of each format, the usual one first."""

_FILES: dict[ExportFormat, Callable[[FilePath, ModelArrays], None]] = {
    "onnx": save_onnx,
    "torch": save_torch,
    "npz": save_npz,
}
# A compressed picture's page holds it enlarged, up to this many times and pixels.
_MOST_TIMES, _MOST_PIXELS = 4, 8 * 2**20


def export(
    model: Rendered | CompressedPicture | FilePath, path: FilePath, *, to: ExportFormat | None = None
) -> Path:
    """Write a fitted model for other programs, and return the path.

    Parameters
    ----------
    model
        A model, or the path of its file or of its run.
    path
        The file; one that is there is replaced.
    to : str, optional
        By default as the suffix says. `onnx`, for any runtime of ONNX; `torch`, a state_dict `.pt` and beside
        it a `.py` with the module; `npz`, arrays and a program in NumPy that evaluates them; `html`, a page in
        which the graphics card draws the function.

    Raises
    ------
    ConfigError
        The format is unknown, or cannot hold the model.
    OutputError
        A file cannot be written, or a package is missing that writes it.
    ModelFileError, CompressedFileError
        The model's file cannot be read.
    """
    to = format_of(path, to)
    if isinstance(model, str | PathLike):
        model = load(model, device="cpu")
    if not isinstance(model, Rendered | CompressedPicture):
        raise ConfigError(f"a model or the path of its file is exported, not {model!r}; of a fit its .model")
    if isinstance(model, CompressedPicture):
        if to != "html":
            raise ConfigError(
                f"{model.signal.name} is a compressed picture, a pyramid of few bits and no network, so html "
                f"alone shows it; for {to} fit a network or tiles: `coordfit fit --recipe memorise`"
            )
        _save_page_of_compressed(path, model)
    elif to == "html":
        arrays = arrays_of(model)
        arrays.check_axes(PAGE)
        save_function_page(path, arrays, np.concatenate([*model.render_rows(model.grid())]))
    else:
        _FILES[to](path, arrays_of(model))
    return Path(path)


def format_of(path: FilePath, to: str | None = None) -> ExportFormat:
    """Return the format that is asked for, or that of the path's suffix; ConfigError if there is none."""
    suffix = Path(path).suffix.lower()
    names = [name for name, suffixes in SUFFIXES.items() if name == to or (to is None and suffix in suffixes)]
    if not names:
        what = f"no format {to!r}" if to is not None else f"no format for {printable(path)}"
        known = ", ".join(f"{name} ({suffixes[0]})" for name, suffixes in SUFFIXES.items())
        raise ConfigError(f"there is {what}; choose one of {known}")
    if names[0] == "torch" and suffix == ".py":
        raise ConfigError(f"{printable(path)} is where the module comes; name the .pt beside it")
    return names[0]


def files_of(path: Path, to: ExportFormat) -> tuple[Path, ...]:
    """Return the files that an export writes."""
    return (path, program_beside(path)) if to == "torch" else (path,)


def _save_page_of_compressed(path: FilePath, drawn: CompressedPicture) -> None:
    """Write the page of a compressed picture, enlarged by the house's method."""
    own = drawn.signal
    pixels = own.height * own.width
    times = next((n for n in range(_MOST_TIMES, 1, -1) if n * n * pixels <= _MOST_PIXELS), 1)
    rendered = drawn.render()
    larger = rendered if times == 1 else EnlargedDrawing(drawn).render(times * own.height, times * own.width)
    save_picture_page(path, drawn.title, own, rendered, larger)
