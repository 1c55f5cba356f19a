"""Draw the sheet of a fit: original, reconstruction and error, with its figures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..images.lettering import Font, load_font, plain_text, shorten
from .panels import (
    GREY,
    INK,
    LINE,
    PAPER,
    THIN_SIDE,
    ErrorBar,
    FloatArray,
    Size,
    absolute_error,
    colour_error,
    draw_error_bar,
    error_scale,
    paste_framed,
    resize_to,
    show_pixels,
    size_in_words,
)

_SMALL_SIDE = 384  # small pictures are enlarged to about this, a whole number of times
LARGE_SIDE = 768  # larger pictures are reduced to this
_STACK_ASPECT = 2.2  # wider pictures are stacked
_NARROW_CELL = 264  # holds a panel's caption
_REFERENCE_WIDTH = 1200  # wider sheets get larger type, since they are viewed reduced


def comparison_picture(
    truth: FloatArray, prediction: FloatArray, title: str, figures: Sequence[tuple[str, str]]
) -> Image.Image:
    """Return one sheet with the original, the reconstruction, their error, and the figures of a fit.

    Small pictures are enlarged a whole number of times without smoothing, large ones reduced. Very wide ones
    are stacked. A picture with alpha is shown over a light checkerboard.

    Parameters
    ----------
    truth, prediction
        Pictures of one shape (H, W, C), float in [0, 1], with 1 (grey), 2 (grey and alpha), 3 (RGB) or
        4 (RGBA, not premultiplied) channels; ValueError otherwise. The prediction is clipped.
    title
        Headline; shortened if it does not fit.
    figures
        Pairs of a label and a value, such as ``("PSNR", "38.2 dB")``, in reading order.
    """
    error = absolute_error(truth, prediction)
    height, width = error.shape
    compared = Compared(truth, prediction, error, float(error.mean()), float(error.max()), error_scale(error))
    return draw_compared(compared, (width, height), title, figures)


class Compared(NamedTuple):
    """The content of a comparison; pictures (h, w, C) and error (h, w) may be reduced."""

    truth: FloatArray
    prediction: FloatArray
    error: NDArray[np.float32]
    mean: float
    largest: float
    scale: int  # in 8-bit levels


def draw_compared(
    compared: Compared, full_size: Size, title: str, figures: Sequence[tuple[str, str]]
) -> Image.Image:
    """Return the sheet of `comparison_picture`; `full_size` is that of the original pictures."""
    width, height = full_size
    stacked = width > _STACK_ASPECT * height
    size = _panel_size(width, height, stacked)
    error = resize_to(Image.fromarray(compared.error), size, Image.Resampling.BOX)
    note = f"mean {255 * compared.mean:.2f}, max {255 * compared.largest:.0f}"
    panels = [
        _Panel("original", size_in_words(width, height, size), show_pixels(compared.truth, size)),
        _Panel("reconstruction", "", show_pixels(compared.prediction, size)),
        _Panel("error", note, colour_error(error, compared.scale)),
    ]
    kind = "absolute error" if compared.truth.shape[2] == 1 else "absolute error, mean of channels"
    bar = ErrorBar(compared.scale, 255 * compared.largest > compared.scale, f"{kind}, in 1/255")
    return _Sheet(size[0], stacked).draw(plain_text(title), figures, panels, bar)


def _panel_size(width: int, height: int, stacked: bool) -> Size:
    """Return the size at which a picture of `width` x `height` pixels is shown."""
    longer = max(width, height)
    if longer > LARGE_SIDE:
        factor = LARGE_SIDE / longer
    elif stacked:
        factor = LARGE_SIDE // longer
    else:
        factor = max(1, round(_SMALL_SIDE / longer))
    return max(THIN_SIDE, round(width * factor)), max(THIN_SIDE, round(height * factor))


class _Panel(NamedTuple):
    caption: str
    note: str
    image: Image.Image


class _Sheet:
    """The layout of a comparison: places and sizes of all panels and texts.

    Parameters
    ----------
    panel_width
        Width of one panel in pixels.
    stacked
        Whether the panels stand below each other.
    """

    def __init__(self, panel_width: int, stacked: bool) -> None:
        self.stacked = stacked
        plain_width = self._content_width(panel_width, unit=1.0)
        self.unit = min(2.0, max(1.0, plain_width / _REFERENCE_WIDTH))
        self.cell = max(panel_width, self.px(_NARROW_CELL))
        self.content = self._content_width(panel_width, self.unit)
        self.margin = self.px(36)
        self.title_font = load_font(self.px(25))
        self.value_font = load_font(self.px(18))
        self.caption_font = load_font(self.px(16))
        self.small_font = load_font(self.px(13.5))

    def _content_width(self, panel_width: int, unit: float) -> int:
        cell = max(panel_width, round(_NARROW_CELL * unit))
        return max(cell, round(600 * unit)) if self.stacked else 3 * cell + 2 * round(24 * unit)

    def px(self, length: float) -> int:
        """Return a length in this sheet's pixels, given for a sheet of usual width."""
        return round(length * self.unit)

    def draw(
        self, title: str, figures: Sequence[tuple[str, str]], panels: list[_Panel], bar: ErrorBar
    ) -> Image.Image:
        """Draw everything from top to bottom, and cut the paper to length."""
        panel_height = self.px(30) + panels[0].image.height + self.px(28)
        rows = len(panels) if self.stacked else 1
        longest = self.px(240) + self.px(52) * (len(figures) + 1) + rows * panel_height
        sheet = Image.new("RGB", (self.content + 2 * self.margin, longest + 2 * self.margin), PAPER)
        pen = ImageDraw.Draw(sheet)

        y = self._draw_head(pen, title, figures)
        x = self.margin
        bottom = y
        for panel in panels:
            bottom = self._draw_panel(sheet, pen, panel, (x, y))
            if self.stacked:
                y = bottom + self.px(20)
            else:
                x += self.cell + self.px(24)
        x = self.margin if self.stacked else x - self.cell - self.px(24)
        bar_width = max(panels[-1].image.width, self.px(_NARROW_CELL))
        place = (x, bottom + self.px(12))
        bottom = draw_error_bar(sheet, place, bar_width, bar, self.small_font, self.unit)
        return sheet.crop((0, 0, sheet.width, bottom + self.margin - self.px(6)))

    def _draw_head(self, pen: ImageDraw.ImageDraw, title: str, figures: Sequence[tuple[str, str]]) -> int:
        """Draw the title, the figures in even columns and a rule; return the top of the panels."""
        y = self.margin
        if title:
            y += self.px(20)
            pen.text((self.margin, y), self._shorten(title, self.title_font), INK, self.title_font, "ls")
            y += self.px(20)
        pairs = [
            (
                self._shorten(plain_text(label), self.small_font),
                self._shorten(plain_text(value), self.value_font),
            )
            for label, value in figures
        ]
        lefts = self._columns(pairs)
        for index, (label, value) in enumerate(pairs):
            x = self.margin + lefts[index % len(lefts)]
            top = y + index // len(lefts) * self.px(52)
            pen.text((x, top + self.px(16)), label, GREY, self.small_font, "ls")
            pen.text((x, top + self.px(37)), value, INK, self.value_font, "ls")
        y += -(-len(pairs) // max(1, len(lefts))) * self.px(52)
        if title or pairs:
            y += self.px(4)
            pen.line((self.margin, y, self.margin + self.content - 1, y), LINE, self.px(1))
            y += self.px(22)
        return y

    def _columns(self, pairs: list[tuple[str, str]]) -> list[int]:
        """Return the left edges of the columns of figures: few rows of even length, evenly spaced."""
        lengths = [max(self.small_font.getlength(a), self.value_font.getlength(b)) for a, b in pairs]
        for rows in range(1, len(pairs) + 1):
            columns = -(-len(pairs) // rows)
            widths = [max(lengths[column::columns]) for column in range(columns)]
            gap = (self.content - sum(widths)) / max(1, columns - 1)
            if columns == 1 or gap >= self.px(26):
                gap = min(gap, self.px(64))
                return [round(sum(widths[:column]) + column * gap) for column in range(columns)]
        return []

    def _draw_panel(
        self, sheet: Image.Image, pen: ImageDraw.ImageDraw, panel: _Panel, corner: tuple[int, int]
    ) -> int:
        """Draw caption, note and picture; return the picture's lower edge."""
        x, y = corner
        baseline = y + self.px(15)
        pen.text((x, baseline), panel.caption, INK, self.caption_font, "ls")
        right = x + max(panel.image.width, self.px(_NARROW_CELL))
        pen.text((right, baseline), panel.note, GREY, self.small_font, "rs")
        top = y + self.px(26)
        paste_framed(sheet, panel.image, (x, top))
        return top + panel.image.height

    def _shorten(self, text: str, font: Font) -> str:
        return shorten(text, font, self.content)
