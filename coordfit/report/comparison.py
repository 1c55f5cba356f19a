"""Draw the picture of a fit: original, reconstruction and error side by side, with the figures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..images.lettering import Font, load_font, plain_text, shorten
from ..images.metrics import check_pair

__all__ = [
    "LARGE_SIDE",
    "SCALES",
    "SCALE_QUANTILE",
    "SCALE_ROUNDING",
    "Compared",
    "ErrorBar",
    "absolute_error",
    "colour_error",
    "comparison_picture",
    "draw_compared",
    "draw_error_bar",
    "error_picture",
    "error_scale",
    "resize_to",
    "show_pixels",
]

FloatArray = NDArray[np.floating[Any]]
Size = tuple[int, int]  # (width, height), Pillow's order

# Anchors of the error's colour map, sRGB, evenly spaced: from near-black over violet and orange to cream.
# Their CIE lightness rises by equal steps from 4 to 97, so equal differences of error look equally large and
# the map survives a grey printer and colour-blind eyes.
_COLOUR_ANCHORS = np.array(
    [
        (10, 13, 32),
        (30, 24, 69),
        (57, 31, 105),
        (88, 40, 130),
        (131, 48, 130),
        (172, 57, 117),
        (208, 73, 93),
        (228, 100, 82),
        (243, 129, 74),
        (254, 159, 73),
        (249, 193, 113),
        (246, 223, 160),
        (250, 248, 210),
    ],
    dtype=np.float64,
)

# Tops of the error scale in 8-bit levels with the number of intervals between ticks.
SCALES = {1: 5, 2: 4, 5: 5, 10: 5, 20: 4, 50: 5, 100: 5, 200: 4, 255: 5}
SCALE_ROUNDING = 1e-3
SCALE_QUANTILE = 0.995  # a few outliers must not darken the map of all other pixels

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}

_SMALL_SIDE = 384  # small pictures are enlarged to about this, a whole number of times
LARGE_SIDE = 768  # larger pictures are reduced to this
_THIN_SIDE = 24  # no panel is thinner, or a picture one pixel high could not be seen
_STACK_ASPECT = 2.2  # wider pictures stand below each other instead of side by side
_NARROW_CELL = 264  # room for a panel's caption
_REFERENCE_WIDTH = 1200  # sheets wider than this get larger type, since they are viewed reduced

PAPER = (255, 255, 255)
INK = (28, 32, 42)
GREY = (105, 112, 125)
LINE = (218, 221, 227)
_CHECKERS = (255, 236)


def absolute_error(truth: FloatArray, prediction: FloatArray) -> NDArray[np.float32]:
    """Return the absolute error of a prediction clipped to [0, 1], averaged over the channels.

    Parameters
    ----------
    truth, prediction
        Pictures of one shape (H, W, C), float, with 1 to 4 channels.

    Returns
    -------
    numpy.ndarray
        Error in [0, 1], (H, W), float32. NaN counts as 1, the largest error.

    Raises
    ------
    ValueError
        If the shapes differ, hold no pixel, or are not as above.
    """
    check_pair(prediction, truth)
    height, width, channels = truth.shape
    if height == 0 or width == 0 or channels not in _MODES:
        raise ValueError(f"cannot draw a picture of shape {truth.shape}; expected (H, W, 1 to 4)")
    error = np.zeros((height, width), dtype=np.float32)
    for channel in range(channels):
        difference = np.clip(prediction[:, :, channel], 0.0, 1.0, dtype=np.float32)
        difference -= truth[:, :, channel].astype(np.float32)
        error += np.abs(difference, out=difference)
    error /= channels
    return np.nan_to_num(error, copy=False, nan=1.0, posinf=1.0)


def error_scale(error: FloatArray) -> int:
    """Return the top of a colour scale that suits an error map, in 8-bit levels.

    Parameters
    ----------
    error
        Absolute error in [0, 1], any shape.

    Returns
    -------
    int
        The 99.5th percentile of ``255 * error``, rounded up to one of 1, 2, 5, 10, 20, 50, 100, 200, 255.
    """
    level = 255.0 * float(np.quantile(error, SCALE_QUANTILE))
    return next((top for top in SCALES if level <= top + SCALE_ROUNDING), 255)


def error_picture(truth: FloatArray, prediction: FloatArray, *, scale: int | None = None) -> Image.Image:
    """Return the absolute error, averaged over channels, through a colour map: dark is right, light wrong.

    Parameters
    ----------
    truth, prediction
        Pictures of one shape (H, W, C), float, with 1 to 4 channels.
    scale
        Error shown as the lightest colour, in 8-bit levels (1/255); chosen by `error_scale` by default.
        Give one to compare several pictures.

    Returns
    -------
    PIL.Image.Image
        RGB picture of W x H pixels.

    Raises
    ------
    ValueError
        If the pictures cannot be compared or `scale` is not positive.
    """
    error = absolute_error(truth, prediction)
    return colour_error(Image.fromarray(error), _checked_scale(scale, error))


def comparison_picture(
    truth: FloatArray,
    prediction: FloatArray,
    title: str,
    figures: Sequence[tuple[str, str]],
    *,
    scale: int | None = None,
) -> Image.Image:
    """Return one sheet with the original, the reconstruction, their error, and the figures of a fit.

    Small pictures are enlarged a whole number of times without smoothing, large ones reduced. Very wide ones
    stand below each other. A picture with alpha is shown over a light checkerboard.

    Parameters
    ----------
    truth, prediction
        Pictures of one shape (H, W, C), float in [0, 1], with 1 (grey), 2 (grey and alpha), 3 (RGB) or
        4 (RGBA, not premultiplied) channels. The prediction is clipped.
    title
        Headline; shortened if it does not fit.
    figures
        Pairs of a label and a value, such as ``("PSNR", "38.2 dB")``, in reading order.
    scale
        Error shown as the lightest colour, in 8-bit levels (1/255); chosen by `error_scale` by default.

    Returns
    -------
    PIL.Image.Image
        RGB picture, on white.

    Raises
    ------
    ValueError
        If the pictures cannot be compared or `scale` is not positive.
    """
    error = absolute_error(truth, prediction)
    levels, height, width = _checked_scale(scale, error), *error.shape
    seen = Compared(truth, prediction, error, float(error.mean()), float(error.max()), levels)
    return draw_compared(seen, (width, height), title, figures)


class Compared(NamedTuple):
    """What a comparison shows; pictures (h, w, C) and error (h, w) may be smaller than the originals."""

    truth: FloatArray
    prediction: FloatArray
    error: NDArray[np.float32]
    mean: float
    largest: float
    scale: int  # in 8-bit levels


def draw_compared(seen: Compared, whole: Size, title: str, figures: Sequence[tuple[str, str]]) -> Image.Image:
    """Return the sheet of `comparison_picture`; `whole` is the (width, height) of the full pictures."""
    width, height = whole
    stacked = width > _STACK_ASPECT * height
    size = _panel_size(width, height, stacked)
    error = resize_to(Image.fromarray(seen.error), size, Image.Resampling.BOX)
    note = f"mean {255 * seen.mean:.2f}, max {255 * seen.largest:.0f}"
    panels = [
        _Panel("original", _shown_as(width, height, size), show_pixels(seen.truth, size)),
        _Panel("reconstruction", "", show_pixels(seen.prediction, size)),
        _Panel("error", note, colour_error(error, seen.scale)),
    ]
    kind = "absolute error" if seen.truth.shape[2] == 1 else "absolute error, mean of channels"
    bar = ErrorBar(seen.scale, 255 * seen.largest > seen.scale, f"{kind}, in 1/255")
    return _Sheet(size[0], stacked).draw(plain_text(title), figures, panels, bar)


def _checked_scale(scale: int | None, error: FloatArray) -> int:
    if scale is None:
        return error_scale(error)
    if scale <= 0:
        raise ValueError(f"the error scale must be positive, got {scale}")
    return scale


def colour_error(error: Image.Image, scale: int) -> Image.Image:
    """Colour an error map (mode F, values in [0, 1]); errors above `scale` / 255 get the lightest colour."""
    # 256 colours are all that a bar of a few hundred pixels can tell apart, so a table does.
    positions = np.linspace(0, len(_COLOUR_ANCHORS) - 1, 256)
    anchors = np.arange(len(_COLOUR_ANCHORS))
    table = np.stack([np.interp(positions, anchors, column) for column in _COLOUR_ANCHORS.T], axis=-1)
    index = np.rint(np.clip(np.asarray(error) * (255.0 / scale), 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(np.rint(table).astype(np.uint8)[index])


def _panel_size(width: int, height: int, stacked: bool) -> Size:
    """Return the size at which a picture of `width` x `height` pixels is shown."""
    longer = max(width, height)
    if longer > LARGE_SIDE:
        factor = LARGE_SIDE / longer
    elif stacked:
        factor = LARGE_SIDE // longer
    else:
        factor = max(1, round(_SMALL_SIDE / longer))
    return max(_THIN_SIDE, round(width * factor)), max(_THIN_SIDE, round(height * factor))


def _shown_as(width: int, height: int, size: Size) -> str:
    """Return a picture's true size and how it is shown, in words."""
    pixels = f"{width} x {height} px"
    if size == (width, height):
        return pixels
    if size[0] * height == size[1] * width and size[0] % width == 0:
        return f"{pixels}, shown {size[0] // width}x"
    if max(size) == LARGE_SIDE and min(size) > _THIN_SIDE:
        return f"{pixels}, shown at {100 * LARGE_SIDE / max(width, height):.0f} %"
    return f"{pixels}, stretched"


