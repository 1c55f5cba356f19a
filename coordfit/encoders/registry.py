"""The encodings by name, and what joins those of K members."""

from __future__ import annotations

from collections.abc import Sequence

from .._backends import Backend
from ..config import FitConfig
from .base import Encoder, Encoding, Size
from .fourier import Basic, Gaussian, Positional
from .grid import Grid
from .identity import NoEncoding
from .mixed import MixedEncoder

ENCODINGS: dict[str, type[Encoding]] = {
    encoding.name: encoding for encoding in (NoEncoding, Basic, Positional, Gaussian, Grid)
}
"""By name, in the order in which they are shown; `fit_options.EncodingName` has the same names."""


def encoding_of(config: FitConfig, size: Size) -> Encoding:
    """Return the encoding that settings name, for a picture of this height and width."""
    return ENCODINGS[config.encoding].of(config, size)


def join_encoders(backend: Backend, encoders: Sequence[Encoder], dtype: str) -> Encoder:
    """Return one encoder for K members: shared if all are alike, with an ensemble axis, or mixed."""
    return encoders[0].joined(encoders[1:]) or MixedEncoder(backend, encoders, dtype)
