"""Fill hidden pixels without a network: by the nearest known pixel, or by biharmonic equations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


def mean_spacing(known: Mask) -> float:
    """Return the mean distance between neighbouring known pixels, in pixels; 1 if all are known."""
    return math.sqrt(known.size / np.count_nonzero(known))


def nearest_fill(pixels: Pixels, known: Mask) -> Pixels:
    """Return the picture (H, W, C) with each hidden pixel as its nearest known one (Euclidean distance).

    Hidden pixels are not read; at least one pixel of `known` (H, W) is True. Exact, in two passes (Meijster,
    Roerdink and Hesselink 2000): first the nearest known pixel of each column, then the best of these along
    each row. The second pass tries one column further at a time, until no pixel can come nearer.
    """
    height, width = known.shape
    source = _nearest_in_column(known)
    above = np.arange(height)[:, None]
    rise = (source - above) ** 2
    best, rows, columns = rise.copy(), source.copy(), np.broadcast_to(np.arange(width), known.shape).copy()
    for step in range(1, width):
        if step * step >= best.max():
            break
        for to, of in ((np.s_[:, step:], np.s_[:, :-step]), (np.s_[:, :-step], np.s_[:, step:])):
            distance = rise[of] + step * step
            nearer = distance < best[to]
            best[to][nearer], rows[to][nearer] = distance[nearer], source[of][nearer]
            columns[to][nearer] = np.broadcast_to(np.arange(width)[of[1]], nearer.shape)[nearer]
    filled: Pixels = pixels[rows, columns]
    return filled


def _nearest_in_column(known: Mask) -> NDArray[np.int64]:
    """Return the row (H, W) of the nearest known pixel in the column; far outside if there is none."""
    height, far = known.shape[0], 2 * sum(known.shape)
    own = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(known, own, -far), axis=0)
    below = np.minimum.accumulate(np.where(known, own, height + far)[::-1], axis=0)[::-1]
    return np.where(own - above <= below - own, above, below)


def biharmonic_fill(pixels: Pixels, known: Mask) -> Pixels:
    """Return the picture (H, W, C) with hidden pixels by biharmonic equations, as scikit-image does it.

    Damelin and Hoang, On Surface Completion and Image Inpainting by Biharmonic Functions (2018). ImportError
    if scikit-image is not installed.
    """
    from skimage.restoration import inpaint_biharmonic

    filled = inpaint_biharmonic(pixels.astype(np.float64), ~known, channel_axis=-1)
    return np.asarray(filled, np.float32)
