"""Draw the sheet of an inpainting: picture, mask, filled picture and, with a truth, the error."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .panels import ErrorBar, FloatArray, absolute_error, colour_error, error_scale
from .side_by_side import Figures, Panel, picture_strip, with_bar

Mask = NDArray[np.bool_]

# Two colours, so that stripes differ from any colour of a picture, even white or magenta.
_STRIPES = np.array([(0.85, 0.1, 0.55), (0.97, 0.62, 0.86)], np.float32)
_NUM_STRIPES = 32  # along the longer side


def paint_hidden(pixels: FloatArray, known: Mask) -> NDArray[np.float32]:
    """Return a picture (H, W, 3 or 4) with stripes over its hidden pixels, False in `known` (H, W)."""
    (height, width), alpha = known.shape, pixels.shape[2] in (2, 4)
    colours = np.broadcast_to(pixels[:, :, : 1 if pixels.shape[2] < 3 else 3], (height, width, 3))
    diagonal = np.arange(height)[:, None] + np.arange(width)
    stripes = _STRIPES[diagonal // max(1, max(height, width) // _NUM_STRIPES) % 2]
    painted = [np.where(known[:, :, None], colours, stripes)]
    painted += [np.where(known[:, :, None], pixels[:, :, -1:], 1.0)] if alpha else []
    return np.concatenate(painted, axis=2, dtype=np.float32)


def inpainting_picture(
    pixels: FloatArray,
    known: Mask,
    filled: FloatArray,
    *,
    title: str,
    has_truth: bool = True,
    mask_figures: Figures = (),
    filled_figures: Figures = (),
) -> Image.Image:
    """Return one sheet: truth, mask, filled and error of hidden pixels; or damaged, mask and filled.

    Parameters
    ----------
    pixels
        The picture (H, W, C), float in [0, 1], C from 1 to 4: true colours, or without truth damaged ones.
    known
        Mask (H, W): True is known, False is hidden.
    filled
        The picture with its hidden pixels filled, (H, W, C).
    title
        Headline; shortened if it does not fit.
    has_truth
        Whether the hidden pixels of `pixels` are true.
    mask_figures, filled_figures
        Pairs of a label and a value below those panels.
    """
    height, width = known.shape
    before: Panel = ("truth" if has_truth else "damaged", pixels, [("", f"{width} x {height} px")])
    panels = [before, ("mask", paint_hidden(pixels, known), mask_figures), ("filled", filled, filled_figures)]
    if not has_truth:
        return picture_strip(panels, title=title)
    error = absolute_error(pixels, filled)
    hidden = 255.0 * error[~known]
    # The scale is that of hidden pixels: zeros at known ones would make it too short.
    scale = error_scale(error[~known])
    shown = np.asarray(colour_error(Image.fromarray(error), scale), np.float32) / 255.0
    of_error = [("mean", f"{hidden.mean():.1f} of 255"), ("largest", f"{hidden.max():.0f} of 255")]
    sheet = picture_strip([*panels, ("error of hidden pixels", shown, of_error)], title=title)
    kind = "error" if pixels.shape[2] == 1 else "error, mean of channels"
    return with_bar(sheet, 4, ErrorBar(scale, bool(hidden.max() > scale), f"{kind}, in 1/255"))
