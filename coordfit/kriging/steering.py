"""How a picture varies around each pixel: its edges by the structure tensor, and smoothed colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_GRADIENT_SIGMA, _TENSOR_SIGMA = 0.5, 2.0  # pixels
_MOST_ELONGATED = 6.0
_NOISE = 1e-5  # of the squared slope: flat places have no direction


def smoothed(picture: Array, sigma: float) -> Array:
    """Return a picture (H, W, ...) smoothed by a Gaussian of `sigma` pixels."""
    radius = int(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(picture.ndim)]
        padded = np.pad(picture, padding, mode="symmetric")
        size = picture.shape[axis]
        parts = (w * np.take(padded, range(k, k + size), axis=axis) for k, w in enumerate(weights.tolist()))
        picture = sum(parts, np.zeros_like(picture))
    return picture


def metric(picture: Array) -> Array:
    """Return the metric M (H, W, 3), of determinant 1, in which distances across edges are long.

    `M = r v v^T + w w^T / r`, as (yy, yx, xx), with v across and w along the edge: the eigenvectors of the
    structure tensor, and r the root of the ratio of its eigenvalues (Takeda, Farsiu and Milanfar, Kernel
    Regression for Image Processing and Reconstruction, 2007).
    """
    slopes = np.gradient(smoothed(picture, _GRADIENT_SIGMA), axis=(0, 1))
    yy, yx, xx = (
        smoothed((a * b).sum(axis=-1), _TENSOR_SIGMA)
        for a, b in ((slopes[0], slopes[0]), (slopes[0], slopes[1]), (slopes[1], slopes[1]))
    )
    mean, half = (yy + xx) / 2 + _NOISE, (yy - xx) / 2
    spread = np.sqrt(half * half + yx * yx)
    ratio = np.sqrt((mean + spread) / np.maximum(mean - spread, np.float32(1e-12)))
    ratio = np.clip(ratio, 1.0, _MOST_ELONGATED)
    cosine, sine = half / np.maximum(spread, np.float32(1e-12)), yx / np.maximum(spread, np.float32(1e-12))
    even, odd = (ratio + 1 / ratio) / 2, (ratio - 1 / ratio) / 2
    return np.stack([even + odd * cosine, odd * sine, even - odd * cosine], axis=-1)
