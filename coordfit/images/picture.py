"""Load pictures as colours for networks."""

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

from ..errors import ConfigError, PictureError
from ..files import escaped, printable
from ..signals.signal import Signal
from .formats.alpha import lay_on, parse_colour, settle_alpha
from .formats.levels import Colours, Levels, Pixels, to_pixels
from .formats.png import quantize
from .formats.sources import MAX_PIXELS, read_array, read_file, read_image
from .formats.writing import image_of, png_bytes
from .other_codecs import OtherCodecs
from .resizing import check_size, resample

BUNDLED_SIZES = (32, 128)
_ROWS_AT_ONCE = 256
_KINDS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGBA"}
_MOST_SHOWN = 1024  # pixels of the longer side in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Picture(Signal):
    """A picture as networks see it.

    Attributes
    ----------
    levels
        (H, W, C) uint8, uint16, or float32 in [0, 1], not writable: the source's own unless its colours were
        changed. C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. Alpha is straight, and the colour of a fully
        transparent pixel is 0.
    bit_depth
        8 or 16, for the files made from it. Floating sources count as 8.
    name
        The file's name without its folder, or "array".
    notes
        A short sentence for each change to the picture.
    """

    levels: Levels
    bit_depth: int
    name: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.levels.flags.writeable = False

    def __reduce__(self) -> tuple[type[Picture], tuple[Any, ...]]:
        return Picture, (self.levels, self.bit_depth, self.name, self.notes)

    def __repr__(self) -> str:
        kind = _KINDS.get(self.channels, f"{self.channels} channels")
        return f"<Picture {escaped(self.name)}, {self.width}x{self.height}: {kind}, {self.levels.dtype}>"

    def _repr_png_(self) -> bytes:
        """Return the picture for a notebook, reduced if it is large."""
        step = max(1, max(self.height, self.width) // (4 * _MOST_SHOWN))
        levels = self.levels[::step, ::step]
        image = image_of(levels if levels.dtype == np.uint8 else quantize(to_pixels(levels)))
        image.thumbnail((_MOST_SHOWN, _MOST_SHOWN))
        return png_bytes(image)

    is_picture = True

    @property
    def shape(self) -> tuple[int, int]:
        """Return (H, W)."""
        return self.height, self.width

    @property
    def num_values(self) -> int:
        """Return H W C."""
        return self.levels.size

    @cached_property
    def pixels(self) -> Pixels:
        """Return colours (H, W, C), float32 in [0, 1], not writable; computed once."""
        pixels = to_pixels(self.levels)
        pixels.flags.writeable = False
        return pixels

    @property
    def colours(self) -> Colours:
        """Return the colours without a copy: only the parts that are read become float32."""
        return Colours(self.levels)

    @property
    def height(self) -> int:
        """Return H, in pixels."""
        return int(self.levels.shape[0])

    @property
    def width(self) -> int:
        """Return W, in pixels."""
        return int(self.levels.shape[1])

    @property
    def channels(self) -> int:
        """Return C, alpha included."""
        return int(self.levels.shape[2])

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)

    @cached_property
    def other_codecs(self) -> OtherCodecs:
        """Return what JPEG, WebP and AVIF take for this picture; what they were asked is kept."""
        return OtherCodecs(self.levels)

    @property
    def size_facts(self) -> dict[str, Any]:
        """Return height and width."""
        return {"height": self.height, "width": self.width}

    def other_bits_per_pixel(self, psnr: float | None) -> dict[str, float | None]:
        """Return the bits per pixel of the plain picture, and of JPEG, WebP and AVIF at a PSNR."""
        return {"plain": self.plain_bits_per_pixel, **self.other_codecs.bits_at(psnr)}

    @property
    def plain_bits_per_pixel(self) -> int:
        """Return the bits of all channels of a pixel."""
        return self.bit_depth * self.channels

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of shape and pixels in hexadecimal, the same on every machine."""
        shape = "x".join(str(length) for length in self.levels.shape)
        digest = hashlib.sha256(shape.encode() + b"\n")
        for top in range(0, self.height, _ROWS_AT_ONCE):
            rows = self.colours[top : top + _ROWS_AT_ONCE]
            digest.update(np.ascontiguousarray(rows, dtype="<f4").data)  # not copied
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
        uint8, uint16, or floats in [0, 1]. Of several frames the first is taken. Formats: PNG, JPEG, GIF,
        WebP, AVIF, TIFF, BMP, PPM, TGA, ICO, JPEG 2000, QOI, PCX, SGI.
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
        `size` or `background` cannot be used.
    """
    paper = None if background is None else parse_colour(background)
    check_size(size)
    notes: list[str] = []
    path, levels, bit_depth = _read(source, max_pixels, notes)
    levels = settle_alpha(levels, notes)
    levels = resample(levels, size, max_pixels, notes)
    if paper is not None:
        levels = lay_on(levels, paper, f"alpha composited on {background}", notes)
    name = path.name.encode(errors="replace").decode()  # reports need valid Unicode
    return Picture(np.ascontiguousarray(levels), bit_depth, name, tuple(dict.fromkeys(notes)))


def _read(source: Source, max_pixels: int, notes: list[str]) -> tuple[Path, Levels, int]:
    """Return the path, or a name in its place, the levels as they are stored, and the bit depth."""
    if isinstance(source, Picture):
        notes += source.notes
        return Path(source.name), source.levels, source.bit_depth
    if isinstance(source, Image.Image):
        path = Path(os.fsdecode(getattr(source, "filename", "") or "array"))
        return path, *read_image(source, max_pixels, notes)
    if isinstance(source, str | os.PathLike):
        if "://" in os.fspath(source):
            raise PictureError(
                f"{printable(source)} is an address, and nothing is downloaded: save it to a file first"
            )
        return Path(source), *read_file(Path(source), max_pixels, notes)
    return Path("array"), *read_array(source)


def bundled_picture(size: int = 128) -> Picture:
    """Load the bundled cat Chelsea: RGB, `size` x `size` pixels, 32 or 128."""
    if size not in BUNDLED_SIZES:
        raise ConfigError(f"the bundled picture has the sizes 32 and 128, not {size}")
    with resources.as_file(resources.files("coordfit") / "data" / f"chelsea-{size}.png") as path:
        return load_picture(path)
