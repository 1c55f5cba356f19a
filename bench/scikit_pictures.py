"""Open pictures by name: the photographs of scikit-image that the figures use, and files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coordfit.images import Picture, load_picture

from .command_line import PHOTOGRAPHS, need

__all__ = ["PHOTOGRAPHS", "image_named", "photograph", "picture_named", "picture_of", "square_photograph"]


def photograph(name: str) -> NDArray[Any]:
    """Return the levels of a photograph of scikit-image, (H, W) or (H, W, 3), uint8."""
    need("skimage", "pip install -e '.[study]', which brings scikit-image and its photographs")
    from skimage import data

    return np.asarray(getattr(data, name)())


def image_named(name: str) -> Image.Image:
    """Return a photograph of scikit-image, or the picture of a file, as Pillow opens it."""
    return Image.fromarray(photograph(name)) if name in PHOTOGRAPHS else Image.open(name)


def picture_named(name: str) -> Picture:
    """Return a photograph of scikit-image, or the picture of a file."""
    return load_picture(photograph(name) if name in PHOTOGRAPHS else name)


def square_photograph(name: str, size: int) -> Picture:
    """Return the middle square of a photograph of scikit-image, size x size; enlarged if it is smaller."""
    pixels = photograph(name)
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return load_picture(np.ascontiguousarray(pixels[top : top + side, left : left + side]), size=size)


def picture_of(name: str, size: int) -> Picture:
    """Return the middle square of a photograph of scikit-image, or of a file, in colour, size x size."""
    image = image_named(name)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    return load_picture(square.resize((size, size), Image.Resampling.LANCZOS))