def resize_to(image: Image.Image, size: Size, smooth: Image.Resampling) -> Image.Image:
    """Resize: smoothly if `image` is larger than `size`, by whole pixels if it is smaller."""
    reduced = (min(image.width, size[0]), min(image.height, size[1]))
    return image.resize(reduced, smooth).resize(size, Image.Resampling.NEAREST)


def show_pixels(pixels: FloatArray, size: Size) -> Image.Image:
    """Return a float picture (H, W, C) as an RGB picture of the given size, alpha over a checkerboard."""
    height, width, channels = pixels.shape
    levels = np.empty((height, width, channels), dtype=np.uint8)
    for channel in range(channels):
        plane = np.clip(pixels[:, :, channel], 0.0, 1.0, dtype=np.float32)
        levels[:, :, channel] = np.rint(255.0 * np.nan_to_num(plane, copy=False))
    image = Image.fromarray(levels[:, :, 0] if channels == 1 else levels)
    if channels in (1, 3):
        return resize_to(image, size, Image.Resampling.LANCZOS).convert("RGB")
    image = resize_to(image.convert("RGBA"), size, Image.Resampling.LANCZOS)
    side = max(6, min(size) // 32)
    odd = (np.arange(size[1])[:, None] // side + np.arange(size[0]) // side) % 2
    board = Image.fromarray(np.where(odd, _CHECKERS[1], _CHECKERS[0]).astype(np.uint8)).convert("RGBA")
    return Image.alpha_composite(board, image).convert("RGB")


def draw_error_bar(
    sheet: Image.Image, corner: Size, width: int, bar: "ErrorBar", font: Font, unit: float = 1.0
) -> int:
    """Draw the error's colour bar with ticks in 8-bit levels; return the lower edge of its text.

    `corner` and `width` are the bar's own, in pixels; `unit` enlarges everything else.
    """
    (x, y), pen, height = corner, ImageDraw.Draw(sheet), round(12 * unit)
    ramp = np.tile(np.linspace(0, bar.scale / 255, width, dtype=np.float32), (height, 1))
    sheet.paste(colour_error(Image.fromarray(ramp), bar.scale), (x, y))
    pen.rectangle((x - 1, y - 1, x + width, y + height), outline=LINE)
    intervals = SCALES.get(bar.scale, 1)
    baseline = y + height + round(21 * unit)
    for tick in range(intervals + 1):
        at = x + round(tick / intervals * (width - 1))
        pen.line((at, y + height + 1, at, y + height + round(5 * unit)), GREY, 1)
        more = "+" if bar.clipped and tick == intervals else ""
        anchor = "ls" if tick == 0 else "rs" if tick == intervals else "ms"
        pen.text((at, baseline), f"{bar.scale * tick / intervals:g}{more}", GREY, font, anchor)
    baseline += round(20 * unit)
    pen.text((x, baseline), bar.caption, GREY, font, "ls")
    return baseline + round(5 * unit)


class _Panel(NamedTuple):
    caption: str
    note: str
    image: Image.Image


class ErrorBar(NamedTuple):
    """What the colour bar below an error map shows; `scale` in 8-bit levels."""

    scale: int
    clipped: bool  # whether some errors lie above the scale
    caption: str


class _Sheet:
    """The layout of one comparison: where everything lies and how large the type is.

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
        """Return a length, given for a sheet of usual width, in this sheet's pixels."""
        return round(length * self.unit)

    def draw(
        self, title: str, figures: Sequence[tuple[str, str]], panels: list[_Panel], bar: ErrorBar
    ) -> Image.Image:
        """Draw everything from top to bottom; the paper is cut to length at the end."""
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
        """Draw the title, the figures in even columns and a rule below; return where the panels begin."""
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
        """Return where the columns of figures begin: in as few rows as fit, of even length, evenly spaced."""
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
        sheet.paste(panel.image, (x, top))
        bottom = top + panel.image.height
        pen.rectangle((x - 1, top - 1, x + panel.image.width, bottom), outline=LINE)
        return bottom

    def _shorten(self, text: str, font: Font) -> str:
        return shorten(text, font, self.content)
