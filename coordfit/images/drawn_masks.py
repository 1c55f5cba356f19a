"""Draw masks of known and hidden pixels: scattered pixels, words, lines, a rectangle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import ConfigError
from .lettering import Font, load_font, plain_text

Mask = NDArray[np.bool_]
"""(H, W); True is known, False is hidden."""

Block = tuple[int, int, int, int]
"""x and y of the upper left corner, width, height, in pixels."""

# Streams of the run's seed, apart from the three that `member.RandomStreams` spawns.
_MISSING_STREAM, _SCRIBBLE_STREAM = 3, 4

_SMALLEST_FONT = 7  # in pixels; smaller letters cannot be told apart
_TEXT_SHARE = 0.92  # of width and height that words may take
_NUM_LINES, _LINE_JOINTS = 6, 40
_LINE_LENGTH, _LINE_WIDTH = 1.2, 1 / 45  # of the shorter side


def check_mask(known: Mask, name: str = "the mask", cure: str = "") -> Mask:
    """Return the mask if it hides some pixels and leaves some; ConfigError otherwise."""
    pixels = f"all {known.shape[1]}x{known.shape[0]} pixels"
    ending = f"; {cure}" if cure else ""
    if known.all():
        raise ConfigError(f"nothing is hidden: {name} leaves {pixels} known{ending}")
    if not known.any():
        raise ConfigError(f"{name} hides {pixels}, and training needs known ones{ending}")
    return known


def missing_mask(height: int, width: int, fraction: float, seed: int) -> Mask:
    """Return a mask that hides this share of the pixels, rounded, drawn from the seed."""
    if not 0.0 < fraction < 1.0:  # NaN is neither
        raise ConfigError(f"the missing share of the pixels must be between 0 and 1, not {fraction!r}")
    number = height * width
    known = np.ones(number, dtype=np.bool_)
    known[_generator(seed, _MISSING_STREAM).permutation(number)[: round(fraction * number)]] = False
    return check_mask(known.reshape(height, width), f"a missing share of {fraction:g}", "give another share")


def text_mask(height: int, width: int, words: str) -> Mask:
    """Return a mask that hides words across the picture, wrapped, as large as fits."""
    text = plain_text(words)
    if not text:
        raise ConfigError(f"the text {words!r} has no letters to write across the picture")
    size = _largest_size(text, height, width)
    if size is None:
        raise ConfigError(
            f"the text of {len(text)} letters does not fit on {width}x{height} pixels; "
            "give fewer words or a larger picture"
        )
    image = Image.new("L", (width, height), 255)
    font, middle = load_font(size), (width / 2, height / 2)
    lines = "\n".join(_wrapped(text, font, _TEXT_SHARE * width))
    ImageDraw.Draw(image).multiline_text(middle, lines, fill=0, font=font, anchor="mm", align="center")
    return check_mask(np.asarray(image) > 127, "the text")


def _largest_size(text: str, height: int, width: int) -> int | None:
    """Return the size in pixels of the largest letters that fit, by bisection; None if none fit."""
    fits, too_large = None, max(_SMALLEST_FONT, min(height, width) // 3) + 1  # larger ones would be blocks
    smallest = _SMALLEST_FONT
    while smallest < too_large:
        size = (smallest + too_large) // 2
        font = load_font(size)
        lines = _wrapped(text, font, _TEXT_SHARE * width)
        pen = ImageDraw.Draw(Image.new("L", (1, 1)))
        left, top, right, bottom = pen.multiline_textbbox((0, 0), "\n".join(lines), font=font)
        if right - left <= _TEXT_SHARE * width and bottom - top <= _TEXT_SHARE * height:
            fits, smallest = size, size + 1
        else:
            too_large = size
    return fits


def _wrapped(text: str, font: Font, length: float) -> list[str]:
    """Return the words in lines no longer than `length` pixels, except for a longer single word."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else ""
        if longer and font.getlength(longer) <= length:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def scribble_mask(height: int, width: int, seed: int) -> Mask:
    """Return a mask that hides wandering lines drawn from the seed."""
    rng = _generator(seed, _SCRIBBLE_STREAM)
    image = Image.new("L", (width, height), 255)
    pen = ImageDraw.Draw(image)
    size, shorter = np.array([width, height], np.float64), min(height, width)
    thickness = max(1, round(_LINE_WIDTH * shorter))
    for _ in range(_NUM_LINES):
        start = rng.uniform(0.0, 1.0, 2) * size
        heading = rng.uniform(0.0, 2 * np.pi) + np.cumsum(rng.normal(0.0, 0.3, _LINE_JOINTS))
        stride = _LINE_LENGTH * shorter / _LINE_JOINTS
        path = start + stride * np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
        path = np.abs((path + size) % (2.0 * size) - size)  # folded back at the edges of the picture
        points = [(float(x), float(y)) for x, y in path]
        pen.line(points, fill=0, width=thickness)
        for point in points:  # rounds joints and ends
            pen.circle(point, thickness / 2, fill=0)
    return check_mask(np.asarray(image) > 127, "the scribble", "give a larger picture or another seed")


def block_mask(height: int, width: int, block: Block) -> Mask:
    """Return a mask that hides a rectangle."""
    x, y, across, down = block
    name = f"the block {x},{y},{across},{down} (x, y, width, height)"
    if across < 1 or down < 1:
        raise ConfigError(f"{name} has no pixels; nothing is hidden")
    if x < 0 or y < 0 or x + across > width or y + down > height:
        raise ConfigError(f"{name} does not lie inside the picture of {width}x{height} pixels")
    known = np.ones((height, width), dtype=np.bool_)
    known[y : y + down, x : x + across] = False
    return check_mask(known, name, "give a smaller one")


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))))
