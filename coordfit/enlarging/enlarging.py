"""Pictures of twice the size, and of any larger size.

A pixel of a photograph is the mean of the light on its area: the four quarters of a pixel have its colour as
their mean. The network's mean over eight turns and reflections fills them, and what their mean is off is added.
Sizes between doublings are drawn by Lanczos and back-projected (Irani and Peleg, Improving Resolution by Image
Registration, 1991), so that their means are those of the source too.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from ..images.resizing import resize_channels
from .network import RADIUS, Array, EnlargingNetwork, inputs, symmetries

_AT_ONCE = 8192  # pixels of a block of rows
_BACK_PROJECTIONS = 2
Callback = Callable[[float], object]
"""Called with the share of the work that is done; the work ends without a result if it returns True."""


class _EndedError(Exception):
    """Raised if the callback ends the work."""


def enlarged(
    colours: Array, height: int, width: int, *, threads: int = 1, callback: Callback | None = None
) -> Array | None:
    """Return colours (H, W, C) at a size (height, width, C), at least as large; None if the callback ends it.

    They are doubled once, and again while both sides are to grow 1.5 times or more; then resized, and not
    clipped. The result does not depend on the threads.
    """
    source = colours
    own, size = source.shape[:2], (height, width)
    doublings = int(own != size)
    while own != size and all((3 * a) << doublings <= 2 * b for a, b in zip(own, size, strict=True)):
        doublings += 1
    total = sum(4**i for i in range(doublings))
    done = 0
    try:
        for i in range(doublings):
            colours = enlarged_twice(colours, threads, _told(callback, done / total, 4**i / total))
            done += 4**i
    except _EndedError:
        return None
    return colours if colours.shape[:2] == (height, width) else _resized(colours, source, (width, height))


def _resized(colours: Array, source: Array, size: tuple[int, int]) -> Array:
    """Return colours at (width, height), whose means over the source's pixels are brought near to those."""
    found = np.empty((size[1], size[0], source.shape[2]), np.float32)
    own = source.shape[1], source.shape[0]
    for channel in range(source.shape[2]):  # one at a time, for memory
        one = np.s_[:, :, channel : channel + 1]
        plane = resize_channels(colours[one], size, Image.Resampling.LANCZOS)
        for _ in range(_BACK_PROJECTIONS):
            lack = source[one] - resize_channels(plane, own, Image.Resampling.BOX)
            plane += resize_channels(lack, size, Image.Resampling.BICUBIC)
        found[one] = plane
    return found


def _told(callback: Callback | None, begin: float, share: float) -> Callback:
    def tell(done: float) -> None:
        if callback is not None and callback(begin + share * done) is True:
            raise _EndedError

    return tell


def enlarged_twice(colours: Array, threads: int = 1, tell: Callback = lambda _: None) -> Array:
    """Return colours (H, W, C) as (2 H, 2 W, C), not clipped."""
    height, width, channels = colours.shape
    network = EnlargingNetwork.shipped()
    padded = np.pad(colours, ((RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)), mode="symmetric")
    larger = np.empty((height, 2, width, 2, channels), np.float32)
    step = max(1, _AT_ONCE // width)

    def fill(top: int) -> None:
        rows = slice(top, min(top + step, height))
        for channel in range(channels):
            around = padded[rows.start : rows.stop + 2 * RADIUS, :, channel]
            quarters = _quarters(network, np.ascontiguousarray(around), width)
            larger[rows, ..., channel] = quarters.reshape(2, 2, -1, width).transpose(2, 0, 3, 1)

    tops = range(0, height, step)
    pool = ThreadPoolExecutor(threads)
    try:
        for i, _ in enumerate(pool.map(fill, tops)):
            tell((i + 1) / len(tops))
    finally:
        pool.shutdown(cancel_futures=True)
    return larger.reshape(2 * height, 2 * width, channels)


def _quarters(network: EnlargingNetwork, rows: Array, width: int) -> Array:
    """Return the quarters (4, N) of the N pixels of some rows of one channel, with those as their means."""
    x, spread, middle = inputs(rows, width)
    total = np.zeros((4, x.shape[1]), np.float32)
    for pixels, quarters in symmetries():
        total[quarters] += network.forward(x[pixels])[0]
    total -= total.mean(0)
    total *= spread / len(symmetries())
    total += middle
    return total
