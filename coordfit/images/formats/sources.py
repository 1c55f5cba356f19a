"""Read pictures from files, Pillow images and arrays; whatever goes wrong is one clear error."""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...errors import PictureError
from ...files import printable
from .decoding import decode, note_frames
from .layouts import FORMATS, TOLD_FORMATS
from .levels import Levels, as_levels, check_pixels
from .tiff import SIGNATURES, read_tiff

# 8000x8000: as RGB, 0.8 GB of float32 if one network learns it. Below Pillow's own limit (89 million, then a
# warning), so that this one counts.
MAX_PIXELS = 64_000_000
_FILTERS = threading.RLock()

# Both log some of what they then raise; without a handler, Python would print it.
for _library in ("PIL", "tifffile"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


def read_file(path: Path, max_pixels: int, notes: list[str]) -> tuple[Levels, int]:
    """Decode a file to levels and bit depth."""
    _check_file(path)
    label = printable(path)
    # Opened here, since Pillow leaves files it opened itself to the garbage collector when a decoder fails.
    with (
        _one_error(label),
        _pillow_warnings(max_pixels, notes),
        _BoundedReader(path.open("rb", buffering=0)) as file,
    ):
        if file.peek(4)[:4] in SIGNATURES:
            return read_tiff(file, 0, max_pixels, label, notes)
        with Image.open(file, formats=FORMATS) as image:
            check_pixels(image.size, max_pixels, label)
            note_frames(lambda: getattr(image, "n_frames", 1), notes)
            image.seek(0)  # where counting frames met a damaged one
            return decode(image, max_pixels, label, notes)


def read_image(image: Image.Image, max_pixels: int, notes: list[str]) -> tuple[Levels, int]:
    """Decode the current frame of a Pillow image to levels and bit depth."""
    label = f"the Pillow image ({image.mode})"
    if image.format not in (None, "TIFF", "MPO", *FORMATS):
        cure = "save it as PNG, or give image.copy() to take the pixels as they are"
        raise PictureError(f"{label} comes from the format {image.format}, which is not read here: {cure}")
    with _one_error(label), _pillow_warnings(max_pixels, notes):
        check_pixels(image.size, max_pixels, label)
        file = getattr(image, "fp", None)
        if image.format == "TIFF" and getattr(image, "tile", None) and file is not None:  # not yet decoded
            return read_tiff(file, image.tell(), max_pixels, label, notes)
        return decode(image, max_pixels, label, notes)


def read_array(source: Any) -> tuple[Levels, int]:
    """Copy an array (H, W) or (H, W, C) to levels, and return them with the bit depth."""
    if isinstance(source, np.ma.MaskedArray):
        raise PictureError("a masked array is no picture: fill it first, with .filled()")
    if not hasattr(source, "__array__"):
        what = type(source).__name__
        raise PictureError(f"a picture is a path, a Pillow image or an array, not a {what}")
    try:
        array = np.asarray(source)
    except Exception as error:  # of another library, whose own message says more than can be known here
        raise PictureError(f"the {type(source).__name__} is no NumPy array: {_array_cure(error)}") from error
    shape = array.shape
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        cure = _shape_cure(shape, "permute" if hasattr(source, "permute") else "transpose")
        raise PictureError(f"a picture has shape (H, W) or (H, W, 1 to 4), not {shape}{cure}")
    if array.size == 0:
        raise PictureError(f"the array has no pixels: its shape is {shape}")
    return as_levels(array, "the array")


def _array_cure(error: Exception) -> str:
    """Return what turns an array of another library into one of NumPy, as far as its error tells."""
    told = str(error)
    cures = {"grad": "give array.detach()", "cpu()": "give array.cpu()", ".get()": "give array.get()"}
    cures["BFloat16"] = "give array.float()"
    detail = " ".join(told.split())[:200] or type(error).__name__
    return next((cure for word, cure in cures.items() if word in told), detail)


def _shape_cure(shape: tuple[int, ...], transpose: str) -> str:
    """Return how to make a picture of an array of this shape, if that is clear; else nothing."""
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] > 4:
        # A few rows of many channels are no picture with its channels first.
        return f": channels come last, so use array.{transpose}(1, 2, 0)" if shape[1] > 4 else ""
    if len(shape) == 4 and shape[3] in (1, 3, 4):
        return ": give one picture of the batch, such as array[0]"
    if len(shape) == 4 and shape[1] in (1, 3, 4):
        return f": give one picture of the batch, channels last, such as array[0].{transpose}(1, 2, 0)"
    return ""


def _check_file(path: Path) -> None:
    """Refuse a path that is no file, or an empty one."""
    label = printable(path)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise PictureError(f"there is no file {label}: check the name and the folder") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise PictureError(f"cannot open {label}: {cause}") from error
    if stat.S_ISDIR(status.st_mode):
        raise PictureError(f"{label} is a folder: name one picture in it")
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(f"{label} is a pipe or device: save the picture to a file first")
    if status.st_size == 0:
        raise PictureError(f"{label} is empty (0 bytes): get the picture again")


class _BoundedReader(io.BufferedReader):
    """A file that is never asked for more bytes than it has: Python takes memory for all of them first.

    Pillow asks for as many as a file claims to have, which in a PNG of 100 bytes may be 4 GB.
    """

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self._size = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        """Return at most `size` bytes, or all that are left."""
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = min(size, max(0, self._size - self.tell()))
        return super().read(size)


@contextmanager
def _one_error(label: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one `PictureError`; plugins fail in undocumented ways too."""
    try:
        yield
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{label} is not a picture in a format that is read here ({TOLD_FORMATS}): save it as PNG"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        count = re.search(r"\d+ pixels", str(error))
        size = count[0] if count else "too many pixels"
        raise PictureError(f"{label} has {size}, more than Pillow opens: make it smaller first") from error
    except PermissionError as error:
        raise PictureError(f"cannot open {label}: no permission to read it") from error
    except MemoryError as error:
        raise PictureError(f"{label} does not fit into memory: make it smaller first") from error
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise PictureError(f"{label} cannot be decoded ({detail}): get it again, or save it as PNG") from error


@contextmanager
def _pillow_warnings(max_pixels: int, notes: list[str]) -> Iterator[None]:
    """Turn Pillow's warnings into notes, and that of a decompression bomb into an error.

    Filters belong to the process: threads that decode at once would restore each other's.
    """
    with _FILTERS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # A plugin may find while decoding that a picture is larger than its header said. More pixels than
        # Pillow warns of are read only if they were asked for, up to twice as many, where Pillow raises.
        if max_pixels <= (Image.MAX_IMAGE_PIXELS or 0):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
    told = (str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    notes.extend("Pillow says: " + " ".join(message.split()) for message in told)
