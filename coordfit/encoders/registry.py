"""Make encoders by name, and join those of K members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from .._backends import Backend
from ..fit_options import EncodingName
from .base import Encoder
from .fourier import FourierEncoder
from .identity import IdentityEncoder
from .mixed import MixedEncoder

ENCODINGS: tuple[EncodingName, ...] = get_args(EncodingName)


def make_encoder(backend: Backend, B: NDArray[np.floating] | None, dtype: str) -> Encoder:
    """The encoder for a frequency matrix (m, 2) or (*E, m, 2), or for None, on the backend's device."""
    return IdentityEncoder() if B is None else FourierEncoder(backend, backend.asarray(B, dtype))


def join_encoders(backend: Backend, encoders: Sequence[Encoder], dtype: str) -> Encoder:
    """One encoder for K members: shared where all are alike, with an ensemble axis, or mixed."""
    Bs = [encoder.B for encoder in encoders]
    if all(B is None for B in Bs):
        return encoders[0]
    if any(B is None for B in Bs) or len({B.shape for B in Bs if B is not None}) > 1:
        return MixedEncoder(backend, encoders, dtype)
    host = [backend.to_numpy(B) for B in Bs]
    if all(np.array_equal(B, host[0]) for B in host):
        return encoders[0]
    return FourierEncoder(backend, backend.xp.stack(Bs))
