"""The colours of a picture as training sees them, and how far a drawing is from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...images.formats.levels import Levels, to_pixels
from ..upsampling import Upsampling

Planes = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Reference:
    """The picture that a compression is to reach: levels (H, W, C), uint8 or uint16, C as in `Picture`.

    Attributes
    ----------
    planes : array, shape (C, H, W)
        Colours in [0, 1]; those of fully transparent pixels go on smoothly from their neighbours.
    """

    def __init__(self, levels: Levels) -> None:
        planes = np.ascontiguousarray(to_pixels(levels).transpose(2, 0, 1))
        self._seen = planes[-1] > 0 if len(planes) in (2, 4) else None
        if self._seen is not None and not self._seen.all():
            planes[:-1] = continued(planes[:-1], self._seen)
        self.planes: Planes = planes

    @property
    def num_pixels(self) -> int:
        """H W."""
        return int(self.planes[0].size)

    def squared_error(self, levels: Levels) -> float:
        """Return the mean squared error of levels; colours of fully transparent pixels do not count."""
        squares, count = 0.0, 0
        for i, plane in enumerate(self.planes):
            error = to_pixels(levels[..., i]) - plane
            if self._seen is not None and i + 1 < len(self.planes):
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
