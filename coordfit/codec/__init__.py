"""A picture as a file of few bits: integer latents on the levels of a pyramid, and laws from their neighbours.

What decodes is exact, so that a file gives the same pixels on every machine. `compress` trains the latents, the
context network and the decoder network of one picture; `decompress` draws it.
"""

from ..errors import CompressedFileError
from .compression import CompressionProgress, CompressionReport, Compressor, compress, decompress
from .container import Compressed, ScaledArray, bits_of_parts, decode, encode, load, save
from .contexts import ContextNetwork, Layer, quantise
from .drawing import CompressedPicture
from .header import level_size
from .pyramid.training import PyramidSettings
from .synthesis import synthesise, synthesised_rows
from .targets import Target

__all__ = [
    "Compressed",
    "CompressedFileError",
    "CompressedPicture",
    "CompressionProgress",
    "CompressionReport",
    "Compressor",
    "ContextNetwork",
    "Layer",
    "PyramidSettings",
    "ScaledArray",
    "Target",
    "bits_of_parts",
    "compress",
    "decode",
    "decompress",
    "encode",
    "level_size",
    "load",
    "quantise",
    "save",
    "synthesise",
    "synthesised_rows",
]
