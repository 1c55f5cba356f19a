"""Hide pixels of a picture by a mask file, by alpha, or by a drawn mask.

A mask is a boolean array (H, W): True is known, False is hidden. In a mask file white is known, black hidden.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np

from ..errors import ConfigError
from . import Picture, Source, load_picture
from .drawn_masks import Block, Mask, block_mask, check_mask, missing_mask, scribble_mask, text_mask

__all__ = ["TRANSPARENCY", "Block", "Mask", "MaskedPicture", "alpha_mask", "hide", "read_mask"]

TRANSPARENCY = "transparency"
"""`MaskedPicture.hiding` of a picture whose alpha hides the pixels: these have no colour at all."""

# Levels by which the channels of a grey mask may differ, as JPEG leaves them; more is a colour.
_NEARLY_GREY = 48
_POLARITY = "white is known and black is hidden (--invert-mask turns it round)"
_HALF = 0.5  # the default threshold of a mask file
_OPAQUE_ENOUGH = 0.5  # below half, the colour under alpha is too coarse to learn from
WAYS = ("mask", "missing", "text", "scribble", "block")
"""Ways to hide pixels, one at a time; without any, transparent pixels are hidden."""


class MaskedPicture(NamedTuple):
    """A picture, the mask of its known pixels, and what is known of the hidden ones.

    Attributes
    ----------
    picture : Picture
        The picture to learn; without alpha if alpha was the mask.
    known : boolean array (H, W)
        True is known.
    has_truth : bool
        Whether the hidden pixels of `picture` have their true colours, so that a filling can be scored: not
        if a mask or alpha marks damage, unless a truth is given.
    hiding : str
        What hides the pixels, in words.
    """

    picture: Picture
    known: Mask
    has_truth: bool
    hiding: str


class Hiding(TypedDict, total=False):
    """What hides pixels: one of `mask`, `missing`, `text`, `scribble` and `block`, or else transparency.

    Attributes
    ----------
    mask
        A picture of the same size or a boolean array (H, W): white, or True, is known; see `read_mask`.
    invert, threshold
        Of `mask`; see `read_mask`.
    truth
        The undamaged picture, of the same shape: its colours score what fills a mask or transparent pixels.
    missing, text, scribble, block
        See `missing_mask`, `text_mask`, `scribble_mask`, `block_mask`.
    """

    mask: Source | None
    invert: bool
    threshold: float | None
    truth: Picture | None
    missing: float | None
    text: str | None
    scribble: bool
    block: Block | None


def hide(picture: Picture, *, seed: int = 0, **hiding: Unpack[Hiding]) -> MaskedPicture:
    """Hide pixels of a picture; `seed` draws missing pixels and scribbled lines.

    Raises
    ------
    ConfigError
        Several ways at once, a value or a truth that cannot be used, or no pixel is hidden, or all are.
    PictureError
        The mask cannot be read.
    """
    if unknown := set(hiding) - set(Hiding.__annotations__):
        raise TypeError(f"hide() has no option {min(unknown)!r}")
    given: dict[str, Any] = {
        name: value for name, value in hiding.items() if value is not None and value is not False
    }
    ways, truth = [name for name in WAYS if name in given], given.get("truth")
    _check_ways(ways, given)
    if not ways:
        opaque, known = alpha_mask(picture)
        return _with_truth(MaskedPicture(opaque, known, False, TRANSPARENCY), truth)
    height, width, value = picture.height, picture.width, given[ways[0]]
    if ways == ["mask"]:
        options = {name: given[name] for name in ("invert", "threshold") if name in given}
        known, notes = read_mask(value, height, width, **options)
        words = "a mask, inverted" if "invert" in given else "a mask"
        noted = dataclasses.replace(picture, notes=(*picture.notes, *notes)) if notes else picture
        return _with_truth(MaskedPicture(noted, known, False, words), truth)
    if ways == ["missing"]:
        words = f"{100 * value:g} % of the pixels missing"
        return MaskedPicture(picture, missing_mask(height, width, value, seed), True, words)
    if ways == ["text"]:
        return MaskedPicture(picture, text_mask(height, width, value), True, "text")
    if ways == ["scribble"]:
        return MaskedPicture(picture, scribble_mask(height, width, seed), True, "scribbled lines")
    return MaskedPicture(picture, block_mask(height, width, value), True, "a rectangle")


def _check_ways(ways: list[str], given: dict[str, Any]) -> None:
    if len(ways) > 1:
        raise ConfigError(f"pixels can be hidden in one way at a time, not by {' and '.join(ways)}")
    if "invert" in given and "mask" not in ways:
        raise ConfigError("inverting turns a mask file round, and none was given: name one as the mask")
    if "threshold" in given and "mask" not in ways:
        raise ConfigError("a mask threshold is of a mask file, and none was given: name one as the mask")
    if "truth" in given and ways not in ([], ["mask"]):
        raise ConfigError(f"with {ways[0]} the hidden pixels are known already; leave the truth out")


def _with_truth(masked: MaskedPicture, truth: Picture | None) -> MaskedPicture:
    """Return the masked picture with the true colours of its hidden pixels, if there are any."""
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
    channels = f"{picture.channels} channel{'s' if picture.channels > 1 else ''}"
    return f"{picture.width}x{picture.height} pixels with {channels}"


def read_mask(
    source: Source, height: int, width: int, *, invert: bool = False, threshold: float | None = None
) -> tuple[Mask, tuple[str, ...]]:
    """Return the mask that a grey picture draws, and a note if grey pixels had to be decided.

    Parameters
    ----------
    source
        A path, Pillow image or array: a grey picture of `width` x `height` pixels, white known, black hidden;
        or a boolean array (H, W), True known.
    invert
        White is hidden and black is known.
    threshold
        The level, from 0 (black) to 1, from which on a grey pixel counts as white; half by default.

    Raises
    ------
    ConfigError
        Another size, colours or transparency, a threshold out of range, or no pixel is hidden, or all are.
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


def alpha_mask(picture: Picture) -> tuple[Picture, Mask]:
    """Return the picture without its alpha, RGB or grey, and a mask (H, W): opaque is known (True).

    Pixels less than half opaque count as transparent; the picture's notes say if that had to be decided.
    ConfigError if the picture has no transparency, or is all transparent.
    """
    if not picture.has_alpha:
        ways = ", ".join(WAYS)
        raise ConfigError(f"nothing is hidden: {picture.name} has no transparent pixels; name one of {ways}")
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
