"""`compress` and `decompress`: a picture as a file of few bits, and back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..codec import CompressedPicture, CompressionReport, Compressor, Target, decode, load
from ..codec.compression import Callback
from ..errors import ConfigError
from ..files import FilePath, write_bytes
from ..images import MAX_PIXELS, Picture, Source, load_picture
from ..images.formats.levels import Levels, to_pixels
from ..images.formats.png import quantize
from ..images.resizing import check_size
from ..models.rendering import Crop
from ..report.notebook import html_of

DEFAULT_PSNR = 40.0
_SECONDS, _PIXELS = 60.0, 400_000  # by default, and up to how many pixels


@dataclass(frozen=True)
class Compressing:
    """What is asked of a compression.

    Attributes
    ----------
    psnr, bits_per_pixel, lmbda : float, optional
        One of them, in dB, bits, and as MSE per bit and pixel; by default 40 dB.
    seconds, steps
        One of them; by default `usual_seconds`.
    """

    psnr: float | None = None
    bits_per_pixel: float | None = None
    lmbda: float | None = None
    seconds: float | None = None
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        targets = {name: getattr(self, name) for name in ("psnr", "bits_per_pixel", "lmbda")}
        given = [name for name, value in targets.items() if value is not None]
        if len(given) > 1:
            raise ConfigError(f"{given[0]} and {given[1]} cannot both be reached; leave one out")
        for name, value in {**targets, "seconds": self.seconds, "steps": self.steps}.items():
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a number above 0, not {value!r}")
        if self.steps is not None and self.seconds is not None:
            raise ConfigError("steps and seconds cannot both be the budget; leave one out")

    @property
    def target(self) -> Target:
        """What is to be reached."""
        if self.bits_per_pixel is None and self.lmbda is None:
            return Target(psnr=self.psnr or DEFAULT_PSNR)
        return Target(bits_per_pixel=self.bits_per_pixel, lmbda=self.lmbda)

    def compressor(self, picture: Picture, **more: Any) -> Compressor:
        """Return the compression of a picture, not begun."""
        seconds = self.seconds or (usual_seconds(picture) if self.steps is None else None)
        levels = levels_of(picture)
        return Compressor(levels, self.target, steps=self.steps, seconds=seconds, seed=self.seed, **more)


def usual_seconds(picture: Picture) -> float:
    """Return how long a compression takes by default: a minute, and with a picture's size as its root."""
    return _SECONDS * max(1.0, math.sqrt(picture.height * picture.width / _PIXELS))


@dataclass(frozen=True, repr=False)
class CompressionResult:
    """A compressed picture.

    Attributes
    ----------
    data : bytes
        The file.
    report : CompressionReport
        PSNR and bits per pixel of the file, and how it was made.
    """

    data: bytes
    report: CompressionReport
    picture: Picture

    def __repr__(self) -> str:
        psnr, bits = self.report.psnr, self.report.bits_per_pixel
        return f"<CompressionResult of {self.picture!r}: {bits:.3f} bits per pixel, {psnr:.2f} dB>"

    def _repr_html_(self) -> str:
        """Return the figures and the decompressed picture for notebooks."""
        rows = [
            ("PSNR", f"{self.report.psnr:.2f} dB"),
            ("file", f"{len(self.data):,d} bytes, {self.report.bits_per_pixel:.3f} bits per pixel"),
        ]
        return html_of(f"{self.picture.name}, compressed", rows, self.decompressed()._repr_png_())

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {"bytes": len(self.data), **dataclasses.asdict(self.report)}

    def save(self, path: FilePath) -> None:
        """Write the file, atomically; OutputError if it cannot be written."""
        write_bytes(path, self.data)

    def decompressed(self) -> Picture:
        """Return the picture that the file holds."""
        return decompress(self.data, name=self.picture.name)


def compress(
    image: Source,
    *,
    psnr: float | None = None,
    bits_per_pixel: float | None = None,
    lmbda: float | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    background: str | None = None,
    threads: int | None = None,
    callback: Callback | None = None,
    max_pixels: int = MAX_PIXELS,
) -> CompressionResult:
    """Fit a pyramid of latents and two small networks to a picture, and pack them into few bits.

    Parameters
    ----------
    image, size, background, max_pixels
        As `coordfit.load_picture` takes them.
    psnr, bits_per_pixel, lmbda
        What is to be reached, one of them: dB over all channels, bits of the file, or the price of one bit per
        pixel as MSE. By default 40 dB.
    seconds, steps
        How long training takes, one of them; by default 60 seconds, and five minutes for 12 megapixels. More
        is smaller.
    threads : int, optional
        By default all cores.
    callback : callable, optional
        Told of the progress before each step; returning True ends training, and the file is made.

    Raises
    ------
    ConfigError, PictureError
    """
    asked = Compressing(psnr, bits_per_pixel, lmbda, seconds, steps, seed)
    picture = load_picture(image, size=size, background=background, max_pixels=max_pixels)
    compressor = asked.compressor(picture, threads=threads)
    compressor.train(callback)
    return finished(compressor, picture)


def finished(compressor: Compressor, picture: Picture) -> CompressionResult:
    """Return the file of a compression as training has left it."""
    return CompressionResult(*compressor.finish(compiled=None), picture)


def decompress(
    source: FilePath | bytes,
    *,
    size: int | tuple[int, int] | None = None,
    crop: Crop | None = None,
    name: str | None = None,
) -> Picture:
    """Return the picture of a compressed file, or of its bytes, at any size.

    Parameters
    ----------
    size
        The longer side in pixels, or (width, height); by default the picture's own. In its own size the pixels
        are the same on every machine.
    crop : (left, top, width, height), optional
        A window of that size, in its pixels.

    Raises
    ------
    CompressedFileError
        The file is missing, damaged, or not ours.
    ConfigError
        The size or the crop is impossible.
    """
    drawn = open_compressed(source, name)
    own = drawn.picture
    check_size(size)
    if size is None and crop is None:
        return Picture(drawn.levels(), own.bit_depth, own.name)
    if size is None or isinstance(size, tuple):
        width, height = size or (own.width, own.height)
    else:
        width, height = (max(1, round(n * size / max(own.size))) for n in (own.width, own.height))
    try:
        grid = drawn.grid(height, width, crop=crop)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    rows = [quantize(rows, own.bit_depth) for rows in drawn.render_rows(grid)]
    return Picture(np.concatenate(rows), own.bit_depth, own.name)


def open_compressed(source: FilePath | bytes, name: str | None = None) -> CompressedPicture:
    """Return a compressed file, or its bytes, as a function that draws itself."""
    if isinstance(source, bytes):
        name = name or "the compressed picture"
        return CompressedPicture(decode(source, name, compiled=None), name)
    return CompressedPicture(load(source, compiled=None), name or Path(source).name)


def levels_of(picture: Picture) -> Levels:
    """Return a picture's levels as integers of its bit depth."""
    if picture.levels.dtype.kind == "u":
        return picture.levels
    return quantize(to_pixels(picture.levels), picture.bit_depth)
