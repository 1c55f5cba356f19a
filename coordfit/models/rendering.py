"""The base class of single and tiled models: rendering at any size, copies and pickles."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._backends import Backend, DeviceUnavailableError, get_backend
from ..config import FitConfig
from ..encoders.registry import encoding_class
from ..files import escaped
from ..images import Picture, png_bytes
from ..images.formats.png import quantize
from ..images.formats.writing import image_of
from ..images.grid import PixelGrid
from ..report.notebook import html_of
from . import memory

# Pixels that a rendering computes at a time, so that its memory does not depend on the picture; if memory is
# short, fewer, down to the second number.
CHUNK_PIXELS, FEWEST_PIXELS = 65_536, 256
_MOST_SHOWN = 256  # pixels of the longer side in a notebook

Crop = tuple[int, int, int, int]
"""Left, top, width and height of a part of a rendering, in its pixels."""


@dataclass(frozen=True)
class PictureFacts:
    """The facts of a model's picture."""

    height: int
    width: int
    channels: int
    bit_depth: int = 8
    name: str = "array"

    @classmethod
    def of(cls, picture: Picture) -> Self:
        """Return the facts of a picture."""
        return cls(picture.height, picture.width, picture.channels, picture.bit_depth, picture.name)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def grid(self) -> PixelGrid:
        """The picture's own pixels."""
        return PixelGrid.of_picture(self.height, self.width)


class Drawable:
    """What draws a picture of any size, some rows at a time."""

    backend: Backend
    picture: PictureFacts

    @property
    def dtype(self) -> str:
        """The type of the rows."""
        return "float32"

    def grid(
        self, height: int | None = None, width: int | None = None, *, crop: Crop | None = None
    ) -> PixelGrid:
        """Return the pixels that `render` computes for these arguments; ValueError if they are impossible."""
        own = self.picture
        if height is None and width is None:
            height, width = own.height, own.width
        elif height is None and width is not None:
            height = max(1, round(width * own.height / own.width))
        elif width is None and height is not None:
            width = max(1, round(height * own.width / own.height))
        if height is None or width is None or height < 1 or width < 1:
            raise ValueError(f"a rendering needs 1 pixel at least, not {width}x{height}")
        grid = own.grid.resized(height, width)
        return grid if crop is None else grid.cropped(*crop)

    @property
    def title(self) -> str:
        """What it draws in one line."""
        raise NotImplementedError

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """Return the facts for a notebook, and the picture with at most `_MOST_SHOWN` pixels a side."""
        own = self.picture
        longer = max(own.size)
        share = min(1.0, _MOST_SHOWN / longer)
        size = (max(1, round(share * side)) for side in own.size)
        png = png_bytes(image_of(quantize(self.render(*size))))
        rows = [("parameters", f"{self.num_parameters:,d}"), ("on", self.backend.device)]
        return html_of(f"{type(self).__name__} of {self.title}", rows, png)

    def render(
        self, height: int | None = None, width: int | None = None, *, crop: Crop | None = None
    ) -> NDArray[np.floating]:
        """Return the picture (height, width, C) in [0, 1] at any size; by default at its own.

        If one of height and width is missing, it follows from the picture's shape. With a crop, only its pixels
        of that rendering are computed.
        """
        grid = self.grid(height, width, crop=crop)
        shape = (grid.height, grid.width, self.picture.channels)
        memory.check(memory.need_of_rendering(*shape, self.dtype), self.backend, "this rendering")
        rendering = np.empty(shape, self.dtype)
        row = 0
        for rows in self.render_rows(grid):
            rendering[row : row + len(rows)] = rows
            row += len(rows)
        return rendering

    def render_rows(self, grid: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Yield whole rows (n, width, C) in [0, 1] of a grid from the top, in parts of bounded size."""
        raise NotImplementedError

    def predict_rows(self, grid: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Yield rows as `render_rows` does, but unclipped if they can be."""
        return self.render_rows(grid)


class Rendered(Drawable):
    """A model that predicts rows of pixels, and thereby renders pictures of any size.

    A copy has the same backend. A pickle holds data only, and is loaded on a backend of the same kind, or on
    the CPU if there is none.
    """

    config: FitConfig

    @property
    def dtype(self) -> str:
        """The type of parameters and rows."""
        return self.config.dtype

    @property
    def layer_sizes(self) -> Sequence[int]:
        """Widths of a network from input to output."""
        raise NotImplementedError

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the model beside its settings, for JSON."""
        return {}

    @property
    def title(self) -> str:
        """The picture and the encoding in one line."""
        own, encoding = self.picture, encoding_class(self.config.encoding)
        return f"{own.name}, {own.width}x{own.height}: {encoding.title(self.config)}"

    def __repr__(self) -> str:
        name, where = type(self).__name__, self.backend.device
        return f"<{name} of {escaped(self.title)}; {self.num_parameters} parameters on {where}>"

    def _data(self) -> tuple[Any, ...]:
        """Return the constructor's arguments after the backend, on the host."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        backend = self.backend
        device = backend.name if backend.device == "cpu" else backend.device
        threads = getattr(backend, "threads", None)
        settings = {"fused": backend.fused, "precision": backend.precision, "threads": threads}
        return _unpickled, (type(self), device, settings, self._data())

    def __copy__(self) -> Self:
        kind: Callable[..., Self] = type(self)
        return kind(self.backend, *self._data())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        kind: Callable[..., Self] = type(self)
        return kind(self.backend, *copy.deepcopy(self._data(), memo))

    def render_rows(self, grid: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Yield whole rows, clipped."""
        for colours in self.predict_rows(grid):
            yield np.clip(colours, 0.0, 1.0, out=colours)

    def predict_rows(self, grid: PixelGrid) -> Iterator[NDArray[np.floating]]:
        """Yield rows as `render_rows` does, but unclipped."""
        raise NotImplementedError


def _unpickled(
    kind: Callable[..., Rendered], device: str, settings: dict[str, Any], data: tuple[Any, ...]
) -> Rendered:
    """Return a model from its pickled data."""
    try:
        backend = get_backend(device, **settings)
    except (DeviceUnavailableError, ValueError):  # a device of another machine, or a backend from outside
        backend = get_backend("cpu")
    return kind(backend, *data)


def as_coordinates(coordinates: ArrayLike) -> NDArray[Any]:
    """Return coordinates (..., 2) on the host as an array of numbers; ValueError if they are not."""
    array = np.asarray(coordinates)
    if array.dtype.kind not in "iuf" or array.ndim < 1 or array.shape[-1] != 2:
        raise ValueError(f"coordinates must be numbers of shape (..., 2), not {array.dtype} {array.shape}")
    return array
