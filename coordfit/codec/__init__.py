"""A picture as a file of few bits: integer latents on the levels of a pyramid, and laws from their neighbours.

What decodes is exact, so that a file gives the same pixels on every machine. `compress` trains the latents, the
context network and the decoder network of one picture; `decompress` draws it.
"""

from ..errors import CompressedFileError
from .compression import CompressionProgress, CompressionReport, Target, compress, decompress
from .container import Compressed, ScaledArray, decode, encode, load, save
from .contexts import ContextNetwork, Layer, quantise
from .header import level_size
from .pyramid.training import PyramidSettings
from .synthesis import synthesise

__all__ = [
    "Compressed",
    "CompressedFileError",
    "CompressionProgress",
    "CompressionReport",
    "ContextNetwork",
    "Layer",
    "PyramidSettings",
    "ScaledArray",
    "Target",
    "compress",
    "decode",
    "decompress",
    "encode",
    "level_size",
    "load",
    "quantise",
    "save",
    "synthesise",
]
