"""What other picture formats need for the same quality: Pillow's JPEG, JPEG 2000, WebP and AVIF."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from .formats.levels import Levels, to_pixels
from .formats.writing import image_of
from .metrics import psnr


class Codec(NamedTuple):
    """A format of Pillow, its options at a quality, the qualities, and the channels that it holds."""

    format: str
    options: Callable[[int], dict[str, Any]]
    qualities: range
    channels: tuple[int, ...]


def _jpeg(quality: int) -> dict[str, Any]:
    return {"quality": quality, "optimize": True, "progressive": True}


CODECS: Mapping[str, Codec] = {
    "JPEG": Codec("JPEG", _jpeg, range(5, 99), (1, 3)),
    "JPEG 4:4:4": Codec("JPEG", lambda q: {**_jpeg(q), "subsampling": 0}, range(5, 101), (3,)),
    "JPEG 2000": Codec(
        "JPEG2000",
        lambda q: {"quality_mode": "dB", "quality_layers": [q / 4], "irreversible": True, "mct": 1},
        range(80, 240),
        (1, 3),
    ),
    "WebP": Codec("WEBP", lambda q: {"quality": q, "method": 6}, range(101), (3, 4)),
    "AVIF": Codec("AVIF", lambda q: {"quality": q, "speed": 6, "subsampling": "4:4:4"}, range(101), (3, 4)),
}
"""By name, with the effort that takes the fewest bits in seconds; JPEG has half the colours, then all."""


def bits_at(name: str, levels: Levels, decibels: float) -> float | None:
    """Return the bits per pixel of a codec at a PSNR over all channels; None if it does not reach it.

    `levels` is (H, W, C) of uint8. The logarithm of the bits is interpolated between neighbouring qualities.
    """
    codec = CODECS[name]
    if levels.dtype != np.uint8 or levels.shape[2] not in codec.channels or not _is_there(codec.format):
        return None
    low, high = codec.qualities[0], codec.qualities[-1]
    below, above = _measured(codec, levels, low), _measured(codec, levels, high)
    if not below[0] <= decibels <= above[0]:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        found = _measured(codec, levels, middle)
        if found[0] < decibels:
            low, below = middle, found
        else:
            high, above = middle, found
    if math.isinf(above[0]) or above[0] == below[0]:
        return above[1]
    share = (decibels - below[0]) / (above[0] - below[0])
    return math.exp((1 - share) * math.log(below[1]) + share * math.log(above[1]))


def _is_there(name: str) -> bool:
    feature = {"JPEG2000": "jpg_2000", "WEBP": "webp", "AVIF": "avif"}.get(name)
    return feature is None or bool(features.check(feature))


def _measured(codec: Codec, levels: Levels, quality: int) -> tuple[float, float]:
    """Return PSNR and bits per pixel at a quality."""
    file = io.BytesIO()
    image = image_of(levels)
    image.save(file, codec.format, **codec.options(quality))
    with Image.open(file) as decoded:
        found = np.asarray(decoded.convert(image.mode)).reshape(levels.shape)
    decibels = psnr(to_pixels(found), to_pixels(levels))
    return float(decibels or 0.0), 8 * file.tell() / levels[..., 0].size
