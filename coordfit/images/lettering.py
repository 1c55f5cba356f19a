"""Load the font for text in pictures, and make text fit."""

from __future__ import annotations

import importlib.util
import unicodedata
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SPEC = importlib.util.find_spec("matplotlib")  # an import would take longer than drawing
MATPLOTLIB_DATA = Path((_SPEC and _SPEC.origin) or "").parent / "mpl-data"
"""Matplotlib's folder with its matplotlibrc and DejaVu Sans."""

_SCALE = 0.9  # DejaVu Sans is wide and tall for its size
_ABSENT = "\N{REPLACEMENT CHARACTER}"


def load_font(size: float) -> Font:
    """Return DejaVu Sans, or Pillow's own font, which has ASCII alone, if its file is missing.

    DejaVu Sans has Latin, Greek and Cyrillic letters and draws a box for others.
    """
    try:
        return ImageFont.truetype(MATPLOTLIB_DATA / "fonts" / "ttf" / "DejaVuSans.ttf", _SCALE * size)
    except OSError:
        return ImageFont.load_default(size)


def plain_text(text: str) -> str:
    """Return text on one line, with accents joined to letters and a sign for unprintable letters."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(map(_drawn, composed)).split())


def _drawn(letter: str) -> str:
    """Return a letter as it is drawn; format controls, such as writing direction, are dropped."""
    if letter.isspace():
        return " "
    if unicodedata.category(letter) == "Cf":
        return ""
    return letter if letter.isprintable() else _ABSENT


def shorten(text: str, font: Font, length: float) -> str:
    """Remove letters from the middle until the text fits, since both ends of a file name matter."""
    if font.getlength(text) <= length:
        return text
    longest = min(len(text), round(length) // 2)  # no letter is narrower than two pixels
    for letters in range(longest - 1, 1, -1):
        short = f"{text[: letters - letters // 2]} ... {text[len(text) - letters // 2 :]}"
        if font.getlength(short) <= length:
            return short
    return "..."
