"""The four photographs that figures are told of: scikit-image carries them, so that anybody has the same."""

from __future__ import annotations

import numpy as np

from coordfit.images import Picture, load_picture

PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee")


def square_photograph(name: str, size: int) -> Picture:
    """The middle square of a photograph of scikit-image, size x size; enlarged where it is smaller."""
    from skimage import data

    pixels = getattr(data, name)()
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return load_picture(np.ascontiguousarray(pixels[top : top + side, left : left + side]), size=size)
