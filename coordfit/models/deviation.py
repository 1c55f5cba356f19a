"""The standard deviation of what several networks draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import memory
from .model import Model
from .rendering import Crop


def deviation_of(
    models: Sequence[Model],
    height: int | None = None,
    width: int | None = None,
    *,
    shape: Sequence[int] | None = None,
    crop: Crop | None = None,
) -> NDArray[np.floating]:
    """Return the standard deviation of what models draw, in their signal's units, some rows at a time.

    Arguments are those of `Model.render`; the sum of squares is divided by the number of models.

    Raises
    ------
    ValueError
        There are no models.
    """
    if not models:
        raise ValueError("a deviation is of several networks, and there is one: fit with average=K")
    first = models[0]
    grid = first.grid(height, width, shape=shape, crop=crop)
    lines = (grid.lines, grid.width, first.signal.channels)
    memory.check(memory.need_of_rendering(*lines, dtype=first.dtype), first.backend, "this deviation")
    deviation = np.empty(lines, first.dtype)
    top = 0
    for rows in zip(*(model.render_rows(grid) for model in models), strict=True):
        bottom = top + len(rows[0])
        np.std(rows, axis=0, dtype=np.float64, out=deviation[top:bottom])
        top = bottom
    deviation *= first.signal.spread.astype(first.dtype)
    return first.signal.as_array(deviation, grid.shape)
