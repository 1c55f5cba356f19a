"""Write picture files without metadata."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import PictureError
from ...files import atomic_write, printable, write_bytes
from .png import PngWriter, quantize

_ROWS_AT_ONCE = 256

# Pillow's name of each format, and its options for the best quality; .png is written without Pillow.
_SAVE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
}
_FORMATS_WITHOUT_ALPHA = ("JPEG", "BMP")


def save_picture(path: str | os.PathLike[str], pixels: NDArray[np.floating], *, bit_depth: int = 8) -> None:
    """Write a picture whole or not at all, without metadata.

    Parameters
    ----------
    path
        The suffix names the format: .png, or with 8 bits .jpg, .tif, .webp, .bmp.
    pixels
        (H, W) or (H, W, C) floats, C as in `Picture`; clipped to [0, 1] and rounded to the nearest level.
    bit_depth
        8 or 16.

    Raises
    ------
    PictureError
        The pixels are no picture, hold NaN, or the format cannot hold them.
    OutputError
        The file cannot be written.
    """
    path = Path(path)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4 or 0 in pixels.shape or pixels.dtype.kind != "f":
        what = f"{pixels.dtype} of shape {pixels.shape}"
        raise PictureError(f"cannot save {printable(path)}: pixels must be floats (H, W, 1 to 4), not {what}")
    if bit_depth not in (8, 16):
        raise PictureError(f"cannot save {printable(path)}: the bit depth must be 8 or 16, not {bit_depth}")
    if path.suffix.lower() == ".png":
        _save_png(path, pixels, bit_depth)
    else:
        content = _encode(path, pixels, bit_depth)
        write_bytes(path, content)


def _save_png(path: Path, pixels: NDArray[np.floating], bit_depth: int) -> None:
    """Write a PNG a few rows at a time, without a second copy of the picture."""
    height, width, channels = pixels.shape
    with atomic_write(path) as file, PngWriter(file, width, height, channels, bit_depth) as png:
        for start in range(0, height, _ROWS_AT_ONCE):
            png.write_rows(quantize(pixels[start : start + _ROWS_AT_ONCE], bit_depth))


def _encode(path: Path, pixels: NDArray[np.floating], bit_depth: int) -> bytes:
    label = printable(path)
    if path.suffix.lower() not in _SAVE_FORMATS:
        known = ", ".join([".png", *_SAVE_FORMATS])
        raise PictureError(f"cannot save {label}: its suffix names no format known here ({known})")
    name, options = _SAVE_FORMATS[path.suffix.lower()]
    if bit_depth == 16:
        raise PictureError(f"cannot save {label}: only .png is written with 16 bits")
    if pixels.shape[2] in (2, 4) and name in _FORMATS_WITHOUT_ALPHA:
        raise PictureError(
            f"cannot save {label}: {name} has no alpha, so save as .png or lay it on a background"
        )
    levels = quantize(pixels)
    content = BytesIO()
    try:
        image_of(levels).save(content, name, **options)
    except (OSError, ValueError) as error:
        raise PictureError(f"cannot save {label} as {name} ({error}): save it as .png") from error
    return content.getvalue()


def image_of(levels: NDArray[np.unsignedinteger[Any]]) -> Image.Image:
    """Return levels (H, W, 1 to 4) as a Pillow image."""
    return Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)


def png_bytes(image: Image.Image) -> bytes:
    """Return a Pillow image as the content of a PNG file."""
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
