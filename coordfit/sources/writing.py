"""Write the values of a signal to a file of the kind that its name says."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..files import atomic_write, printable
from ..signals.facts import Frame

Values = NDArray[Any]
_LOUDEST = 2**15 - 1


def write_array(path: Path, values: Values, frame: Frame) -> None:
    """Write values in a signal's own units, atomically: to `.npy`, `.npz`, `.tif` or `.wav`.

    Values of a signal of whole numbers are rounded to its type, but in NumPy's files.

    Raises
    ------
    OutputError
        The name has another ending, or the file cannot hold the values.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise OutputError(f"cannot write {printable(path)}: arrays go to {', '.join(_WRITERS)}")
    with atomic_write(path) as file:
        write(file, values, frame)


def suffix_for(name: str) -> str:
    """Return the ending for what is made of a source of this name: its own, if it can be written."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in _WRITERS else ".npy"


def _numpy(file: BinaryIO, values: Values, frame: Frame) -> None:
    np.save(file, values)


def _archive(file: BinaryIO, values: Values, frame: Frame) -> None:
    np.savez(file, values=values, axes=np.array(frame.axes), origin=frame.origin, spacing=frame.spacing)


def _tiff(file: BinaryIO, values: Values, frame: Frame) -> None:
    from tifffile import imwrite

    axes = "".join(frame.axes).upper() + ("S" if frame.has_channels else "")
    known = len(axes) == values.ndim and set(axes) <= set("TZYXS")
    is_rgb = frame.has_channels and values.shape[-1] in (3, 4)
    metadata = {"axes": axes} if known else None
    imwrite(file, frame.as_source(values), photometric="rgb" if is_rgb else "minisblack", metadata=metadata)


def _wave(file: BinaryIO, values: Values, frame: Frame) -> None:
    """Write 16 bits; whole numbers of other sizes are shifted to them, and fractions are parts of 1."""
    if len(frame.axes) != 1:
        raise OutputError(f"a sound has one axis, and the signal has {', '.join(frame.axes)}: write .npy")
    kind = np.dtype(frame.dtype)
    loudest = float(np.iinfo(kind).max) if kind.kind == "i" else 1.0
    levels = np.rint(np.clip(values / loudest, -1.0, 1.0) * _LOUDEST).astype("<i2")
    with wave.open(file, "wb") as sound:
        sound.setnchannels(values.shape[1] if values.ndim == 2 else 1)
        sound.setsampwidth(2)
        sound.setframerate(max(1, round(1.0 / frame.spacing[0])))
        sound.writeframes(levels.tobytes())


_WRITERS: dict[str, Callable[[BinaryIO, Values, Frame], None]] = {
    ".npy": _numpy,
    ".npz": _archive,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".wav": _wave,
}
ENDINGS = tuple(_WRITERS)
"""Of the names of files that arrays can be written to."""
