"""What a compression is to reach, and how the price of a bit is steered there.

The figures here are of the middles of two Kodak pictures, after 200 and 600 steps: what is gained from a share
`d` of the steps to the end is `2.6 (1 - d)^2` dB and `0.4 (1 - d)^2` of the bits' logarithm, and a factor on
lambda at `d` moves the end by the share `_EFFECT` of what it would have moved it from the start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_GAINED_PSNR, _GAINED_BITS = 2.6, 0.4
_EFFECT = (0.0, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0), (1.0, 0.77, 0.53, 0.37, 0.18, 0.025, 0.01)
_SLOPE, _FEWEST = 0.65, 1.8  # bits per pixel that a factor of e on lambda saves; in logarithms 1 / 1.8 at most
_FIRST, _LAST = 0.25, 0.9  # of the steps, between which lambda is steered
_FEEDBACK, _MOST = 0.5, 0.5


@dataclass(frozen=True)
class Target:
    """What a compression is to reach: exactly one of the three; `lmbda` is the price of a bit, as MSE."""

    lmbda: float | None = None
    bits_per_pixel: float | None = None
    psnr: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.lmbda, self.bits_per_pixel, self.psnr) if v is not None]
        if len(given) != 1 or not (0 < given[0] < math.inf):
            raise ValueError("give exactly one of lmbda, bits_per_pixel and psnr, above 0")

    def first_lmbda(self) -> float:
        """Return a lambda to begin with: about the MSE that it leads to."""
        if self.lmbda is not None:
            return self.lmbda
        psnr = self.psnr if self.psnr is not None else 32 + 6 * float(self.bits_per_pixel or 0)
        return float(10 ** (-psnr / 10))

    def too_good(self, psnr: float, bits_per_pixel: float) -> float:
        """Return by how much the logarithm of lambda is too small, by experience; 0 for a given lambda."""
        if self.psnr is not None:
            return 1.5 * (psnr - self.psnr) * math.log(10) / 10
        if self.bits_per_pixel is not None:
            steep = max(_FEWEST, self.bits_per_pixel / _SLOPE)
            return steep * math.log(bits_per_pixel / self.bits_per_pixel)
        return 0.0

    def correction(self, done: float, psnr: float, bits_per_pixel: float) -> float:
        """Return what to add to the logarithm of lambda when a share of the steps is done."""
        if not _FIRST <= done <= _LAST:
            return 0.0
        left = (1 - done) ** 2
        error = self.too_good(psnr + _GAINED_PSNR * left, bits_per_pixel * math.exp(-_GAINED_BITS * left))
        return float(np.clip(_FEEDBACK * error / np.interp(done, *_EFFECT), -_MOST, _MOST))
