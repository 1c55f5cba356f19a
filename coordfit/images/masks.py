"""Make masks of known and hidden pixels from files, numbers, words, lines and alpha.

A mask is a boolean array (H, W). True is known, False is hidden; in a mask file white is known, black hidden.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import ConfigError
from . import Picture, Source, load_picture
from .lettering import Font, load_font, plain_text

__all__ = [
    "TRANSPARENCY",
    "MaskedPicture",
    "alpha_mask",
    "block_mask",
    "check_mask",
    "hide",
    "missing_mask",
    "read_mask",
    "scribble_mask",
    "text_mask",
]

Mask = NDArray[np.bool_]
Block = tuple[int, int, int, int]

TRANSPARENCY = "transparency"
"""`MaskedPicture.hiding` of a picture whose alpha hides the pixels: these have no colour at all."""

# Levels by which the channels of a grey mask may differ, as JPEG leaves them; more is a colour.
_NEARLY_GREY = 48
_POLARITY = "white is known and black is hidden (--invert-mask turns it round)"
_HALF = 0.5  # the level from which on a grey pixel of a mask is white
_OPAQUE_ENOUGH = 0.5  # below half, the colour under alpha is too coarse to learn from

# Streams of the run's seed, apart from the three that `member.RandomStreams` spawns.
_MISSING_STREAM, _SCRIBBLE_STREAM = 3, 4

_SMALLEST_FONT = 7  # in pixels; smaller letters cannot be told apart
_TEXT_SHARE = 0.92  # of width and height that words may take
_NUM_LINES, _LINE_JOINTS = 6, 40
_LINE_LENGTH, _LINE_WIDTH = 1.2, 1 / 45  # of the shorter side


class MaskedPicture(NamedTuple):
    """A picture, the mask of its known pixels, and what is known of the hidden ones.

    Attributes
    ----------
    picture : Picture
        What the network learns; without alpha where alpha was the mask.
    known : boolean array (H, W)
        True is known, False is hidden.
    has_truth : bool
        Whether the hidden pixels of `picture` are true colours, so that a filling can be scored. They are where
        a whole picture was hidden in part, and not where a mask or alpha marks damage, unless a truth is given.
    hiding : str
        What hides the pixels, in words.
    """

    picture: Picture
    known: Mask
    has_truth: bool
    hiding: str


def hide(
    picture: Picture,
    *,
    mask: Source | None = None,
    invert: bool = False,
    threshold: float | None = None,
    truth: Picture | None = None,
    missing: float | None = None,
    text: str | None = None,
    scribble: bool = False,
    block: Block | None = None,
    seed: int = 0,
) -> MaskedPicture:
    """Hide pixels of a picture in the one way that is asked for, or else those that are transparent.

    Parameters
    ----------
    mask
        A picture of the same size or a boolean array (H, W): white, or True, is known; see `read_mask`.
    invert
        White, or True, of `mask` is hidden instead.
    threshold
        The level, from 0 to 1, from which on a grey pixel of `mask` is white; half by default.
    truth
        The undamaged picture, of the same shape: its colours stand in for those that a mask or alpha hides, so
        that a filling can be scored.
    missing, text, scribble, block
        See `missing_mask`, `text_mask`, `scribble_mask`, `block_mask`.
    seed
        Seed of `missing` and `scribble`.

    Raises
    ------
    ConfigError
        Several ways at once, a value or a truth that cannot be used, or no pixel is hidden, or all are.
    PictureError
        The mask cannot be read.
    """
    asked = {"mask": mask, "missing": missing, "text": text, "scribble": scribble or None, "block": block}
    ways = [name for name, value in asked.items() if value is not None]
    if len(ways) > 1:
        raise ConfigError(f"pixels can be hidden in one way at a time, not by {' and '.join(ways)}")
    if invert and mask is None:
        raise ConfigError("inverting turns a mask file round, and none was given: name one as the mask")
    if threshold is not None and mask is None:
        raise ConfigError("a mask threshold is of a mask file, and none was given: name one as the mask")
    if truth is not None and ways not in ([], ["mask"]):
        raise ConfigError(f"with {ways[0]} the hidden pixels are known already; leave the truth out")
    height, width = picture.height, picture.width
    if mask is not None:
        known, notes = read_mask(mask, height, width, invert=invert, threshold=threshold)
        if notes:
            picture = dataclasses.replace(picture, notes=(*picture.notes, *notes))
        hiding = "a mask, inverted" if invert else "a mask"
        return _with_truth(MaskedPicture(picture, known, False, hiding), truth)
    if missing is not None:
        known = missing_mask(height, width, missing, seed)
        return MaskedPicture(picture, known, True, f"{100 * missing:g} % of the pixels missing")
    if text is not None:
        return MaskedPicture(picture, text_mask(height, width, text), True, "text")
    if scribble:
        return MaskedPicture(picture, scribble_mask(height, width, seed), True, "scribbled lines")
    if block is not None:
        return MaskedPicture(picture, block_mask(height, width, block), True, "a rectangle")
    opaque, known = alpha_mask(picture)
    return _with_truth(MaskedPicture(opaque, known, False, TRANSPARENCY), truth)


def _with_truth(masked: MaskedPicture, truth: Picture | None) -> MaskedPicture:
    """Return the same with the true colours of hidden pixels, if there are any; keep known pixels."""
    if truth is None:
        return masked
    picture = masked.picture
    if truth.levels.shape != picture.levels.shape:
        raise ConfigError(
            f"the truth {truth.name} is {_shape(truth)} and the picture {picture.name} {_shape(picture)}; "
            "they must agree"
        )
    pixels = np.where(masked.known[:, :, None], picture.pixels, truth.pixels)
    pixels.flags.writeable = False
    hiding = f"{masked.hiding}, scored against {truth.name}"
    return MaskedPicture(dataclasses.replace(picture, levels=pixels), masked.known, True, hiding)


def _shape(picture: Picture) -> str:
    return f"{picture.width}x{picture.height} pixels with {picture.channels} channels"


def check_mask(known: Mask, name: str = "the mask", cure: str = "") -> Mask:
    """Return the mask (H, W), True known, if it hides some pixels and leaves some; else raise ConfigError."""
    size = f"{known.shape[1]}x{known.shape[0]}"
    if known.all():
        raise ConfigError(f"nothing is hidden: {name} leaves all {size} pixels known{cure and f'; {cure}'}")
    if not known.any():
        raise ConfigError(
            f"{name} hides all {size} pixels, and training needs known ones{cure and f'; {cure}'}"
        )
    return known


def read_mask(
    source: Source, height: int, width: int, *, invert: bool = False, threshold: float | None = None
) -> tuple[Mask, tuple[str, ...]]:
    """Return the mask that a grey picture draws, and a note if grey pixels had to be decided.

    Parameters
    ----------
    source
        A path, Pillow image or array that is a grey picture of `width` x `height` pixels; a boolean array
        (H, W) is one, with True for white. White is known (True), black is hidden (False).
    invert
        White is hidden and black is known.
    threshold
        The level, from 0 (black) to 1, from which on a grey pixel is white; half by default.

    Raises
    ------
    ConfigError
        Another size, colours or transparency, a threshold out of range, or nothing, or everything, is hidden.
    PictureError
        The mask cannot be read.
    """
    threshold = _HALF if threshold is None else threshold
    if not 0.0 < threshold <= 1.0:  # NaN is neither
        raise ConfigError(f"the mask threshold must be above 0 and at most 1, not {threshold!r}")
    drawn = load_picture(source)
    name = f"the mask {drawn.name}" if drawn.name != "array" else "the mask"
    if (drawn.height, drawn.width) != (height, width):
        raise ConfigError(
            f"{name} is {drawn.width}x{drawn.height} pixels and the picture {width}x{height}; they must agree "
            "(with --size, the mask needs the size that the picture is resampled to)"
        )
    if drawn.has_alpha:
        raise ConfigError(f"{name} is transparent in part; save it as plain black and white: white is known")
    coloured = np.count_nonzero(255.0 * np.ptp(drawn.pixels, axis=2) > _NEARLY_GREY)
    if coloured:
        raise ConfigError(
            f"{name} has {coloured} coloured pixels; white is known and black is hidden, "
            "so save it in greys alone"
        )
    levels = drawn.pixels.mean(axis=2, dtype=np.float64)
    known = check_mask((levels >= threshold) != invert, name, _POLARITY)
    grey = int(np.count_nonzero((levels > 0.0) & (levels < 1.0)))
    side = "hidden" if invert else "known"
    limit = f"{side} from the threshold of {100 * threshold:g} % on"
    note = f"{grey} pixels of {name} are neither black nor white: {limit}"
    return known, (note,) if grey else ()


def missing_mask(height: int, width: int, fraction: float, seed: int) -> Mask:
    """Return a mask (H, W), True known, that hides this share of the pixels, rounded, drawn from the seed."""
    if not 0.0 < fraction < 1.0:  # NaN is neither
        raise ConfigError(f"the missing share of the pixels must be between 0 and 1, not {fraction!r}")
    number = height * width
    known = np.ones(number, dtype=np.bool_)
    known[_generator(seed, _MISSING_STREAM).permutation(number)[: round(fraction * number)]] = False
    return check_mask(known.reshape(height, width), f"a missing share of {fraction:g}", "give another share")


def text_mask(height: int, width: int, words: str) -> Mask:
    """Return a mask (H, W), True known, that hides words across the picture, wrapped, as large as fits."""
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
    """Return the size in pixels of the largest letters that fit, by halving; None if none fit."""
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
    """Return a mask (H, W), True known, that hides wandering lines drawn from the seed."""
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
        # Folded back at the edges, so that no line runs out of the picture.
        path = np.abs((path + size) % (2.0 * size) - size)
        points = [(float(x), float(y)) for x, y in path]
        pen.line(points, fill=0, width=thickness)
        for point in points:  # rounds joints and ends
            pen.circle(point, thickness / 2, fill=0)
    return check_mask(np.asarray(image) > 127, "the scribble", "give a larger picture or another seed")


def block_mask(height: int, width: int, block: Block) -> Mask:
    """Return a mask (H, W), True known, that hides a rectangle: x, y of its upper left, width, height."""
    x, y, across, down = block
    told = f"the block {x},{y},{across},{down} (x, y, width, height)"
    if across < 1 or down < 1:
        raise ConfigError(f"{told} has no pixels; nothing is hidden")
    if x < 0 or y < 0 or x + across > width or y + down > height:
        raise ConfigError(f"{told} does not lie inside the picture of {width}x{height} pixels")
    known = np.ones((height, width), dtype=np.bool_)
    known[y : y + down, x : x + across] = False
    return check_mask(known, told, "give a smaller one")


def alpha_mask(picture: Picture) -> tuple[Picture, Mask]:
    """Return the picture without its alpha, RGB or grey, and a mask (H, W): opaque is known (True).

    Pixels less than half opaque count as transparent; the picture's notes say if that had to be decided.

    Raises
    ------
    ConfigError
        The picture has no transparency, or is all transparent.
    """
    if not picture.has_alpha:
        raise ConfigError(
            f"nothing is hidden: {picture.name} has no transparent pixels; "
            "name a mask file, a missing share, a text, a scribble or a block"
        )
    alpha = picture.pixels[:, :, -1]
    known = check_mask(alpha >= _OPAQUE_ENOUGH, f"the transparency of {picture.name}")
    notes = picture.notes
    between = np.count_nonzero((alpha > 0) & (alpha < 1))
    if between:
        notes = (*notes, f"{between} pixels are half transparent: known from an alpha of 50 % on")
    colour = np.ascontiguousarray(picture.pixels[:, :, :-1])
    colour[~known] = 0.0  # unknown, so nothing may depend on them
    colour.flags.writeable = False
    return Picture(colour, picture.bit_depth, picture.name, notes), known


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))))
