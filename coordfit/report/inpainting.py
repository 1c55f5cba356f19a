"""The picture of an inpainting: truth, what was left of it, what was filled in, and the error, on one sheet."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont

from .comparison import PAPER, ErrorBar, FloatArray, absolute_error, draw_error_bar, error_picture, error_scale
from .side_by_side import Figures, Panel, picture_strip

__all__ = ["inpainting_picture", "paint_hidden"]

Mask = NDArray[np.bool_]

_HIDDEN = 0.96  # a grey as light as paper: what is hidden looks erased
_MARGIN, _GAP = 36, 22  # of the strip
_NARROWEST_BAR, _WIDEST_BAR, _BAR_HEIGHT = 210, 300, 70


def paint_hidden(pixels: FloatArray, known: Mask) -> NDArray[np.float32]:
    """Return a picture (H, W, C) whose hidden pixels, False in `known` (H, W), are a light grey."""
    colour = np.full(pixels.shape[2], _HIDDEN, np.float32)
    if pixels.shape[2] in (2, 4):
        colour[-1] = 1.0
    return np.where(known[:, :, None], pixels, colour).astype(np.float32)


def inpainting_picture(
    truth: FloatArray,
    known: Mask,
    filled: FloatArray,
    *,
    title: str,
    has_truth: bool = True,
    masked_figures: Figures = (),
    filled_figures: Figures = (),
) -> Image.Image:
    """Return one sheet: truth, masked, filled and the error of the filled pixels; without truth the middle two.

    Parameters
    ----------
    truth
        The picture (H, W, C), float in [0, 1], C from 1 to 4.
    known
        Mask (H, W): True is known, False is hidden.
    filled
        The picture with its hidden pixels filled, same shape.
    title
        Headline; shortened where it does not fit.
    has_truth
        Whether the hidden pixels of `truth` are true.
    masked_figures, filled_figures
        Pairs of a label and a value to stand below those panels.

    Returns
    -------
    PIL.Image.Image
        RGB picture, on white.
    """
    masked: Panel = ("masked", paint_hidden(truth, known), masked_figures)
    after: Panel = ("filled", filled, filled_figures)
    if not has_truth:
        return picture_strip([masked, after], title=title)
    error = absolute_error(truth, filled)
    hidden = 255.0 * error[~known]
    # The scale suits the hidden pixels alone: zeros where pixels are known would make it too short.
    scale = error_scale(error[~known])
    shown = np.asarray(error_picture(truth, filled, scale=scale), np.float32) / 255.0
    of_error = [("mean", f"{hidden.mean():.1f} of 255"), ("largest", f"{hidden.max():.0f} of 255")]
    height, width = known.shape
    panels = [("truth", truth, [("", f"{width} x {height} px")]), masked, after]
    sheet = picture_strip([*panels, ("error of hidden pixels", shown, of_error)], title=title)
    kind = "error" if truth.shape[2] == 1 else "error, mean of channels"
    return _with_bar(sheet, ErrorBar(scale, bool(hidden.max() > scale), f"{kind}, in 1/255"))


def _with_bar(sheet: Image.Image, bar: ErrorBar) -> Image.Image:
    """The sheet with the error's colour bar below it, at the right, where the error stands."""
    taller = Image.new("RGB", (sheet.width, sheet.height + _BAR_HEIGHT), PAPER)
    taller.paste(sheet)
    column = (sheet.width - 2 * _MARGIN - 3 * _GAP) // 4  # where all four panels are in one row
    width = min(max(column, _NARROWEST_BAR), _WIDEST_BAR)
    place = (sheet.width - _MARGIN - width, sheet.height - _MARGIN // 3)
    draw_error_bar(taller, place, width - 2, bar, ImageFont.load_default(size=13.5))
    return taller
