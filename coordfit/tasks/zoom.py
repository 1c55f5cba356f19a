"""A zoom from a whole picture into a window of its function, as a video or an animated picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ConfigError
from ..files import FilePath
from ..images.animated import FrameTiming, check_suffix, is_video, save_frames
from ..models import memory
from ..models.rendering import Drawable, mean_rows
from ..report.panels import show_pixels
from ..signals.grid import SampleGrid

LEAST_SIDE, MOST_SIDE = 480, 1280
"""The longer side of a zoom by default, in pixels: the picture's own within these bounds."""
SECONDS, MOST_SECONDS = 6.0, 600.0

_RATE = 25  # frames per second: 40 ms, which all formats can hold exactly
_LAST_SECONDS = 1.5
_LARGEST_SIDE = 4096  # what common players of H.264 show
_SMALLEST_WINDOW = 1e-3  # in pixels of the picture; float32 tells no smaller ones apart
_SPEEDING_UP = 0.2  # the share of the time in which the speed rises, and in which it falls again
_MOST_POINTS = 4  # evaluated along each axis for a pixel, if the frame has fewer than the picture
_BYTES_PER_PIXEL = 9  # of all frames of a PNG while it is written, as measured; of a WebP 4, of a GIF 7


@dataclass(frozen=True)
class Motion:
    """A motion from a whole picture to a window of the same aspect ratio.

    All windows have one point in common at the same place of the frame, so that everything moves straight away
    from it. Sides shrink by equal ratios in equal times, but for the beginning and the end.

    Attributes
    ----------
    size : (height, width)
        Of the picture.
    corner : (top, left)
        Of the last window, in pixels of the picture; 0 is its edge.
    scale : float
        The sides of the last window over those of the picture, below 1.
    """

    size: tuple[float, float]
    corner: tuple[float, float]
    scale: float

    @classmethod
    def into(cls, window: Sequence[float], size: tuple[int, int]) -> Self:
        """Return the motion to a window (x, y, width, height), made wider or higher to fit the picture.

        ConfigError unless the window lies inside the picture, has 0.001 pixels at least, and is not all of it.
        """
        (x, y, width, height), (full_height, full_width) = window, size
        asked = f"the window {width:g}x{height:g} at ({x:g}, {y:g})"
        if not (min(x, y) >= 0 and x + width <= full_width and y + height <= full_height):
            raise ConfigError(f"{asked} does not lie inside the picture, {full_width}x{full_height}")
        if min(width, height) < _SMALLEST_WINDOW:
            raise ConfigError(f"{asked} is smaller than {_SMALLEST_WINDOW:g} pixels: name a larger one")
        scale = max(width / full_width, height / full_height)
        if scale >= 1.0:
            raise ConfigError(f"{asked} is as wide or as high as the picture: name a smaller one")
        places = ((y, height, full_height), (x, width, full_width))
        corner = [_widened(start, side, full, full * scale) for start, side, full in places]
        return cls(size, (corner[0], corner[1]), scale)

    def window(self, time: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the corner and the sides of the window at a time from 0 to 1, in the order of arrays."""
        scale = self.scale ** _eased(time)
        share = (1.0 - scale) / (1.0 - self.scale)
        (height, width), (top, left) = self.size, self.corner
        return (top * share, left * share), (height * scale, width * scale)


@dataclass(frozen=True)
class Zoom:
    """The frames of a zoom into a model.

    Attributes
    ----------
    model : Drawable
    motion : Motion
    shape : (height, width)
        Of the frames, in pixels.
    count : int
        The number of frames, without repetitions of the last.
    """

    model: Drawable
    motion: Motion
    shape: tuple[int, int]
    count: int

    @property
    def seconds(self) -> float:
        """The time that the file is shown, with that of the last frame."""
        return (self.count - 1) / _RATE + _LAST_SECONDS

    def frame(self, number: int) -> Image.Image:
        """Return one frame, alpha over a checkerboard."""
        corner, sides = self.motion.window(number / (self.count - 1))
        grid = self.model.signal.grid.windowed(corner, sides, self.shape)
        return show_pixels(_drawn(self.model, grid), self.shape[::-1])

    def save(self, path: FilePath, callback: Callable[[int, int], object] | None = None) -> None:
        """Write the frames in the format of the suffix, whole or not at all.

        `callback` gets the number of frames that are drawn, and of all. OutputError if the file cannot be
        written.
        """
        timing = FrameTiming(Fraction(_RATE), _LAST_SECONDS)
        save_frames(path, self._frames(callback), self.count, timing)

    def _frames(self, callback: Callable[[int, int], object] | None) -> Iterator[Image.Image]:
        for number in range(self.count):
            yield self.frame(number)
            if callback is not None:
                callback(number + 1, self.count)


def plan_zoom(
    model: Drawable,
    window: Sequence[float],
    path: FilePath,
    *,
    shape: Sequence[int] | None = None,
    seconds: float = SECONDS,
) -> Zoom:
    """Return the zoom from a whole picture into a window of it, before anything is drawn.

    Parameters
    ----------
    model : Drawable
        A network, tiles, or a compressed picture.
    window : (x, y, width, height)
        In pixels of the picture's own size, and parts of them.
    path : path
        The file: .webp, .png, .gif or .mp4, whose sides are even.
    shape : (height, width), optional
        Of the frames; by default the picture's own, within `LEAST_SIDE` and `MOST_SIDE`.
    seconds : float
        Of the motion; the last frame stays for 1.5 s more.

    Raises
    ------
    ConfigError
        A value cannot be used, or the signal is no picture.
    NotEnoughMemoryError
        The frames do not fit into memory, where the format needs all of them.
    """
    check_suffix(path)
    own = model.signal
    if own.dimensions != 2 or own.channels > 4:
        raise ConfigError(f"a zoom needs a picture, not {own.dimensions} axes and {own.channels} channels")
    if not 0.0 < seconds <= MOST_SECONDS:
        raise ConfigError(f"seconds must be above 0 and at most {MOST_SECONDS:g}, not {seconds:g}")
    height, width = own.shape
    motion = Motion.into(window, (height, width))
    frame = _frame_shape((height, width), shape, is_even=is_video(path))
    count = max(2, 1 + round(seconds * _RATE))
    if not is_video(path):  # whose frames are encoded one by one
        need = memory.Need(0, 0, count * math.prod(frame) * _BYTES_PER_PIXEL)
        memory.check(need, model.backend, "this zoom")
    return Zoom(model, motion, frame, count)


def _frame_shape(own: tuple[int, int], asked: Sequence[int] | None, *, is_even: bool) -> tuple[int, int]:
    """Return the shape of frames; ConfigError if it cannot be shown."""
    if asked is None:
        factor = min(max(LEAST_SIDE, *own), MOST_SIDE) / max(own)
        asked = [max(1, round(side * factor)) for side in own]
    if len(asked) != 2 or not all(1 <= side <= _LARGEST_SIDE for side in asked):
        extent = "x".join(map(str, asked[::-1]))
        raise ConfigError(f"the frames of a zoom have two sides of 1 to {_LARGEST_SIDE} pixels, not {extent}")
    height, width = (side + side % 2 if is_even else side for side in asked)
    return height, width


def _widened(start: float, side: float, full: float, wanted: float) -> float:
    """Return the start of a longer window around one, moved to lie inside the full length."""
    return min(max(0.0, start + (side - wanted) / 2), full - wanted)


def _eased(time: float) -> float:
    """Return how far a motion is, from 0 to 1, whose speed rises and falls linearly at its ends."""
    if time > 0.5:
        return 1.0 - _eased(1.0 - time)
    ramp = _SPEEDING_UP
    way = time * time / (2.0 * ramp) if time < ramp else time - ramp / 2.0
    return way / (1.0 - ramp)


def _drawn(model: Drawable, grid: SampleGrid) -> NDArray[np.floating[Any]]:
    """Return colours (h, w, C) in [0, 1]; of a frame that is coarser than the picture, means over pixels."""
    sides = zip(model.signal.shape, grid.full_shape, strict=True)
    factors = [min(_MOST_POINTS, math.ceil(own / full)) for own, full in sides]
    return np.concatenate([*mean_rows(model.render_rows, grid, *factors)])
