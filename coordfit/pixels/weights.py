"""Masks and weights of pixels from users: checks, and the scale of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..signals.signal import Signal


def checked_mask(known: Any, signal: Signal) -> NDArray[np.bool_]:
    """Return the mask (*samples) of what training may see; ConfigError if it is unusable."""
    mask = np.asarray(known)
    if mask.dtype != np.bool_:
        raise ConfigError(f"the mask of known {_units(signal)} must be a boolean array, not of {mask.dtype}")
    _check_shape("the mask", mask, signal)
    if not mask.any():
        raise ConfigError(f"the mask hides all {_units(signal)}; training needs one at least")
    return mask


def checked_weights(weights: Any, signal: Signal) -> NDArray[np.floating]:
    """Return the weights (*samples) in training; ConfigError if they are unusable."""
    try:
        numbers = np.asarray(weights, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError("weights must be an array of numbers") from error
    _check_shape("the array of weights", numbers, signal)
    if not (np.isfinite(numbers).all() and (numbers >= 0.0).all()):
        raise ConfigError("weights must be finite and not below 0; a weight of 0 hides a pixel")
    return numbers


def scaled_weights(weights: NDArray[np.floating], train: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return weights (N, 1) of mean 1 over the training pixels (N,)."""
    flat = weights.reshape(-1, 1)
    mean = flat[train].mean()
    if mean == 0.0:
        raise ConfigError("weights are 0 on all pixels that training sees; one at least must be above 0")
    return np.asarray(flat / mean)


def _units(signal: Signal) -> str:
    return "pixels" if signal.is_picture else "samples"


def _check_shape(what: str, array: NDArray[Any], signal: Signal) -> None:
    if array.shape == signal.samples:
        return
    if not signal.is_picture:
        raise ConfigError(f"{what} has shape {array.shape} and the signal {signal.samples}; they must agree")
    own = "x".join(map(str, array.shape[::-1])) if array.ndim == 2 else f"of shape {array.shape}"
    raise ConfigError(f"{what} is {own} pixels and the picture {signal.extent}; they must agree")
