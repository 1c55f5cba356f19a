"""Masks and weights of pixels from users: checks, and the scale of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError


def checked_mask(known: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask (H, W) of the pixels that training may see; ConfigError if it is unusable."""
    mask = np.asarray(known)
    if mask.dtype != np.bool_:
        raise ConfigError(f"the mask of known pixels must be a boolean array (H, W), not of {mask.dtype}")
    _check_shape("the mask", mask, height, width)
    if not mask.any():
        raise ConfigError("the mask hides all pixels; training needs one at least")
    return mask


def checked_weights(weights: Any, height: int, width: int) -> NDArray[np.floating]:
    """Return the weights (H, W) of pixels in training; ConfigError if they are unusable."""
    try:
        numbers = np.asarray(weights, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError("weights must be an array of numbers (H, W)") from error
    _check_shape("the array of weights", numbers, height, width)
    if not (np.isfinite(numbers).all() and (numbers >= 0.0).all()):
        raise ConfigError("weights must be finite and not below 0; a weight of 0 hides a pixel")
    return numbers


def scaled_weights(weights: NDArray[np.floating], train: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return weights (H W, 1) of mean 1 over the training pixels (H W,)."""
    flat = weights.reshape(-1, 1)
    mean = flat[train].mean()
    if mean == 0.0:
        raise ConfigError("weights are 0 on all pixels that training sees; one at least must be above 0")
    return np.asarray(flat / mean)


def _check_shape(what: str, array: NDArray[Any], height: int, width: int) -> None:
    if array.shape != (height, width):
        own = "x".join(map(str, array.shape[::-1])) if array.ndim == 2 else f"of shape {array.shape}"
        raise ConfigError(f"{what} is {own} pixels and the picture {width}x{height}; they must agree")
