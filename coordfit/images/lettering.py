"""Draw text in pictures: load its font, and make names fit to be drawn."""

from __future__ import annotations

import importlib.util
import unicodedata
from pathlib import Path

from PIL import ImageFont

__all__ = ["MATPLOTLIB_DATA", "Font", "load_font", "plain_text", "shorten"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SPEC = importlib.util.find_spec("matplotlib")  # found, not imported: that takes longer than drawing
MATPLOTLIB_DATA = Path((_SPEC and _SPEC.origin) or "").parent / "mpl-data"
"""The folder of Matplotlib's own files: its matplotlibrc, and DejaVu Sans."""

_SCALE = 0.9  # DejaVu Sans is wide and tall for its size
_ABSENT = "\N{REPLACEMENT CHARACTER}"


def load_font(size: float) -> Font:
    """Return DejaVu Sans, which has Latin, Greek and Cyrillic letters and draws a box for what it lacks.

    If its file is missing, return Pillow's own font, which has ASCII alone.
    """
    try:
        return ImageFont.truetype(MATPLOTLIB_DATA / "fonts" / "ttf" / "DejaVuSans.ttf", _SCALE * size)
    except OSError:
        return ImageFont.load_default(size)


def plain_text(text: str) -> str:
    """Return text on one line, its accents joined to their letters, and a sign for what cannot be drawn."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(map(_drawn, composed)).split())


def _drawn(letter: str) -> str:
    """Return a letter as it is drawn: nothing for signs that only steer others, such as writing direction."""
    if letter.isspace():
        return " "
    if unicodedata.category(letter) == "Cf":
        return ""
    return letter if letter.isprintable() else _ABSENT


def shorten(text: str, font: Font, length: float) -> str:
    """Take letters out of the middle until the text fits: both ends of a file name matter."""
    if font.getlength(text) <= length:
        return text
    keep = min(len(text), round(length) // 2)  # no letter is narrower than two pixels
    while keep > 2:
        keep -= 1
        short = f"{text[: keep - keep // 2]} ... {text[len(text) - keep // 2 :]}"
        if font.getlength(short) <= length:
            return short
    return "..."
