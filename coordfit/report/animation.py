"""Animate pictures while networks learn them."""

import io
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import ConfigError
from ..files import FilePath, printable
from ..images.animated import FrameTiming, check_suffix, save_frames
from ..images.lettering import load_font, plain_text, shorten
from .panels import GREY, INK, PAPER, show_pixels

SIZE_LIMIT = 512
MAX_FRAMES = 120

_SHEET_WIDTH = 1600
_SMALL_SIDE = 256  # smaller pictures are enlarged to about this, a whole number of times
_NARROW_CELL = 160
_MARGIN, _GAP = 16, 14
_TIMING = FrameTiming(Fraction(1000, 120), 2.5)


class Animation:
    """Frames of pictures side by side, collected while networks train.

    Frames are stored compressed, at the size at which they are shown. If there are too many, every second one
    is dropped; the first and the latest always stay. Saving unpacks them all, which takes 60 MB for one small
    picture and 350 MB for the widest sheet, unless it is a video.

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

    def save(self, path: FilePath) -> None:
        """Write the animation in the format of the suffix; the last frame is shown longer.

        ConfigError without a frame or for another suffix, OutputError if the file cannot be written.
        """
        check_suffix(path)
        if not self._added:
            raise ConfigError(f"cannot animate into {printable(path)}: there is no frame")
        frames = [*self._frames, self._latest] if self._latest_is_apart else self._frames
        save_frames(path, map(_decoded, frames), len(frames), _TIMING)

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


def _decoded(frame: bytes) -> Image.Image:
    return Image.open(io.BytesIO(frame)).convert("RGB")
