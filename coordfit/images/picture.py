"""A picture as the networks see it, and how to come by one."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coordfit.errors import ConfigError

from .alpha import lay_on, parse_colour, settle_alpha
from .levels import Pixels
from .resizing import check_size, resample
from .sources import MAX_PIXELS, read_array, read_file, read_image

BUNDLED_SIZES = (32, 128)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as the networks see it.

    Attributes
    ----------
    pixels
        (H, W, C) float32 in [0, 1], not writable; C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. Alpha is
        straight, and the colour of a fully transparent pixel is 0.
    bit_depth
        8 or 16: the steps of the source, for the files made from it. Floating sources count as 8.
    name
        The file's name without its folder, or "array".
    notes
        One short sentence for each thing that was done to the picture.
    """

    pixels: Pixels
    bit_depth: int
    name: str
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """H, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """W, in pixels."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """C, alpha included."""
        return int(self.pixels.shape[2])

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape and pixels, hexadecimal; the same on every machine."""
        shape = "x".join(str(length) for length in self.pixels.shape)
        digest = hashlib.sha256(shape.encode() + b"\n")
        digest.update(np.ascontiguousarray(self.pixels, dtype="<f4").data)  # read in place, not copied
        return digest.hexdigest()


Source = Picture | str | os.PathLike[str] | Image.Image | NDArray[Any]


def load_picture(
    source: Source,
    *,
    size: int | tuple[int, int] | None = None,
    background: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Read a picture from a file, a Pillow image, or an array.

    Parameters
    ----------
    source
        A path; a Pillow image; a `Picture`; or an array (H, W) or (H, W, C), C as in `Picture`, of bool,
        uint8, uint16, or floats in [0, 1]. Of a file with several frames the first is taken.
    size
        The longer side in pixels, or (width, height). Resampled with Lanczos, antialiased, in float.
    background
        Colour to lay under a picture with alpha, which then has none: a name or "#rrggbb".
    max_pixels
        Refuse a larger picture, before it is decoded.

    Returns
    -------
    picture
        The picture upright, its 8- or 16-bit levels divided by the highest.

    Raises
    ------
    PictureError
        `source` cannot be used as a picture.
    ConfigError
        `size` or `background` makes no sense.
    """
    paper = None if background is None else parse_colour(background)
    check_size(size)
    notes: list[str] = []
    if isinstance(source, Picture):
        notes += source.notes
        path, pixels, bit_depth = Path(source.name), source.pixels, source.bit_depth
    elif isinstance(source, Image.Image):
        pixels, bit_depth = read_image(source, max_pixels, notes)
        path = Path(os.fsdecode(getattr(source, "filename", "") or "array"))
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        pixels, bit_depth = read_file(path, max_pixels, notes)
    else:
        path = Path("array")
        pixels, bit_depth = read_array(source)
    pixels = settle_alpha(pixels, notes)
    pixels = resample(pixels, size, max_pixels, notes)
    if paper is not None:
        pixels = lay_on(pixels, paper, f"alpha composited on {background}", notes)
    pixels = np.ascontiguousarray(pixels)
    pixels.flags.writeable = False
    name = path.name.encode(
        errors="replace"
    ).decode()  # a name that is no Unicode could not be written to a report
    return Picture(pixels, bit_depth, name, tuple(dict.fromkeys(notes)))


def bundled_picture(size: int = 128) -> Picture:
    """Load the cat Chelsea, which comes with the package: RGB, `size` x `size` pixels, 32 or 128."""
    if size not in BUNDLED_SIZES:
        raise ConfigError(f"the bundled picture has the sizes 32 and 128, not {size}")
    with resources.as_file(resources.files("coordfit") / "data" / f"chelsea-{size}.png") as path:
        return load_picture(path)
