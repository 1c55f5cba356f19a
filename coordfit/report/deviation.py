"""Draw how much the networks of a mean differ: their mean, and a heat map of the standard deviation."""

import numpy as np
from PIL import Image

from .panels import ErrorBar, FloatArray, colour_error, error_scale
from .side_by_side import picture_strip, with_bar


def deviation_sheet(mean: FloatArray, deviation: FloatArray, *, title: str) -> Image.Image:
    """Return one sheet with a picture and the standard deviation of each of its pixels, with its scale.

    Parameters
    ----------
    mean
        The picture (H, W, C), float in [0, 1], C from 1 to 4.
    deviation
        Standard deviations (H, W, C); a pixel shows the mean of its channels.
    title
        Headline; shortened if it does not fit.
    """
    shown = np.nan_to_num(deviation.mean(axis=-1, dtype=np.float32), nan=1.0)
    scale, levels = error_scale(shown), 255.0 * shown
    colours = np.asarray(colour_error(Image.fromarray(shown), scale), np.float32) / 255.0
    figures = [("mean", f"{levels.mean():.2f} of 255"), ("largest", f"{levels.max():.0f} of 255")]
    strip = picture_strip([("mean", mean, []), ("standard deviation", colours, figures)], title=title)
    kind = "standard deviation" + ("" if deviation.shape[2] == 1 else ", mean of channels")
    return with_bar(strip, 2, ErrorBar(scale, bool(levels.max() > scale), f"{kind}, in 1/255"))
