"""The encodings by name, and the encoder of K members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def encoding_class(encoding: Any) -> type[Encoding]:
    """Return the class of an encoding that is a built-in name or an object."""
    return ENCODINGS[encoding] if isinstance(encoding, str) else type(encoding)


def encoding_of(config: FitConfig, size: Size) -> Encoding:
    """Return the encoding that settings describe, for a picture of this height and width."""
    return encoding_class(config.encoding).of(config, size)


def join_encoders(backend: Backend, encoders: Sequence[Encoder], dtype: str) -> Encoder:
    """Return one encoder for K members: shared if all are alike, with an ensemble axis, or mixed."""
    return encoders[0].joined(encoders[1:]) or MixedEncoder(backend, encoders, dtype)
