"""Read and write pictures: a file becomes colours (H, W, C) in [0, 1], or one clear error.

No other package decodes pictures. A picture's `notes` say how it was changed on the way.
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
