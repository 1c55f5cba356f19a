"""Masks of the samples that training sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def training_mask(train_on: str, samples: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which samples (*samples) training sees: all, or those of places 0, 2, 4, ... along each axis."""
    mask = np.zeros(samples, dtype=np.bool_)
    stride = 2 if train_on == "every-second" else 1
    mask[(slice(None, None, stride),) * len(samples)] = True
    return mask
