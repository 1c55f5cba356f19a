"""Handle alpha: what it hides, how colours under it are averaged, and backgrounds."""

from __future__ import annotations

import numpy as np
from PIL import ImageColor

from ...errors import ConfigError
from .levels import MAX_16_BIT, Levels, Pixels, highest, to_pixels

# Alpha below half of a 16-bit step counts as 0: division cannot restore the colour under it.
_NO_ALPHA = 0.5 / MAX_16_BIT


def settle_alpha(levels: Levels, notes: list[str]) -> Levels:
    """Drop alpha that is 1 everywhere, and set colours under alpha 0 to 0."""
    if levels.shape[2] not in (2, 4):
        return levels
    alpha = levels[:, :, -1]
    if (alpha == highest(levels)).all():
        notes.append("opaque alpha channel dropped")
        return levels[:, :, :-1]
    hidden = (alpha == 0) & levels[:, :, :-1].any(axis=2)
    if hidden.any():
        levels[hidden, :-1] = 0
        notes.append(f"colour of {np.count_nonzero(hidden)} fully transparent pixels set to 0")
    return levels


def premultiply(pixels: Pixels) -> Pixels:
    """Multiply colour by alpha (H, W, C), as averages of pixels require."""
    alpha = pixels[:, :, -1:]
    return np.concatenate([pixels[:, :, :-1] * alpha, alpha], axis=2)


def unpremultiply(pixels: Pixels) -> Pixels:
    """Divide colour by alpha (H, W, C); colour is 0 if alpha is."""
    alpha = np.where(pixels[:, :, -1:] < _NO_ALPHA, np.float32(0), pixels[:, :, -1:])
    colour = np.zeros_like(pixels[:, :, :-1])
    np.divide(pixels[:, :, :-1], alpha, out=colour, where=alpha > 0)
    return np.concatenate([np.minimum(colour, 1), alpha], axis=2)


def lay_on(levels: Levels, paper: tuple[int, int, int], note: str, notes: list[str]) -> Levels:
    """Composite on an opaque colour, levels 0 to 255, in encoded values as browsers do; grey stays grey."""
    if levels.shape[2] not in (2, 4):
        return levels
    notes.append(note)
    pixels = to_pixels(levels)
    colour, alpha = pixels[:, :, :-1], pixels[:, :, -1:]
    under = np.asarray(paper, np.float32) / 255
    if len(set(paper)) == 1:
        under = under[: colour.shape[2]]
    return np.clip(colour * alpha + under * (1 - alpha), 0, 1)


def parse_colour(text: str) -> tuple[int, int, int]:
    """Return a colour, a name or "#rrggbb", as three levels 0 to 255."""
    try:
        levels = ImageColor.getrgb(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"background {text!r} is no colour: give a name or #rrggbb") from error
    if len(levels) == 4 and levels[3] != 255:
        raise ConfigError(f"background {text!r} is not opaque: give a name or #rrggbb")
    return levels[0], levels[1], levels[2]
