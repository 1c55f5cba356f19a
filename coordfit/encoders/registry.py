"""The encodings by name, and the encoder of K members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from ..backends import Backend
from ..components import classes_by_name
from ..config import FitConfig
from ..fit_options import EncodingName
from .base import Encoder, Encoding, Size
from .mixed import MixedEncoder

_CLASSES: dict[str, type[Encoding]] = classes_by_name("coordfit.encoders")
ENCODINGS = {name: _CLASSES[name] for name in get_args(EncodingName)}
"""The built-in ones of all files here, in the order in which they are shown."""


def encoding_class(encoding: Any) -> type[Encoding]:
    """Return the class of an encoding that is a built-in name or an object."""
    return ENCODINGS[encoding] if isinstance(encoding, str) else type(encoding)


def encoding_of(config: FitConfig, size: Size) -> Encoding:
    """Return the encoding that settings describe, for a picture of this height and width."""
    return encoding_class(config.encoding).of(config, size)


def join_encoders(backend: Backend, encoders: Sequence[Encoder], dtype: str) -> Encoder:
    """Return one encoder for K members: shared if all are alike, with an ensemble axis, or mixed."""
    return encoders[0].joined(encoders[1:]) or MixedEncoder(backend, encoders, dtype)
