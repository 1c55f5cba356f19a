"""Measure what JPEG, JPEG 2000, WebP and AVIF take for a picture at a PSNR, through Pillow."""

from __future__ import annotations

import bisect
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from .formats.levels import Levels, to_pixels
from .formats.png import quantize
from .formats.writing import image_of
from .metrics import bits_per_pixel, psnr_from_mse

_SAMPLE = 1 << 15  # pixels of the squares that are compressed often in place of a large picture
_SIDE = 64  # of a square: a multiple of all block sizes of these codecs
_MOST_PIXELS = 1 << 19  # of a picture that slow codecs compress for a report
_TRIES, _NEAR = 3, 0.5  # dB: a file of the whole picture is tried again while it is further from the PSNR
_STRIP = 1 << 21  # pixels of a large picture that a codec has at a time, for a report
_BLOCK = 16  # rows: the largest block of JPEG
_ROWS = 64


@dataclass(frozen=True)
class Codec:
    """A codec of Pillow: its options, and the values of one option that sets the quality, worst first."""

    name: str
    kind: str
    options: Mapping[str, Any]
    qualities: Sequence[Any] = range(1, 101)
    quality_option: str = "quality"
    feature: str | None = None

    @property
    def is_there(self) -> bool:
        """Whether this Pillow has the codec."""
        known = {**features.modules, **features.codecs, **features.features}  # of others `check` warns
        return self.feature is None or (self.feature in known and bool(features.check(self.feature)))

    def encode(self, image: Image.Image, index: int) -> bytes:
        """Return the file of a picture at a quality of the list; OSError or ValueError if it cannot be made."""
        file = io.BytesIO()
        image.save(file, self.kind, **self.options, **{self.quality_option: self.qualities[index]})
        return file.getvalue()


JPEG = Codec("JPEG 4:2:0", "JPEG", {"optimize": True, "progressive": True, "subsampling": "4:2:0"})
JPEG_444 = replace(JPEG, name="JPEG 4:4:4", options={**JPEG.options, "subsampling": "4:4:4"})
JPEG_2000 = Codec(
    "JPEG 2000",
    "JPEG2000",
    {"quality_mode": "dB", "irreversible": True, "mct": 1},
    qualities=[[decibels / 4] for decibels in range(60, 281)],
    quality_option="quality_layers",
    feature="jpg_2000",
)
WEBP = Codec("WebP", "WEBP", {"method": 6, "exact": True}, feature="webp")
AVIF = Codec("AVIF 4:4:4", "AVIF", {"speed": 6, "subsampling": "4:4:4"}, feature="avif")

BEST_EFFORT = (JPEG, JPEG_444, JPEG_2000, WEBP, AVIF)
"""The codecs at an effort that suits a comparison of files."""

_QUICK = {
    "JPEG": (JPEG, JPEG_444),
    "WebP": (replace(WEBP, options={**WEBP.options, "method": 4}),),
    "AVIF": (replace(AVIF, options={**AVIF.options, "speed": 10}),),
}


@dataclass(frozen=True)
class Encoded:
    """A file of a codec: its bits per pixel, and the PSNR in dB of the picture that it decodes to."""

    index: int
    bits: float
    psnr: float


def decode(data: bytes, mode: str) -> NDArray[np.uint8]:
    """Return the levels (H, W, C) of a file's picture in one of Pillow's modes."""
    with Image.open(io.BytesIO(data)) as image:
        levels = np.asarray(image.convert(mode))
    return levels.reshape(*levels.shape[:2], -1)


