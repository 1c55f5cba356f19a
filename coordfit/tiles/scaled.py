"""Tiles on the host with their targets scaled to mean 0 and spread 1, so that one learning rate suits all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .network import TileNetwork

# Flat tiles are not scaled up further than to this spread.
_LEAST_SPREAD = 1 / 255

Host = NDArray[np.floating]


@dataclass
class ScaledTiles:
    """The targets of n tiles, and what they have learned of them."""

    weights: Host | None
    """(n, N), of mean 1 in each tile: how much each pixel counts in training; None if all count alike."""
    error_weights: Host
    """(n, N): how much each pixel counts in `error`."""
    target: Host
    """(n, N, C), of mean 0 and spread 1 in each tile."""
    mean: Host
    """(n, 1, C)."""
    spread: Host
    """(n, 1, 1)."""
    parameters: Host
    """(n, P), for that target."""
    error: Host
    """(n,), the mean squared error of the unscaled colours, by `error_weights`."""

    @classmethod
    def of(
        cls, network: TileNetwork, pixels: Host, blend_weights: Host | None, weights: Host | None
    ) -> ScaledTiles:
        """Return tiles with pixels (n, N, C) at their first parameters; their errors are not known yet."""
        dtype = network.config.dtype
        error_weights = np.ones(pixels.shape[:-1], dtype) if blend_weights is None else blend_weights
        if weights is not None:
            # A tile with few known pixels matters little to the error of the picture.
            error_weights = error_weights * weights
            weights = (weights / weights.mean(axis=1, keepdims=True)).astype(dtype)

        def weighted(values: Host) -> Host:
            return values if weights is None else weights[..., None] * values

        target = pixels.astype(dtype)
        mean, spread = np.zeros_like(pixels[:, :1]), np.ones((len(pixels), 1, 1), dtype)
        if network.has_linear_output:
            mean = np.mean(weighted(pixels), axis=1, keepdims=True)
            target = (pixels - mean).astype(dtype)
            variance = weighted(np.square(target)).mean(axis=(1, 2), keepdims=True)
            spread = np.maximum(np.sqrt(variance), _LEAST_SPREAD)
            target /= spread
        parameters = np.tile(network.first_parameters(), (len(pixels), 1))
        error = np.full(len(pixels), math.inf)
        return cls(weights, error_weights, target, mean, spread, parameters, error)

    def mean_error(self, squared: Host, chosen: NDArray[np.int64] | slice) -> Host:
        """Return the weighted mean (K,), for unscaled colours, of squared errors (K, N) of scaled ones."""
        weights = self.error_weights[chosen]
        mean = (squared * weights).sum(axis=1) / weights.sum(axis=1)
        return np.asarray(mean * self.spread[chosen, 0, 0] ** 2)


def unscale(network: TileNetwork, parameters: Host, mean: Host, spread: Host) -> None:
    """Turn networks of the scaled targets into networks of the colours, by their linear last layer."""
    if network.has_linear_output:
        W, b = list(network.layout.views(np, parameters))[-1]
        W *= spread
        b *= spread
        b += mean
