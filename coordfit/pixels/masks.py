"""Masks of the pixels that training sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def training_mask(train_on: str, height: int, width: int) -> NDArray[np.bool_]:
    """Return which pixels (H W,) training sees: all, or those of rows and columns 0, 2, 4, ..."""
    mask = np.zeros((height, width), dtype=np.bool_)
    stride = 2 if train_on == "every-second" else 1
    mask[::stride, ::stride] = True
    return mask.reshape(-1)
