"""Draw pictures and maps of their errors, as the panels of all sheets show them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..images.lettering import Font
from ..images.metrics import check_pair

FloatArray = NDArray[np.floating[Any]]
Size = tuple[int, int]
"""(width, height), Pillow's order."""

THIN_SIDE = 24  # in pixels; thinner pictures are stretched to this, to be seen at all
PAPER = (255, 255, 255)
INK = (28, 32, 42)
GREY = (105, 112, 125)
LINE = (218, 221, 227)
_CHECKERS = (255, 236)

# Anchors of the error's colour map, sRGB, evenly spaced, from near-black over violet and orange to cream. Their
# CIE lightness rises in equal steps from 4 to 97, so that equal differences of error look equally large, in
# grey prints and to colour-blind readers too.
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
SCALE_QUANTILE = 0.995  # a few outliers must not darken all other pixels


def resize_to(image: Image.Image, size: Size, smooth: Image.Resampling) -> Image.Image:
    """Resize smoothly if `image` is larger than `size`, and by whole pixels if it is smaller."""
    reduced = (min(image.width, size[0]), min(image.height, size[1]))
    return image.resize(reduced, smooth).resize(size, Image.Resampling.NEAREST)


def show_pixels(pixels: FloatArray, size: Size) -> Image.Image:
    """Return a float picture (H, W, C) as RGB of the given size, alpha over a checkerboard."""
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


def paste_framed(sheet: Image.Image, picture: Image.Image, corner: Size) -> None:
    """Paste a picture with a thin frame around it."""
    x, y = corner
    sheet.paste(picture, corner)
    frame = (x - 1, y - 1, x + picture.width, y + picture.height)
    ImageDraw.Draw(sheet).rectangle(frame, outline=LINE)


def size_in_words(width: int, height: int, shown: Size) -> str:
    """Return a picture's size in pixels, and how it is shown."""
    pixels = f"{width} x {height} px"
    if shown == (width, height):
        return pixels
    if shown[0] * height == shown[1] * width and shown[0] % width == 0:
        return f"{pixels}, shown {shown[0] // width}x"
    if max(shown) < max(width, height) and min(shown) > THIN_SIDE:
        return f"{pixels}, shown at {100 * max(shown) / max(width, height):.0f} %"
    return f"{pixels}, stretched"


def absolute_error(truth: FloatArray, prediction: FloatArray) -> NDArray[np.float32]:
    """Return the absolute error of a prediction clipped to [0, 1], averaged over the channels.

    Pictures have one shape (H, W, C), float, C from 1 to 4; ValueError otherwise. The error has shape (H, W),
    float32; NaN counts as 1, the largest error.
    """
    check_pair(prediction, truth)
    height, width, channels = truth.shape
    if height == 0 or width == 0 or not 1 <= channels <= 4:
        raise ValueError(f"cannot draw a picture of shape {truth.shape}; expected (H, W, 1 to 4)")
    error = np.zeros((height, width), dtype=np.float32)
    for channel in range(channels):
        difference = np.clip(prediction[:, :, channel], 0.0, 1.0, dtype=np.float32)
        difference -= truth[:, :, channel].astype(np.float32)
        error += np.abs(difference, out=difference)
    error /= channels
    return np.nan_to_num(error, copy=False, nan=1.0, posinf=1.0)


def error_scale(error: FloatArray) -> int:
    """Return the top of the colour scale for an error map in [0, 1], in 8-bit levels.

    The 99.5th percentile of `255 * error`, rounded up to one of `SCALES`.
    """
    level = 255.0 * float(np.quantile(error, SCALE_QUANTILE))
    return next((top for top in SCALES if level <= top + SCALE_ROUNDING), 255)


def colour_error(error: Image.Image, scale: int) -> Image.Image:
    """Colour an error map (mode F, in [0, 1]); from `scale` / 255 on it has the lightest colour."""
    # A table suffices: a bar of a few hundred pixels shows 256 colours at most.
    positions = np.linspace(0, len(_COLOUR_ANCHORS) - 1, 256)
    anchors = np.arange(len(_COLOUR_ANCHORS))
    table = np.stack([np.interp(positions, anchors, column) for column in _COLOUR_ANCHORS.T], axis=-1)
    index = np.rint(np.clip(np.asarray(error) * (255.0 / scale), 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(np.rint(table).astype(np.uint8)[index])


class ErrorBar(NamedTuple):
    """The colour bar of an error map; `scale` in 8-bit levels."""

    scale: int
    clipped: bool  # whether some errors exceed the scale
    caption: str


def draw_error_bar(
    sheet: Image.Image, corner: Size, width: int, bar: "ErrorBar", font: Font, unit: float = 1.0
) -> int:
    """Draw the error's colour bar with ticks in 8-bit levels, and return the lower edge of its text.

    `corner` and `width` are the bar's own, in pixels; `unit` enlarges everything else.
    """
    (x, y), pen, height = corner, ImageDraw.Draw(sheet), round(12 * unit)
    ramp = np.tile(np.linspace(0, bar.scale / 255, width, dtype=np.float32), (height, 1))
    paste_framed(sheet, colour_error(Image.fromarray(ramp), bar.scale), corner)
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
