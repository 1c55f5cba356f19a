"""The base class of single and tiled models: rendering at any size, copies and pickles."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backends import Backend, DeviceUnavailableError, get_backend
from ..config import FitConfig
from ..encoders.base import Encoder
from ..encoders.jets import Jet, Pair
from ..encoders.registry import encoding_class
from ..files import escaped
from ..images import png_bytes
from ..images.formats.png import quantize
from ..images.formats.writing import image_of
from ..network.mlp import MLP
from ..report.notebook import html_of
from ..signals.facts import Frame, SignalFacts
from ..signals.grid import SampleGrid
from . import memory
from .derivatives import KINDS, Derivatives

if TYPE_CHECKING:
    from xarray import DataArray

# Pixels that a rendering computes at a time, so that its memory does not depend on the picture; if memory is
# short, fewer, down to the second number.
CHUNK_PIXELS, FEWEST_PIXELS = 65_536, 256
_BAND = 1 << 20  # points whose means are taken at a time
_MOST_SHOWN = 256  # pixels of the longer side in a notebook

PerLength = Literal["unit", "sample"]
Crop = tuple[int, ...]
"""Left, top, width and height of a part of a rendering, in its pixels; see `SampleGrid.cropped`."""
DrawRows = Callable[[SampleGrid], Iterator[NDArray[np.floating]]]


def mean_rows(draw: DrawRows, grid: SampleGrid, down: int, across: int) -> Iterator[NDArray[np.floating]]:
    """Yield rows (n, width, C) of a grid, each sample the mean over `down` by `across` points inside it.

    `draw` yields the rows of the points.
    """
    if down == across == 1:
        yield from draw(grid)
        return
    points = grid.refined(down, across)
    step = max(1, _BAND // (down * points.width))
    for row in range(0, grid.lines, step):
        count = min(step, grid.lines - row)
        drawn = np.concatenate([*draw(points.cropped(0, down * row, points.width, down * count))])
        yield drawn.reshape(count, down, grid.width, across, -1).mean((1, 3))


class Drawable:
    """What draws a picture of any size, some rows at a time."""

    backend: Backend
    signal: SignalFacts

    @property
    def picture(self) -> SignalFacts:
        """Return the signal, by the name of most of them."""
        return self.signal

    @property
    def dtype(self) -> str:
        """The type of the rows."""
        return "float32"

    def grid(
        self,
        height: int | None = None,
        width: int | None = None,
        *,
        shape: Sequence[int] | None = None,
        crop: Crop | None = None,
    ) -> SampleGrid:
        """Return the samples that `render` computes for these arguments; ValueError if they are impossible."""
        if shape is None:
            shape = self._shape(height, width)
        if len(shape) != self.signal.dimensions or min(shape) < 1:
            asked, axes = "x".join(map(str, shape[::-1])), self.signal.dimensions
            where = "" if axes == 2 else f" along each of {axes} axes"
            raise ValueError(f"a rendering needs 1 pixel at least{where}, not {asked}")
        grid = self.signal.grid.resized(*shape)
        return grid if crop is None else grid.cropped(*crop)

    def _shape(self, height: int | None, width: int | None) -> tuple[int, ...]:
        """Return the shape of a rendering whose height or width may be missing."""
        own = self.signal
        if height is None and width is None:
            return own.shape
        if own.dimensions != 2:
            raise ValueError(f"a signal with {own.dimensions} axes has no height and width; give a shape")
        if height is None and width is not None:
            height = max(1, round(width * own.height / own.width))
        elif width is None and height is not None:
            width = max(1, round(height * own.width / own.height))
        return cast(int, height), cast(int, width)

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
        png = None if self.signal.dimensions == 1 else png_bytes(image_of(quantize(self._shown())))
        rows = [("parameters", f"{self.num_parameters:,d}"), ("on", self.backend.device)]
        return html_of(f"{type(self).__name__} of {self.title}", rows, png)

    def _shown(self) -> NDArray[np.floating]:
        """Return a small picture (h, w, C) in [0, 1]; of more axes than two the middle of the others."""
        *others, height, width = self.signal.shape
        share = min(1.0, _MOST_SHOWN / max(height, width))
        grid = self.grid(shape=(*others, *(max(1, round(share * side)) for side in (height, width))))
        middle = (0, 0, *(side // 2 for side in others[::-1]))
        plane = grid.cropped(*middle, *grid.shape[:-3:-1], *[1] * len(others))
        pixels = np.concatenate([*self.render_rows(plane)])
        return pixels if pixels.shape[-1] <= 4 else pixels[..., :1]

    def render(
        self,
        height: int | None = None,
        width: int | None = None,
        *,
        shape: Sequence[int] | None = None,
        crop: Crop | None = None,
    ) -> NDArray[np.floating]:
        """Return the picture (height, width, C) in [0, 1] at any size; by default at its own.

        If one of height and width is missing, it follows from the picture's shape. With a crop, only its pixels
        of that rendering are computed. Other signals take a `shape`, and return `(*shape, C)` in their own
        units, or `(*shape)` if they had no axis of channels.
        """
        grid = self.grid(height, width, shape=shape, crop=crop)
        lines = grid.lines, grid.width, self.signal.channels
        memory.check(memory.need_of_rendering(*lines, dtype=self.dtype), self.backend, "this rendering")
        rendering, row = np.empty(lines, self.dtype), 0
        for rows in self.render_rows(grid):
            rendering[row : row + len(rows)] = self.signal.restored(rows)
            row += len(rows)
        return self.signal.as_array(rendering, grid.shape)

    def to_xarray(self, shape: Sequence[int] | None = None, *, crop: Crop | None = None) -> DataArray:
        """Return a rendering as an `xarray.DataArray` with named axes and the positions of its samples.

        Those of a picture are in its own pixels. Arguments are those of `render`; ImportError without xarray.
        """
        import xarray  # optional and slow

        own, grid = self.signal, self.grid(shape=shape, crop=crop)
        pixels = Frame(("y", "x"), (0.0, 0.0), (1.0, 1.0))
        frame = (own.frame or pixels).of_grid(grid, own.shape)
        places = zip(frame.axes, frame.origin, frame.spacing, grid.shape, strict=True)
        coords = {name: origin + step * np.arange(count) for name, origin, step, count in places}
        axes = (*frame.axes, "channel") if own.has_channels else frame.axes
        return xarray.DataArray(self.render(shape=shape, crop=crop), coords, axes, name=own.name)

    def render_rows(self, grid: SampleGrid) -> Iterator[NDArray[np.floating]]:
        """Yield whole lines (n, width, C) in [0, 1] of a grid in order, in parts of bounded size."""
        raise NotImplementedError

    def predict_rows(self, grid: SampleGrid) -> Iterator[NDArray[np.floating]]:
        """Yield rows as `render_rows` does, but unclipped if they can be."""
        return self.render_rows(grid)


class StoredNetworks(NamedTuple):
    """The networks of a model: one (T = 1), or those of T tiles."""

    encoder: Encoder
    """Without the parameters that are trained."""
    mlp: MLP
    """One of the networks, for its layers."""
    parameters: NDArray[np.floating]
    """(T, P), on the host."""
    tiles: Any
    """The layout of the tiles; None if there are none."""


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
        own, encoding = self.signal, encoding_class(self.config.encoding)
        return f"{own.name}, {own.extent}: {encoding.title(self.config)}"

    def __repr__(self) -> str:
        name, where = type(self).__name__, self.backend.device
        return f"<{name} of {escaped(self.title)}; {self.num_parameters} parameters on {where}>"

    def stored(self) -> StoredNetworks:
        """Return all that the function is made of."""
        raise NotImplementedError

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

    def __call__(self, points: ArrayLike) -> NDArray[np.floating]:
        """Return the function's values (..., C) at points (..., D), x first.

        Of a picture, x and y are in units of the longer side, and colours are not clipped. Other signals take
        and return their own units, and (...) without C if they had no axis of channels.
        """
        given = self.signal.checked_points(points)
        values = self.predict(self.signal.to_network(given.reshape(-1, given.shape[-1])))
        return self.signal.as_array(self.signal.restored(values), given.shape[:-1])

    def predict(self, coordinates: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return values (N, C) as networks give them, at their coordinates (N, D)."""
        raise NotImplementedError

    def jet(self, coordinates: NDArray[np.float64], pairs: Sequence[Pair] = ()) -> Jet:
        """Return values (N, C) with derivatives, as networks give them at their coordinates (N, D), in float64.

        Second derivatives are those along `pairs` of coordinates.
        """
        raise NotImplementedError

    def gradient(self, points: ArrayLike, *, per: PerLength = "unit") -> NDArray[np.float64]:
        """Return the function's derivatives (..., C, D) at points (..., D), x first, exact and in float64.

        They are per unit of the points, or per sample: a picture's pixel.
        """
        return Derivatives(self, per).gradient(points)

    def hessian(self, points: ArrayLike, *, per: PerLength = "unit") -> NDArray[np.float64]:
        """Return the function's second derivatives (..., C, D, D) at points (..., D); see `gradient`."""
        return Derivatives(self, per).hessian(points)

    def laplacian(self, points: ArrayLike, *, per: PerLength = "unit") -> NDArray[np.float64]:
        """Return the sum (..., C) of the second derivatives along each coordinate; see `gradient`."""
        return Derivatives(self, per).laplacian(points)

    def render_derivative(
        self,
        kind: str,
        shape: Sequence[int] | None = None,
        *,
        crop: Crop | None = None,
        per: PerLength = "sample",
    ) -> NDArray[np.float64]:
        """Return a derivative `(*shape, C)` on the grid of a rendering.

        Parameters
        ----------
        kind : str
            `gradient-norm`, `laplacian`, or the coordinate along which it is taken, such as `x`.
        shape : sequence of int, optional
            By default the signal's own.
        per : "sample" or "unit"
            The length: that of the signal's own samples, or a unit of points.

        Raises
        ------
        ValueError
            The kind or the grid is impossible.
        """
        known = (*self.signal.coordinate_names, *KINDS)
        if kind not in known:
            raise ValueError(f"a derivative is one of {', '.join(known)}, not {kind!r}")
        grid = self.grid(shape=shape, crop=crop)
        memory.check(
            memory.need_of_rendering(*grid.shape, self.signal.channels, dtype="float64"), self.backend, kind
        )
        derivatives, coordinates = Derivatives(self, per), np.arange(len(grid))
        parts = [
            derivatives.kind(kind, grid.coordinates(coordinates[start : start + CHUNK_PIXELS]))
            for start in range(0, len(grid), CHUNK_PIXELS)
        ]
        return np.asarray(self.signal.as_array(np.concatenate(parts), grid.shape))

    def render_rows(self, grid: SampleGrid) -> Iterator[NDArray[np.floating]]:
        """Yield whole lines, clipped."""
        for colours in self.predict_rows(grid):
            yield np.clip(colours, 0.0, 1.0, out=colours)

    def predict_rows(self, grid: SampleGrid) -> Iterator[NDArray[np.floating]]:
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
