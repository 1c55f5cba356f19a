"""`enlarge`: a photograph at a larger size, by a network that was trained on other photographs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import get_backend
from ..enlarging import enlarged
from ..enlarging.enlarging import Callback
from ..errors import ConfigError
from ..images import MAX_PIXELS, Picture, Source, load_picture
from ..images.formats.alpha import premultiply, unpremultiply
from ..images.formats.levels import Pixels
from ..images.formats.png import quantize
from ..images.resizing import check_size
from ..models.rendering import Drawable
from ..signals.grid import SampleGrid


def enlarge(
    image: Source,
    *,
    scale: float | None = None,
    size: int | tuple[int, int] | None = None,
    background: str | None = None,
    threads: int | None = None,
    callback: Callback | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Return a picture at a larger size, in its own bit depth.

    Its pixels are taken for means over their areas, as those of cameras and reduced pictures are.

    Parameters
    ----------
    image, background, max_pixels
        As `coordfit.load_picture` takes them; `max_pixels` bounds the result too.
    scale, size
        Times the picture's own size, 2 by default; or the longer side in pixels, or (width, height).
    threads : int, optional
        By default all cores; the result does not depend on it.
    callback : callable, optional
        Called with the share of the work that is done; what it returns is not used.

    Raises
    ------
    ConfigError, PictureError
    """
    picture = load_picture(image, background=background, max_pixels=max_pixels)
    height, width = target_size(picture, scale, size, max_pixels)

    def tell(done: float) -> None:
        if callback is not None:
            callback(done)

    colours = enlarged_pixels(picture.pixels, height, width, threads, tell)
    assert colours is not None  # as `tell` never ends the work
    return Picture(quantize(colours, picture.bit_depth), picture.bit_depth, picture.name, picture.notes)


def target_size(
    picture: Picture, scale: float | None, size: int | tuple[int, int] | None, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """Return height and width that are asked for; ConfigError if they are smaller, or too large."""
    if scale is not None and size is not None:
        raise ConfigError("scale and size cannot both be given; leave one out")
    check_size(size)
    own = picture.width, picture.height
    if isinstance(size, tuple | list):
        width, height = (int(n) for n in size)
    else:
        factor: Any = size / max(own) if size is not None else 2.0 if scale is None else scale
        is_number = isinstance(factor, int | float | np.number) and not isinstance(factor, bool)
        if not (is_number and 0 < factor < 1e6):
            raise ConfigError(f"scale must be a number above 0, not {scale!r}")
        width, height = (max(1, round(n * factor)) for n in own)
    if width < own[0] or height < own[1]:
        raise ConfigError(
            f"{width}x{height} is smaller than the picture, {own[0]}x{own[1]}, which is made no smaller here"
        )
    if width * height > max_pixels:
        raise ConfigError(
            f"{width}x{height} = {width * height} pixels are more than {max_pixels}: name a smaller size"
        )
    return height, width


def enlarged_pixels(
    pixels: Pixels, height: int, width: int, threads: int | None = None, callback: Callback | None = None
) -> Pixels | None:
    """Return colours (H, W, C), alpha straight, at a larger size; None if the callback returned True."""
    has_alpha = pixels.shape[2] in (2, 4)
    backend = get_backend("numpy", threads=threads)
    with backend.activate():  # one thread of the BLAS for each of ours
        colours = enlarged(
            premultiply(pixels) if has_alpha else pixels,
            height,
            width,
            threads=getattr(backend, "threads", 1),
            callback=callback,
        )
    if colours is None:
        return None
    straight = unpremultiply(colours) if has_alpha else colours
    return straight.clip(0, 1, out=straight) if straight is not pixels else straight


class EnlargedDrawing(Drawable):
    """What draws itself in its own size, and is enlarged from there."""

    def __init__(self, drawn: Drawable, threads: int | None = None) -> None:
        self.drawn, self.signal, self._threads = drawn, drawn.signal, threads
        self.backend = drawn.backend

    def render_rows(self, grid: SampleGrid) -> Iterator[NDArray[np.floating[Any]]]:
        """Yield whole rows of a grid at least as large as the picture; all are in memory."""
        height, width = map(int, grid.full_shape)
        own = np.concatenate([*self.drawn.render_rows(self.signal.grid)]).astype(np.float32)
        colours = enlarged_pixels(own, height, width, self._threads)
        assert colours is not None
        yield colours[grid.window]
