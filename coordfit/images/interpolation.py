"""Fill hidden pixels without a network: by the nearest known pixel, or by biharmonic equations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


def mean_spacing(known: Mask, dimensions: int = 2) -> float:
    """Return the mean distance between neighbouring known samples, in samples; 1 if all are known."""
    return float((known.size / np.count_nonzero(known)) ** (1.0 / dimensions))


def nearest_fill(pixels: Pixels, known: Mask) -> Pixels:
    """Return the signal (*samples, C) with each hidden sample as its nearest known one (Euclidean distance).

    Hidden samples are not read; at least one of `known` (*samples) is True. Exact, in a pass for each axis
    (Meijster, Roerdink and Hesselink 2000): first the nearest known sample along the first axis, then the best
    of these along the others. Later passes try one sample further at a time, until none can come nearer.
    """
    source, best = _nearest_along_first(known)
    line = known[0].size
    nearest = source * line + np.arange(line).reshape(known.shape[1:])  # the number of the nearest sample
    for axis in range(1, known.ndim):
        rise, before = best.copy(), nearest.copy()
        for step in range(1, known.shape[axis]):
            if step * step >= best.max():
                break
            later, earlier = ((slice(None),) * axis + (s,) for s in (slice(step, None), slice(None, -step)))
            for to, of in ((later, earlier), (earlier, later)):
                distance = rise[of] + step * step
                nearer = distance < best[to]
                best[to][nearer], nearest[to][nearer] = distance[nearer], before[of][nearer]
    filled: Pixels = pixels.reshape(-1, pixels.shape[-1])[nearest]
    return filled


def _nearest_along_first(known: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the place of the nearest known sample along the first axis, and its squared distance.

    It is far outside if there is none.
    """
    length, far = known.shape[0], 2 * sum(known.shape)
    own = np.arange(length).reshape(-1, *(1,) * (known.ndim - 1))
    above = np.maximum.accumulate(np.where(known, own, -far), axis=0)
    below = np.minimum.accumulate(np.where(known, own, length + far)[::-1], axis=0)[::-1]
    nearest = np.where(own - above <= below - own, above, below)
    return nearest, (nearest - own) ** 2


def biharmonic_fill(pixels: Pixels, known: Mask) -> Pixels:
    """Return the picture (H, W, C) with hidden pixels by biharmonic equations, as scikit-image does it.

    Damelin and Hoang, On Surface Completion and Image Inpainting by Biharmonic Functions (2018). ImportError
    if scikit-image is not installed.
    """
    from skimage.restoration import inpaint_biharmonic

    filled = inpaint_biharmonic(pixels.astype(np.float64), ~known, channel_axis=-1)
    return np.asarray(filled, np.float32)
