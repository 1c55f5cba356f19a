"""A picture as a file of few bits: integer latents on the levels of a pyramid, and laws from their neighbours.

All of it is exact integers, so that a file decodes to the same latents on every machine. What turns latents
into colours is not this package's business.
"""

from ..errors import CompressedFileError
from .container import Compressed, ScaledArray, decode, encode, load, save
from .contexts import ContextNetwork, Layer, quantise
from .header import level_size

__all__ = [
    "Compressed",
    "CompressedFileError",
    "ContextNetwork",
    "Layer",
    "ScaledArray",
    "decode",
    "encode",
    "level_size",
    "load",
    "quantise",
    "save",
]
