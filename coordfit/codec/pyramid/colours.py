"""The colours of a picture as training sees them, and how far a drawing is from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...images.formats.levels import Levels, to_pixels
from ..upsampling import Upsampling

Planes = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Reference:
    """The picture that a compression is to reach: levels (H, W, C), uint8 or uint16, C as in `Picture`."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        has_alpha = levels.shape[2] in (2, 4)
        self._seen: Mask | None = levels[..., -1] > 0 if has_alpha else None

    @property
    def num_pixels(self) -> int:
        """Return H W."""
        return int(self._levels[..., 0].size)

    def planes(self) -> Planes:
        """Return colours (C, H, W) in [0, 1]; those of fully transparent pixels go on from their neighbours."""
        planes: Planes = np.ascontiguousarray(to_pixels(self._levels).transpose(2, 0, 1))
        if self._seen is not None:
            planes[:-1] = continued(planes[:-1], self._seen)
        return planes

    def squared_error(self, levels: Levels) -> float:
        """Return the mean squared error of levels; colours of fully transparent pixels do not count."""
        squares, count, channels = 0.0, 0, levels.shape[2]
        for i in range(channels):
            error = to_pixels(levels[..., i]) - to_pixels(self._levels[..., i])
            if self._seen is not None and i + 1 < channels:
                error = error[self._seen]
            squares += float(np.square(error, dtype=np.float64).sum())
            count += error.size
        return squares / count


def continued(colours: Planes, known: Mask) -> Planes:
    """Return colours (C, H, W) whose unknown pixels come from means of known ones, smoothly.

    Known pixels (H, W) stay. The others are enlarged from half the size, where a pixel is the mean of up to
    four known ones; Gortler, Grzeszczuk, Szeliski and Cohen, The Lumigraph (1996).
    """
    if known.all() or not known.any():
        return colours
    height, width = known.shape
    even = (0, height % 2), (0, width % 2)
    sums = _sums(np.pad(np.where(known, colours, 0), ((0, 0), *even)))
    count = _sums(np.pad(known.astype(np.float32), even)[None])
    half = continued(np.divide(sums, np.maximum(count, 1), dtype=np.float32), count[0] > 0)
    up = Upsampling((height, width), 1, [slice(0, height)])
    larger = np.empty_like(colours)
    up.strip(up.widen(half), 0, larger)
    return np.where(known, colours, larger.clip(0, 1))


def _sums(values: Planes) -> Planes:
    """Return the sums of squares of four pixels."""
    channels, height, width = values.shape
    sums: Planes = values.reshape(channels, height // 2, 2, width // 2, 2).sum((2, 4))
    return sums