@dataclass
class Curve:
    """The files that one codec makes of a picture (H, W, C); each quality is measured once, when it is needed.

    `levels` are as in `Picture`. Files have 8 bits; PSNR is taken to the levels as they are. A picture of more
    than `most_pixels` is compressed in strips of that size, so that memory is bounded.
    """

    codec: Codec
    levels: Levels
    most_pixels: int | None = None
    _known: dict[int, Encoded] = field(default_factory=dict, repr=False)

    def at(self, index: int) -> Encoded:
        """Return the file at a quality of the codec's list."""
        if index not in self._known:
            size, squares = 0, 0.0
            for levels in self._strips():
                image = image_of(levels if levels.dtype == np.uint8 else quantize(to_pixels(levels)))
                data = self.codec.encode(image, index)
                size += len(data)
                squares += _squared_error(decode(data, image.mode), levels)
            height, width, _ = self.levels.shape
            mse = squares / self.levels.size
            self._known[index] = Encoded(index, bits_per_pixel(size, height * width), psnr_from_mse(mse))
        return self._known[index]

    def _strips(self) -> Iterator[Levels]:
        height, width, _ = self.levels.shape
        rows = height
        if self.most_pixels is not None and height * width > self.most_pixels:
            rows = max(1, self.most_pixels // (width * _BLOCK)) * _BLOCK
        yield from (self.levels[top : top + rows] for top in range(0, height, rows))

    def reaching(self, psnr: float) -> Encoded | None:
        """Return the file at the lowest quality that reaches a PSNR in dB; None if none does.

        Bisection: PSNR is taken to rise with quality.
        """
        count = len(self.codec.qualities)
        index = bisect.bisect_left(range(count), psnr, key=lambda i: self.at(i).psnr)
        return None if index == count else self.at(index)

    def bits_at(self, psnr: float) -> float | None:
        """Return bits per pixel at a PSNR in dB; None if no quality reaches it.

        Logarithms of bits are interpolated between the qualities on both sides of it.
        """
        above = self.reaching(psnr)
        if above is None or above.index == 0:
            return None if above is None else above.bits
        below = self.at(above.index - 1)
        if not math.isfinite(above.psnr) or above.psnr <= below.psnr:
            return above.bits
        share = (psnr - below.psnr) / (above.psnr - below.psnr)
        return float(below.bits ** (1 - share) * above.bits**share)


def _squared_error(found: Levels, truth: Levels) -> float:
    """Return the sum of squared errors of two pictures (H, W, C), on the scale of colours in [0, 1]."""
    total = 0.0
    for top in range(0, len(truth), _ROWS):
        rows = slice(top, top + _ROWS)
        total += float(np.square(to_pixels(found[rows]) - to_pixels(truth[rows])).sum(dtype=np.float64))
    return total


class OtherCodecs:
    """What JPEG, WebP and AVIF take for a picture (H, W, C), within a few per cent, quickly.

    A large picture is compressed once by each codec. A sample of its squares tells at which quality, and
    how the bits change from there to the PSNR that is asked for.
    """

    def __init__(self, levels: Levels) -> None:
        sample = spread_squares(levels)
        self._curves: dict[str, list[tuple[Curve, Curve]]] = {
            name: [(Curve(c, sample), Curve(c, levels, _STRIP)) for c in codecs if _is_usable(c, levels)]
            for name, codecs in _QUICK.items()
        }

    def bits_at(self, psnr: float | None) -> dict[str, float | None]:
        """Return the bits per pixel of each codec at a PSNR in dB.

        None stands for a codec that does not reach it, has no alpha for this picture, is not in this Pillow, or
        would take long: WebP and AVIF above 2^19 pixels. JPEG is the smaller of 4:2:0 and 4:4:4.
        """
        return {
            name: min((b for b in (_bits(*pair, psnr) for pair in pairs) if b is not None), default=None)
            for name, pairs in self._curves.items()
        }


def _is_usable(codec: Codec, levels: Levels) -> bool:
    """Whether a codec is there, and quick enough."""
    is_quick = codec.kind == "JPEG" or levels.shape[0] * levels.shape[1] <= _MOST_PIXELS
    return codec.is_there and is_quick


def _bits(sample: Curve, whole: Curve, psnr: float | None) -> float | None:
    """Return bits at a PSNR; None if the codec cannot hold the picture, or not that well."""
    if psnr is None or not math.isfinite(psnr):
        return None
    try:
        if sample.levels is whole.levels:
            return whole.bits_at(psnr)
        guess = sample.reaching(psnr)
        for attempt in range(_TRIES):
            if guess is None:
                return None
            found = whole.at(guess.index)
            wanted = guess.psnr + psnr - found.psnr
            if abs(psnr - found.psnr) < _NEAR or attempt == _TRIES - 1:
                near = sample.bits_at(wanted)
                return None if near is None else found.bits * near / guess.bits
            guess = sample.reaching(wanted)
        return None
    except (OSError, ValueError):  # no alpha, or too long a side
        return None


def spread_squares(levels: Levels) -> Levels:
    """Return squares of a picture (H, W, C), evenly spread, as one picture of at most 2^15 pixels or so.

    A picture that is small or narrow is returned as it is.
    """
    height, width, _ = levels.shape
    if height * width <= 2 * _SAMPLE or min(height, width) < _SIDE:
        return levels
    count = _SAMPLE // _SIDE**2
    down = min(max(1, round(math.sqrt(count * height / width))), height // _SIDE, count)
    across = min(count // down, width // _SIDE)
    tops, lefts = (
        np.linspace(0, length - _SIDE, n).round().astype(int) for length, n in ((height, down), (width, across))
    )
    rows = (np.concatenate([levels[y : y + _SIDE, x : x + _SIDE] for x in lefts], axis=1) for y in tops)
    return np.concatenate([*rows])
