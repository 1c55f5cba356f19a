"""Draw several reconstructions of one picture on a sheet, with figures, and errors on one scale."""

import math
from collections.abc import Sequence
from typing import NamedTuple

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

Figures = Sequence[tuple[str, str]]
Panel = tuple[str, FloatArray, Figures]
"""Name, picture (H, W, C), and pairs of a label and a value."""

_SHEET_WIDTH = 1600  # a wider sheet would be viewed reduced
_FEW_SIDE, _MANY_SIDE = 384, 256  # the longer side of a picture, for up to three on a sheet and for more
_LONG_SIDE = 640  # the same for pictures with a side ratio above `_LONG_ASPECT`
_LONG_ASPECT = 2.2
_NARROW_CELL = 210  # holds a name and figures
_MARGIN, _GAP = 36, 22
_WIDEST_BAR, _BAR_HEIGHT = 300, 70  # below a strip


def side_by_side(truth: FloatArray, panels: Sequence[Panel], *, title: str) -> Image.Image:
    """Return a sheet with the truth, each reconstruction, and below each its error, all on one scale.

    Small pictures are enlarged a whole number of times without smoothing, large ones reduced. If they do not
    fit side by side, they continue in further rows. Alpha is shown over a light checkerboard.

    Parameters
    ----------
    truth
        The picture (H, W, C), float in [0, 1], C from 1 to 4.
    panels
        A name, a reconstruction of the same shape (ValueError otherwise) and its figures, pairs such as
        ``("held out", "29.1 dB")``.
    title
        Headline; shortened if it does not fit.
    """
    height, width = truth.shape[:2]
    size = _shown_size(width, height, 1 + len(panels))
    cells = [_Cell("truth", show_pixels(truth, size), [("", size_in_words(width, height, size))])]
    errors = [_error_of(truth, prediction, size) for _, prediction, _ in panels]
    # The median, since a failed one would darken all others; the bar marks a clipped scale.
    scale = sorted(error.scale for error in errors)[len(errors) // 2] if errors else 1
    for (name, prediction, figures), error in zip(panels, errors, strict=True):
        note = f"error: mean {error.mean:.2f}, max {error.largest:.0f}"
        cell = _Cell(name, show_pixels(prediction, size), figures, colour_error(error.map, scale), note)
        cells.append(cell)
    clipped = any(error.largest > scale for error in errors)
    bar = ErrorBar(scale, clipped, "absolute error, in 1/255") if panels else None
    return _Sheet(size, len(cells)).draw(title, cells, bar)


def picture_strip(panels: Sequence[Panel], *, title: str) -> Image.Image:
    """Return a sheet of pictures with their names and figures, without a truth.

    ValueError if there is no picture, or they differ in height or width.
    """
    shapes = {pixels.shape[:2] for _, pixels, _ in panels}
    if len(shapes) != 1:
        raise ValueError(f"a strip needs pictures of one shape, not {sorted(shapes)}")
    ((height, width),) = shapes
    size = _shown_size(width, height, len(panels))
    cells = [_Cell(name, show_pixels(pixels, size), figures) for name, pixels, figures in panels]
    return _Sheet(size, len(cells)).draw(title, cells, None)


def with_bar(strip: Image.Image, count: int, bar: ErrorBar) -> Image.Image:
    """Return a strip of `count` panels with a colour bar below the last one."""
    taller = Image.new("RGB", (strip.width, strip.height + _BAR_HEIGHT), PAPER)
    taller.paste(strip)
    column = (strip.width - 2 * _MARGIN - (count - 1) * _GAP) // count  # if all panels are in one row
    width = min(max(column, _NARROW_CELL), _WIDEST_BAR)
    place = (strip.width - _MARGIN - width, strip.height - _MARGIN // 3)
    draw_error_bar(taller, place, width - 2, bar, load_font(13.5))
    return taller


class _Cell(NamedTuple):
    name: str
    picture: Image.Image
    figures: Figures
    error: Image.Image | None = None
    note: str = ""


class _Error(NamedTuple):
    map: Image.Image  # mode F, as large as it is shown
    scale: int
    mean: float  # in 8-bit levels, as `largest`
    largest: float


def _error_of(truth: FloatArray, prediction: FloatArray, size: Size) -> _Error:
    """Return the error of one reconstruction, reduced to the size shown to save memory."""
    error = absolute_error(truth, prediction)
    shown = resize_to(Image.fromarray(error), size, Image.Resampling.BOX)
    return _Error(shown, error_scale(error), 255 * float(error.mean()), 255 * float(error.max()))


def _shown_size(width: int, height: int, number: int) -> Size:
    """Return the size at which each of `number` pictures is shown."""
    longer, shorter = max(width, height), min(width, height)
    side = _FEW_SIDE if number <= 3 else _MANY_SIDE
    if longer > _LONG_ASPECT * shorter:
        side = _LONG_SIDE
    factor = max(1.0, round(side / longer)) if longer <= 1.5 * side else side / longer
    return max(THIN_SIDE, round(width * factor)), max(THIN_SIDE, round(height * factor))


class _Sheet:
    """The layout: bands of cells, each a row of pictures with names and figures over a row of errors.

    `size` is that of one picture in pixels; the last band may have fewer of the `number` cells.
    """

    def __init__(self, size: Size, number: int) -> None:
        self.size = size
        self.cell = max(size[0], _NARROW_CELL)
        fitting = max(1, (_SHEET_WIDTH - 2 * _MARGIN + _GAP) // (self.cell + _GAP))
        self.columns = math.ceil(number / math.ceil(number / fitting))
        self.content = max(self.columns * (self.cell + _GAP) - _GAP, 420)
        self.title_font = load_font(24)
        self.name_font = load_font(17)
        self.text_font = load_font(15)
        self.small_font = load_font(13.5)

    def draw(self, title: str, cells: list[_Cell], bar: ErrorBar | None) -> Image.Image:
        """Draw everything from top to bottom, and cut the paper to length."""
        bands = [cells[start : start + self.columns] for start in range(0, len(cells), self.columns)]
        with_errors = 1 if bar is None else 2
        lines = max(len(cell.figures) for cell in cells)
        longest = 200 + len(bands) * (with_errors * (self.size[1] + 60) + 22 * lines + 80)
        sheet = Image.new("RGB", (self.content + 2 * _MARGIN, longest + 2 * _MARGIN), PAPER)
        pen = ImageDraw.Draw(sheet)
        y = self._draw_title(pen, title)
        for number, band in enumerate(bands):
            y = self._draw_band(sheet, pen, band, y, bar if number == 0 else None) + 30
        return sheet.crop((0, 0, sheet.width, y - 30 + _MARGIN))

    def _draw_title(self, pen: ImageDraw.ImageDraw, title: str) -> int:
        if not title:
            return _MARGIN
        text = shorten(plain_text(title), self.title_font, self.content)
        pen.text((_MARGIN, _MARGIN + 20), text, INK, self.title_font, "ls")
        pen.line((_MARGIN, _MARGIN + 38, _MARGIN + self.content - 1, _MARGIN + 38), LINE, 1)
        return _MARGIN + 56

    def _draw_band(
        self, sheet: Image.Image, pen: ImageDraw.ImageDraw, band: list[_Cell], top: int, bar: ErrorBar | None
    ) -> int:
        """Draw one band, and the bar below the truth; return the lower edge."""
        lefts = [_MARGIN + column * (self.cell + _GAP) for column in range(len(band))]
        below = top + 26 + self.size[1] + 6
        lowest = max(self._draw_cell(sheet, pen, cell, x, top) for cell, x in zip(band, lefts, strict=True))
        has_errors = any(cell.error is not None for cell in band)
        if has_errors:
            top = lowest + 14
            for cell, x in zip(band, lefts, strict=True):
                if cell.error is not None:
                    self._write(pen, cell.note, (x, top + 14), self.small_font, GREY)
                    paste_framed(sheet, cell.error, (x, top + 24))
            lowest = top + 24 + self.size[1] + 2
        if bar is not None:
            y = top + 26 if has_errors else lowest + 20
            below = draw_error_bar(sheet, (_MARGIN, y), self.cell - 8, bar, self.small_font)
        return max(lowest, below)

    def _draw_cell(self, sheet: Image.Image, pen: ImageDraw.ImageDraw, cell: _Cell, x: int, top: int) -> int:
        """Draw name, picture and figures; return the lower edge."""
        self._write(pen, cell.name, (x, top + 15), self.name_font, INK)
        paste_framed(sheet, cell.picture, (x, top + 26))
        y = top + 26 + self.size[1] + 6
        pairs = [(plain_text(label), plain_text(value)) for label, value in cell.figures]
        indent = max((self.text_font.getlength(label) for label, _ in pairs), default=0)
        indent = min(round(indent) + 10, self.cell // 2) if indent else 0
        for label, value in pairs:
            y += 21
            self._write(pen, label, (x, y - 5), self.text_font, GREY, indent - 6)
            self._write(pen, value, (x + indent, y - 5), self.text_font, INK, self.cell - indent)
        return y

    def _write(
        self,
        pen: ImageDraw.ImageDraw,
        text: str,
        place: Size,
        font: Font,
        colour: tuple[int, int, int],
        length: int | None = None,
    ) -> None:
        """Write text, shortened to a length, the cell's by default."""
        if text:
            length = self.cell if length is None else length
            pen.text(place, shorten(plain_text(text), font, length), colour, font, "ls")
