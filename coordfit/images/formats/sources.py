"""Read pictures from files, Pillow images and arrays, and turn every failure into one clear error."""

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
from .layouts import FORMATS, FORMATS_IN_WORDS
from .levels import Levels, as_levels, check_pixels
from .tiff import SIGNATURES, read_tiff

# 8000x8000: as RGB, 0.8 GB of float32 if one network learns it. Below 89 million, at which Pillow warns.
MAX_PIXELS = 64_000_000
_FILTERS = threading.RLock()

# Both log some errors before they raise them; without a handler, Python would print them.
for _library in ("PIL", "tifffile"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


def read_file(path: Path, max_pixels: int, notes: list[str]) -> tuple[Levels, int]:
    """Decode a file to levels and bit depth."""
    _check_file(path)
    label = printable(path)
    # Opened here: when a decoder fails, Pillow leaves its own files to the garbage collector.
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
            image.seek(0)  # counting frames may have stopped at a damaged one
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
    except Exception as error:  # raised by another library
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
    """Return how to make a NumPy array of another library's, as far as its error tells."""
    cures = {"grad": "detach()", "cpu()": "cpu()", ".get()": "get()", "BFloat16": "float()"}
    calls = (f"give array.{call}" for word, call in cures.items() if word in str(error))
    return next(calls, _detail(error))


def _detail(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _shape_cure(shape: tuple[int, ...], transpose: str) -> str:
    """Return how to make a picture of an array of this shape, or "" if that is not clear."""
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] > 4:
        # A few rows of many channels are no picture with its channels first.
        return f": channels come last, so use array.{transpose}(1, 2, 0)" if shape[1] > 4 else ""
    if len(shape) == 4 and shape[3] in (1, 3, 4):
        return ": give one picture of the batch, such as array[0]"
    if len(shape) == 4 and shape[1] in (1, 3, 4):
        return f": give one picture of the batch, channels last, such as array[0].{transpose}(1, 2, 0)"
    return ""


def _check_file(path: Path) -> None:
    """Refuse a path that is no regular file, or an empty one."""
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
    """A file that never allocates more bytes than it has.

    Python allocates a read's size first, and Pillow asks for the size that a file claims, which in a PNG of
    100 bytes may be 4 GB.
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
    """Turn everything that a decoder raises into one `PictureError`."""
    try:
        yield
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{label} is not a picture in a format that is read here ({FORMATS_IN_WORDS}): save it as PNG"
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
        detail = f"{label} cannot be decoded ({_detail(error)})"
        raise PictureError(f"{detail}: get it again, or save it as PNG") from error


@contextmanager
def _pillow_warnings(max_pixels: int, notes: list[str]) -> Iterator[None]:
    """Turn Pillow's warnings into notes, and that of a decompression bomb into an error.

    Warning filters belong to the process, so one thread decodes at a time.
    """
    with _FILTERS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Decoding may show that a picture is larger than its header said. Above Pillow's warning limit it is
        # read only if `max_pixels` allows it; at twice that limit Pillow raises.
        if max_pixels <= (Image.MAX_IMAGE_PIXELS or 0):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
    messages = (str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    notes.extend("Pillow says: " + " ".join(message.split()) for message in messages)
