"""Write frames as an animated WebP, PNG or GIF, or as a video, by the suffix of the file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from ..errors import ConfigError, OutputError
from ..files import FilePath, printable, write_bytes
from .mp4 import check_encoder, mp4_bytes

_PALETTE_FRAMES = 5
_VIDEO = ".mp4"
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".webp": ("WEBP", {"quality": 88, "method": 4, "minimize_size": False}),
    ".png": ("PNG", {"default_image": False}),
    ".gif": ("GIF", {"optimize": False}),
}


@dataclass(frozen=True)
class FrameTiming:
    """How long frames are shown.

    Attributes
    ----------
    rate : Fraction
        Frames per second; files without a rate round their time to milliseconds, GIF to hundredths of a second.
    last_seconds : float
        The time of the last frame.
    """

    rate: Fraction
    last_seconds: float


def is_video(path: FilePath) -> bool:
    """Whether a file is written as a video, with even sides and one frame at a time in memory."""
    return Path(path).suffix.lower() == _VIDEO


def check_suffix(path: FilePath) -> None:
    """Refuse a file whose suffix names no animated format; call it before the work that makes the frames.

    ConfigError unless the suffix is .webp, .png, .gif or .mp4, and this machine can write the format.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (*_FORMATS, _VIDEO):
        known = ", ".join((*_FORMATS, _VIDEO))
        raise ConfigError(f"cannot animate into {printable(path)}: its suffix is none of {known}")
    if suffix == ".webp" and not features.check("webp"):
        raise ConfigError(
            f"cannot animate into {printable(path)}: this Pillow is built without WebP; name a .png or .gif"
        )
    if suffix == _VIDEO:
        check_encoder()


def save_frames(path: FilePath, frames: Iterable[Image.Image], count: int, timing: FrameTiming) -> None:
    """Write `count` frames, RGB pictures of one size, in the format of the suffix, whole or not at all.

    A video takes one frame at a time; the other formats, which repeat for ever, keep all of them in memory.
    ConfigError for another suffix, OutputError if the file cannot be written.
    """
    check_suffix(path)
    if is_video(path):
        held = max(1, round(timing.last_seconds * timing.rate))
        content = mp4_bytes(_with_last_repeated(frames, held), count + held - 1, timing.rate)
    else:
        content = _animated_bytes(path, [*frames], timing)
    write_bytes(path, content)


def _with_last_repeated(frames: Iterable[Image.Image], held: int) -> Iterable[Image.Image]:
    for frame in frames:
        yield frame
    yield from [frame] * (held - 1)


def _animated_bytes(path: FilePath, frames: Sequence[Image.Image], timing: FrameTiming) -> bytes:
    """Return the content of a file of Pillow's."""
    name, options = _FORMATS[Path(path).suffix.lower()]
    first, *others = _with_one_palette(frames) if name == "GIF" else frames
    last = round(1000 * timing.last_seconds)
    durations = [round(1000 / timing.rate)] * len(others) + [last]
    content = io.BytesIO()
    try:
        first.save(
            content,
            name,
            save_all=True,
            append_images=others,
            duration=durations if others else last,
            loop=0,
            **options,
        )
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot animate into {printable(path)} ({error})") from error
    return content.getvalue()


def _with_one_palette(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Return frames with 255 colours, the same for all of them, since colours would flicker otherwise.

    They are those of the first, the last and some frames between, since early ones may be grey.
    """
    chosen = sorted({round(place) for place in np.linspace(0, len(frames) - 1, _PALETTE_FRAMES)})
    width, height = frames[0].size
    column = Image.new("RGB", (width, height * len(chosen)))
    for place, number in enumerate(chosen):
        column.paste(frames[number], (0, place * height))
    palette = column.quantize(255, dither=Image.Dither.NONE)
    return [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
