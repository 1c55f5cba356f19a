"""Keep pictures in the levels of their source, and turn them into float32 in [0, 1].

An 8-bit RGB pixel has 3 bytes, and 12 as float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PictureError

Pixels = NDArray[np.float32]
Levels = NDArray[Any]
"""uint8, uint16, or float32 in [0, 1]."""

MAX_16_BIT = 65535
_ROUNDING = 1e-6  # float32 colours may leave [0, 1] by this much
_OVERSHOOT = 0.15  # of filters such as Lanczos, as a share of the range
_LEAST_OF_255 = 16  # with a smaller maximum, white is hardly 255


def check_pixels(size: tuple[int, int], max_pixels: int, label: str) -> None:
    """Refuse a picture (width, height) without pixels, or with more than the limit."""
    width, height = size
    if width < 1 or height < 1:
        raise PictureError(f"{label} has no pixels: its size is {width}x{height}")
    if width * height > max_pixels:
        count = f"{width}x{height} = {width * height} pixels"
        raise PictureError(
            f"{label} has {count}, more than {max_pixels}: make it smaller, or raise max_pixels "
            "(`coordfit fit --max-pixels`)"
        )


def as_levels(values: NDArray[Any], label: str) -> tuple[Levels, int]:
    """Return a new array of levels, or floats in [0, 1], and the bit depth."""
    if values.dtype.kind == "f":
        _check_range(values, label)
        return np.clip(values, 0, 1).astype(np.float32), 8
    if values.dtype.kind == "b":
        return values.astype(np.float32), 8
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return np.array(values, values.dtype.newbyteorder("="), order="C"), 8 * values.dtype.itemsize
    cure = "make it uint8, uint16 or floats in [0, 1]"
    if values.dtype.kind in "iu":
        cure = "divide by its highest possible level, or, if that is 255 or 65535, make it uint8 or uint16"
    raise PictureError(f"{label} holds {values.dtype}, whose white is not known: {cure}")


def highest(levels: Levels) -> int:
    """Return the level of white and of full alpha."""
    return 1 if levels.dtype.kind == "f" else int(np.iinfo(levels.dtype).max)


def to_pixels(levels: Levels) -> Pixels:
    """Return colours in [0, 1]: a new array, or the levels themselves if they are float32."""
    if levels.dtype == np.float32:
        return levels
    return np.divide(levels, np.float32(highest(levels)), dtype=np.float32)


class Colours:
    """Levels of any shape that become float32 colours only when they are read.

    Parameters
    ----------
    levels
        Any shape.
    """

    def __init__(self, levels: Levels) -> None:
        self.levels = levels

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the levels."""
        return self.levels.shape

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return len(self.levels)

    def __getitem__(self, index: Any) -> Pixels:
        """Return colours in [0, 1] at any index that an array takes."""
        return to_pixels(self.levels[index])

    def reshape(self, *shape: int) -> Colours:
        """Return the same levels in another shape."""
        return Colours(self.levels.reshape(*shape))


def _check_range(values: NDArray[np.floating], label: str) -> None:
    """Refuse floats outside [0, 1], and suggest a cure."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PictureError(f"{label} holds NaN or infinite values: replace them first")
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        extent = f"values from {low:g} to {high:g}"
        raise PictureError(f"{label} holds {extent}, but colours lie in [0, 1]: {_range_cure(low, high)}")


def _range_cure(low: float, high: float) -> str:
    """Return how to bring values of this range to [0, 1], as far as the range tells."""

    def fits(bottom: float, top: float) -> bool:
        margin = _OVERSHOOT * (top - bottom)
        return bottom - margin <= low and high <= top + margin

    clip = ", then clip to [0, 1]"
    if fits(0, 1):
        return "clip it, as a filter that overshoots makes such values (numpy.clip(array, 0, 1))"
    if fits(-1, 1):
        return "add 1 and divide by 2" + (clip if low < -1 or high > 1 else "")
    if not fits(0, MAX_16_BIT) or high < _LEAST_OF_255:
        return "shift and scale it so that black is 0 and white 1"
    if fits(0, 255):
        return "divide by 255" + (clip if low < 0 or high > 255 else "")
    return "divide by its highest possible level (1023 for 10 bits, 4095 for 12, 65535 for 16)"
