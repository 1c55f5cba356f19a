"""Animate pictures while networks learn them, as WebP, PNG or GIF."""

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, features

from ..errors import ConfigError, OutputError
from ..files import printable, write_bytes
from ..images.lettering import load_font, plain_text, shorten
from .panels import GREY, INK, PAPER, show_pixels

SIZE_LIMIT = 512
MAX_FRAMES = 120

_SHEET_WIDTH = 1600
_SMALL_SIDE = 256  # smaller pictures are enlarged to about this, a whole number of times
_NARROW_CELL = 160
_MARGIN, _GAP = 16, 14
_FRAME_MS, _LAST_MS = 120, 2500
_PALETTE_FRAMES = 5
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".webp": ("WEBP", {"quality": 88, "method": 4, "minimize_size": False}),
    ".png": ("PNG", {"default_image": False}),
    ".gif": ("GIF", {"optimize": False}),
}


def check_suffix(path: str | Path) -> None:
    """Refuse a file whose suffix names no animated format; call it before training.

    ConfigError unless the suffix is .webp, .png or .gif, or if this Pillow cannot write WebP.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise ConfigError(f"cannot animate into {printable(path)}: its suffix is none of {known}")
    if suffix == ".webp" and not features.check("webp"):
        raise ConfigError(
            f"cannot animate into {printable(path)}: this Pillow is built without WebP; name a .png or .gif"
        )


class Animation:
    """Frames of pictures side by side, collected while networks train.

    Frames are stored compressed, at the size at which they are shown. If there are too many, every second one
    is dropped; the first and the latest always stay. Saving unpacks them all, which takes 60 MB for one small
    picture and 350 MB for the widest sheet.

    Parameters
    ----------
    titles
        One for each picture of a frame.
    size_limit
        The longest side of a picture in pixels; smaller ones are enlarged a whole number of times.
    max_frames
        The largest number of frames, 2 or more.
    """

    def __init__(
        self, titles: Sequence[str], size_limit: int = SIZE_LIMIT, *, max_frames: int = MAX_FRAMES
    ) -> None:
        if not titles or size_limit < 1 or max_frames < 2:
            raise ConfigError("an animation needs one picture, a size of 1 pixel and 2 frames at least")
        self.titles = list(titles)
        # All pictures together must fit on a sheet that is not viewed reduced.
        self._side = min(size_limit, max(64, (_SHEET_WIDTH - 2 * _MARGIN) // len(self.titles) - _GAP))
        self._max_frames = max_frames
        self._frames: list[bytes] = []
        self._stride, self._added = 1, 0
        self._latest = b""

    def __len__(self) -> int:
        """Return the number of frames of the animation."""
        return len(self._frames) + (1 if self._latest_is_apart else 0)

    @property
    def _latest_is_apart(self) -> bool:
        return self._added > 0 and (self._added - 1) % self._stride != 0

    def add(self, frames: Sequence[NDArray[np.floating[Any]]], caption: str | Sequence[str] = "") -> None:
        """Add one frame: a picture (H, W, C) in [0, 1], clipped, for each title, always of one shape.

        `caption` is a line below all of them, or one for each picture. ValueError if the number of pictures
        or captions differs from that of the titles.
        """
        captions = [caption] if isinstance(caption, str) else list(caption)
        if len(frames) != len(self.titles) or len(captions) not in (1, len(self.titles)):
            raise ValueError(
                f"{len(self.titles)} titles, but {len(frames)} pictures and {len(captions)} captions"
            )
        self._latest = _compressed(self._draw(frames, captions))
        if self._added % self._stride == 0:
            self._frames.append(self._latest)
        self._added += 1
        if len(self) > self._max_frames:
            self._frames = self._frames[::2]
            self._stride *= 2

    def save(self, path: str | Path) -> None:
        """Write the animation in the format of the suffix; the last frame is shown longer.

        ConfigError without a frame or for another suffix, OutputError if the file cannot be written.
        """
        check_suffix(path)
        if not self._added:
            raise ConfigError(f"cannot animate into {printable(path)}: there is no frame")
        name, options = _FORMATS[Path(path).suffix.lower()]
        frames = [*self._frames, self._latest] if self._latest_is_apart else self._frames
        first, *others = _decoded(frames, name)
        durations = [_FRAME_MS] * len(others) + [_LAST_MS]
        content = io.BytesIO()
        try:
            first.save(
                content,
                name,
                save_all=True,
                append_images=others,
                duration=durations if others else _LAST_MS,
                loop=0,
                **options,
            )
        except (OSError, ValueError) as error:
            raise OutputError(f"cannot animate into {printable(path)} ({error})") from error
        write_bytes(path, content.getvalue())

    def _draw(self, frames: Sequence[NDArray[np.floating[Any]]], captions: list[str]) -> Image.Image:
        """Draw one frame: titles, pictures, and captions below."""
        width, height = _shown_size(frames[0].shape[1], frames[0].shape[0], self._side)
        cell = max(width, _NARROW_CELL)
        content = len(frames) * (cell + _GAP) - _GAP
        sheet = Image.new("RGB", (content + 2 * _MARGIN, height + 2 * _MARGIN + 26 + 30), PAPER)
        pen, font = ImageDraw.Draw(sheet), load_font(15)
        for number, (title, pixels) in enumerate(zip(self.titles, frames, strict=True)):
            x = _MARGIN + number * (cell + _GAP)
            pen.text((x, _MARGIN + 14), shorten(plain_text(title), font, cell), INK, font, "ls")
            sheet.paste(show_pixels(pixels, (width, height)), (x, _MARGIN + 24))
        length = content if len(captions) == 1 else cell
        for number, caption in enumerate(captions):
            place = (_MARGIN + number * (cell + _GAP), _MARGIN + 24 + height + 22)
            pen.text(place, shorten(plain_text(caption), font, length), GREY, font, "ls")
        return sheet


def _shown_size(width: int, height: int, side: int) -> tuple[int, int]:
    longer = max(width, height)
    small = min(side, _SMALL_SIDE)
    factor = side / longer if longer > side else max(1, math.floor(small / longer))
    return max(8, round(width * factor)), max(8, round(height * factor))


def _compressed(sheet: Image.Image) -> bytes:
    content = io.BytesIO()
    sheet.save(content, "PNG", compress_level=1)
    return content.getvalue()


def _decoded(frames: Sequence[bytes], name: str) -> Iterator[Image.Image]:
    """Yield the frames as pictures; for GIF with one palette, since colours would flicker otherwise."""
    pictures = (Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames)
    if name != "GIF":
        yield from pictures
        return
    palette = _palette(frames)
    for picture in pictures:
        yield picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _palette(frames: Sequence[bytes]) -> Image.Image:
    """Return 255 colours of the first, the last and some frames between, since early ones are grey."""
    chosen = sorted({round(place) for place in np.linspace(0, len(frames) - 1, _PALETTE_FRAMES)})
    pictures = [Image.open(io.BytesIO(frames[number])).convert("RGB") for number in chosen]
    width, height = pictures[0].size
    column = Image.new("RGB", (width, height * len(pictures)))
    for number, picture in enumerate(pictures):
        column.paste(picture, (0, number * height))
    return column.quantize(255, dither=Image.Dither.NONE)
