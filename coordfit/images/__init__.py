"""Read and write pictures. Whatever a file holds becomes colours (H, W, C) in [0, 1], or one clear error.

Pictures are read here alone, with Pillow and tifffile. What was done to a picture on the way is told in its
`notes`.
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
