"""How a signal varies around each sample: its edges by the structure tensor, and smoothed values."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_GRADIENT_SIGMA, _TENSOR_SIGMA = 0.5, 2.0  # pixels
_ROUND = 1 / 35  # of the mean squared slope, added along each axis: distances differ by 6 at most
_NOISE = 1e-5  # of the squared slope: flat places have no direction


def smoothed(values: Array, sigma: float, axes: int) -> Array:
    """Return values smoothed by a Gaussian of `sigma` samples along the first axes."""
    radius = int(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in range(axes):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(values.ndim)]
        padded = np.pad(values, padding, mode="symmetric")
        size = values.shape[axis]
        parts = (w * np.take(padded, range(k, k + size), axis=axis) for k, w in enumerate(weights.tolist()))
        values = sum(parts, np.zeros_like(values))
    return values


def structure(values: Array) -> Array:
    """Return the structure tensor of values (*shape, C), the entries (*shape, D (D + 1) / 2) of its triangle.

    Source: Takeda, Farsiu and Milanfar, Kernel Regression for Image Processing and Reconstruction (2007).
    """
    axes = tuple(range(values.ndim - 1))
    slopes = np.gradient(smoothed(values, _GRADIENT_SIGMA, len(axes)), axis=axes)
    slopes = slopes if len(axes) > 1 else [slopes]
    products = [np.einsum("...c,...c->...", slopes[i], slopes[j]) for i, j in triangle(len(axes))]
    return smoothed(np.stack(products, axis=-1), _TENSOR_SIGMA, len(axes))


def factors(tensor: Array, axes: int) -> Array:
    """Return L (n, D, D), with which `|x L|` is a distance that is long across edges, of tensors (n, ...).

    `L L^T = M` is the tensor T, made a little rounder and of determinant 1.
    """
    whole = np.empty((len(tensor), axes, axes), np.float32)
    for k, (i, j) in enumerate(triangle(axes)):
        whole[:, i, j] = whole[:, j, i] = tensor[:, k]
    diagonal = range(axes)
    whole[:, diagonal, diagonal] += _NOISE + _ROUND * whole[:, diagonal, diagonal].mean(axis=1, keepdims=True)
    L: Array = np.linalg.cholesky(whole)
    determinant = L[:, diagonal, diagonal].prod(axis=1)
    L /= determinant[:, None, None] ** np.float32(1.0 / axes)
    return L


def triangle(axes: int) -> list[tuple[int, int]]:
    """Return the pairs of axes of a symmetric matrix."""
    return [*itertools.combinations_with_replacement(range(axes), 2)]
