"""The facts of a signal that a model keeps: its shape, and how its own units follow from the network's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .grid import SampleGrid

if TYPE_CHECKING:
    from .signal import Signal

Real = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Frame:
    """The units of a signal beside those of networks, which have coordinates and values in [0, 1].

    Tuples have one number for each axis, in the order of arrays. `low` and `high` have one for each channel, or
    one for all.

    Attributes
    ----------
    axes : tuple of str
        Names, such as ("t", "y", "x").
    origin, spacing : tuples of float
        The position of the first sample, and the distance of neighbours, in the signal's own units; it is below
        0 if positions descend.
    low, high : tuples of float
        The values that are 0 and 1 to a network.
    has_channels : bool
        Whether arrays of values have an axis of channels behind the others.
    dtype : str
        The type of the source's values.
    """

    axes: tuple[str, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    low: tuple[float, ...] = (0.0,)
    high: tuple[float, ...] = (1.0,)
    has_channels: bool = True
    dtype: str = "float32"

    def of_grid(self, grid: SampleGrid, shape: tuple[int, ...]) -> Frame:
        """Return the frame of a rendering of a signal of some shape."""
        ratios = [own / full for own, full in zip(shape, grid.full_shape, strict=True)]
        spacing = tuple(step * ratio for step, ratio in zip(self.spacing, ratios, strict=True))
        places = zip(self.origin, self.spacing, spacing, grid.starts, strict=True)
        origin = tuple(o - own / 2 + (start + 0.5) * step for o, own, step, start in places)
        return replace(self, origin=origin, spacing=spacing)

    def check(self, dimensions: int, channels: int) -> None:
        """Raise ValueError unless the numbers fit a signal of these axes and channels."""
        of_axes = (self.axes, self.origin, self.spacing)
        of_channels = (self.low, self.high)
        if any(len(numbers) != dimensions for numbers in of_axes):
            raise ValueError(f"a frame of {dimensions} axes has {dimensions} names, origins and spacings")
        if any(len(numbers) not in (1, channels) for numbers in of_channels):
            raise ValueError(f"a frame of {channels} channels has 1 or {channels} lowest and highest values")
        if not all(isinstance(name, str) for name in self.axes) or np.dtype(self.dtype).kind not in "iuf":
            raise ValueError("the names of axes are words, and the type of values is one of real numbers")
        numbers = np.array([*self.origin, *self.spacing, *self.low, *self.high], np.float64)
        if not np.isfinite(numbers).all() or 0.0 in self.spacing or not (self.spread > 0.0).all():
            raise ValueError("a frame's numbers must be finite, its spacings not 0, and high above low")

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """Return the names of coordinates, the last axis first."""
        return self.axes[::-1]

    @cached_property
    def spread(self) -> Real:
        """Return `high - low`, one number or one for each channel."""
        return np.subtract(self.high, self.low)

    def scaled(self, values: Real) -> NDArray[np.float32]:
        """Return values (..., C) as networks learn them, in [0, 1]."""
        return ((values.astype(np.float64) - self.low) / self.spread).astype(np.float32)

    def restored(self, values: Real) -> Real:
        """Return values (..., C) in the signal's own units, of the same type."""
        return (values * self.spread + self.low).astype(values.dtype)

    def as_source(self, values: Real) -> NDArray[Any]:
        """Return values in the type of the source: whole numbers are rounded."""
        kind = np.dtype(self.dtype)
        if kind.kind == "f":
            return values.astype(np.float32 if kind.itemsize < 8 else kind)
        limits = np.iinfo(kind)
        return np.clip(np.rint(values), limits.min, limits.max).astype(kind)


@dataclass(frozen=True)
class SignalFacts:
    """The facts of a model's signal.

    Attributes
    ----------
    shape : tuple of int
        The samples along each axis, in the order of arrays: (height, width) of a picture.
    channels : int
    bit_depth : int
        8 or 16, for the files made from a picture.
    name : str
    frame : Frame or None
        The units of coordinates and values; None for a picture, which has coordinates in units of its longer
        side and values in [0, 1].
    """

    shape: tuple[int, ...]
    channels: int
    bit_depth: int = 8
    name: str = "array"
    frame: Frame | None = None

    @classmethod
    def of(cls, signal: Signal) -> Self:
        """Return the facts of a signal."""
        return cls(signal.shape, signal.channels, signal.bit_depth, signal.name, signal.frame)

    @property
    def dimensions(self) -> int:
        """Return D, the number of axes."""
        return len(self.shape)

    @property
    def size(self) -> tuple[int, ...]:
        """Return the shape."""
        return self.shape

    @property
    def height(self) -> int:
        """Return the lines along the last axis: the height of a picture."""
        return self.grid.lines

    @property
    def width(self) -> int:
        """Return the samples of a line."""
        return self.shape[-1]

    @property
    def extent(self) -> str:
        """Return the shape in words, the last axis first: 768x512 of a picture."""
        return "x".join(str(side) for side in self.shape[::-1])

    @property
    def grid(self) -> SampleGrid:
        """Return the signal's own samples."""
        return SampleGrid.of(*self.shape)

    def checked_points(self, points: ArrayLike) -> Real:
        """Return points (..., D) as an array of numbers on the host; ValueError if they are not."""
        array, D = np.asarray(points), self.dimensions
        if array.dtype.kind not in "iuf" or array.ndim < 1 or array.shape[-1] != D:
            raise ValueError(
                f"coordinates must be numbers of shape (..., {D}), not {array.dtype} {array.shape}"
            )
        return array

    def to_network(self, points: Real) -> Real:
        """Return coordinates (..., D) of points in the signal's own units, x first."""
        if self.frame is None:
            return points
        spacing, origin = (np.array(numbers)[::-1] for numbers in (self.frame.spacing, self.frame.origin))
        return np.asarray(((points - origin) / spacing + 0.5) / max(self.shape))

    @property
    def units(self) -> Real:
        """Return the length (D,) of a network's unit along each coordinate, in the signal's own units."""
        if self.frame is None:
            return np.ones(self.dimensions)
        return np.array(self.frame.spacing)[::-1] * max(self.shape)

    @property
    def spread(self) -> Real:
        """Return how many of the signal's own units 1 of a network is: one number, or one for each channel."""
        return np.ones(1) if self.frame is None else self.frame.spread

    def restored(self, values: Real) -> Real:
        """Return values (..., C) of a network in the signal's own units."""
        return values if self.frame is None else self.frame.restored(values)

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """Return the names of coordinates, the last axis first: x and y of a picture."""
        return ("x", "y") if self.frame is None else self.frame.coordinate_names

    @property
    def has_channels(self) -> bool:
        """Whether arrays of values have an axis of channels."""
        return self.frame is None or self.frame.has_channels

    def as_array(self, values: Real, shape: tuple[int, ...]) -> Real:
        """Return values as an array (*shape, C), or (*shape) if the signal has no axis of channels."""
        return values.reshape(*shape, self.channels) if self.has_channels else values.reshape(shape)
