"""The first latents: a Laplacian pyramid of luminance and two colour differences.

Source: Burt and Adelson (1983), with the means over cells and the cubic weights of `upsampling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...encoders.pyramid import LUMINANCE
from ..upsampling import Upsampling

Real = NDArray[np.floating[Any]]


def start_latents(target: Real, latents: Sequence[Real]) -> NDArray[np.float64]:
    """Fill the latents, finest first, from colours (C, H, W); return S (C, F), which makes colours of them.

    A level of c channels holds the first c of luminance, alpha and colour differences, coarsest levels first.
    """
    colours, *size = target.shape
    to = np.eye(colours)
    if colours >= 3:
        to[:3, :3] = LUMINANCE
        to[1:] = np.roll(to[1:], colours - 3, 0)  # alpha after luminance
    back = np.linalg.inv(to)
    rest = np.tensordot(to.astype(target.dtype), target, 1)
    rows = [slice(0, size[0])]
    columns = []
    for level in reversed(range(len(latents))):
        count = min(latents[level].shape[0], colours)
        up = Upsampling((size[0], size[1]), level, rows, str(target.dtype))
        latents[level][:count] = _means(rest[:count], 1 << level)
        larger = np.empty_like(rest[:count])
        up.strip(up.widen(latents[level][:count]), 0, larger)
        rest[:count] -= larger
        columns.append(np.eye(latents[level].shape[0], colours) @ back.T)
    return np.concatenate(columns[::-1]).T


def _means(values: Real, side: int) -> Real:
    """Return the means (C, h, w) over cells of `side` pixels; those at the ends repeat the last pixel."""
    channels, height, width = values.shape
    padded = np.pad(values, ((0, 0), (0, -height % side), (0, -width % side)), mode="edge")
    rows, columns = padded.shape[1] // side, padded.shape[2] // side
    means: Real = padded.reshape(channels, rows, side, columns, side).mean((2, 4))
    return means
