"""Read and write pictures: any file becomes colours (H, W, C) in [0, 1], or one clear error.

Pictures are read here alone, with Pillow and tifffile. The `notes` of a picture say what was done to it on
the way.
"""

from .formats.levels import Colours
from .formats.sources import MAX_PIXELS
from .formats.writing import png_bytes, save_picture
from .picture import BUNDLED_SIZES, Picture, Source, bundled_picture, load_picture

__all__ = [
    "BUNDLED_SIZES",
    "MAX_PIXELS",
    "Colours",
    "Picture",
    "Source",
    "bundled_picture",
    "load_picture",
    "png_bytes",
    "save_picture",
]
