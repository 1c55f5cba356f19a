"""Signals from arrays of any finite numbers: on a grid of 1 to 4 axes, or at scattered points."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SignalError
from .facts import Frame
from .signal import Signal

MOST_AXES = 4
CHANNELS = "c"
"""The name of an axis that counts channels."""
_USUAL_NAMES = ("t", "z", "y", "x")
_MOST_CHANNELS = 2**12
_MOST_VALUE = 1e300
_LINE_SIZE = 768, 192  # width and height of the picture of a signal with one axis

ValueRange = str | tuple[float, float]
"""`array` for one range of all values, `channel` for one of each channel, or a lowest and a highest value."""
AxisNumbers = float | Sequence[float] | Mapping[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class ArraySignal(Signal):
    """Values of an array, in [0, 1] by the range of its frame.

    Attributes
    ----------
    scaled : array (*samples, C)
        float32, not writable; 0 where the value is unknown.
    frame : Frame
        The units of the array.
    known : boolean array (*samples), or None
        The samples that training may see; None for all.
    unknown : boolean array (*samples), or None
        Those without a value; None if there are none.
    points : array (N, D), or None for a grid
        Coordinates of scattered points as networks see them.
    """

    scaled: NDArray[np.float32]
    frame: Frame
    name: str = "array"
    notes: tuple[str, ...] = ()
    known: NDArray[np.bool_] | None = None
    unknown: NDArray[np.bool_] | None = None
    points: NDArray[np.float64] | None = None
    bit_depth: int = 16

    def __post_init__(self) -> None:
        for array in (self.scaled, self.known, self.unknown, self.points):
            if array is not None:
                array.flags.writeable = False

    def __repr__(self) -> str:
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        kind = f"{self.samples[0]} points" if self.points is not None else self.extent
        return f"<ArraySignal {self.name}, {kind} ({', '.join(self.frame.coordinate_names)}): {channels}>"

    def with_known(self, known: NDArray[np.bool_]) -> ArraySignal:
        """Return the same values, of which training may see others."""
        return dataclasses.replace(self, known=known)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the samples along each axis; of scattered points those of a grid with a cell for four."""
        if self.points is None:
            return self.samples
        return _shape_of_points(self.points)

    @property
    def pixels(self) -> NDArray[np.float32]:
        """Return the values (*samples, C) in [0, 1]."""
        return self.scaled

    @property
    def samples(self) -> tuple[int, ...]:
        """Return the shape of masks and weights."""
        return tuple(self.scaled.shape[:-1])

    @property
    def channels(self) -> int:
        """Return C."""
        return int(self.pixels.shape[-1])

    @property
    def coordinates(self) -> NDArray[np.float64] | None:
        """Return the coordinates (N, D) of scattered points; None for a grid."""
        return self.points

    @property
    def num_values(self) -> int:
        """Return the number of values."""
        return int(self.pixels.size)

    @property
    def size_facts(self) -> dict[str, Any]:
        """Return the shape, and the values that PSNR takes as 0 and 1."""
        return {"shape": list(self.samples), "value_range": [list(self.frame.low), list(self.frame.high)]}

    def shown(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return a picture (H, W, 1 or 3): the middle of the axes but two, or a line drawn over one axis."""
        plane = values[tuple(side // 2 for side in values.shape[:-3])] if values.ndim > 3 else values
        if plane.ndim == 2:
            return _drawn_line(plane[:, 0])
        channels = plane.shape[-1]
        return plane[..., [0, channels // 2, -1]] if channels >= 3 else plane[..., :1]

    @property
    def values_on_grid(self) -> NDArray[np.floating]:
        """Return the values (*shape, C); those of scattered points are means of cells."""
        if self.points is None:
            return self.scaled
        cells = (np.clip(self.points[:, ::-1], 0.0, 1.0) * np.array(self.shape)).astype(int)
        numbers = np.ravel_multi_index(np.minimum(cells, np.array(self.shape) - 1).T, self.shape)
        size = math.prod(self.shape)
        counts = np.maximum(np.bincount(numbers, minlength=size), 1)
        sums = [np.bincount(numbers, channel, size) for channel in self.scaled.T]
        means = np.stack(sums, axis=-1) / counts[:, None]
        return means.reshape(*self.shape, self.channels).astype(np.float32)

    @property
    def in_own_units(self) -> NDArray[np.floating]:
        """Return the values in floating point, with an axis of channels if they had one; 0 where unknown."""
        values = self.frame.restored(self.scaled)
        return values if self.frame.has_channels else values[..., 0]

    @cached_property
    def power(self) -> float:
        """Return the mean square of the known values, in the array's own units."""
        seen = self.scaled if self.unknown is None else self.scaled[~self.unknown]
        return float(np.mean(np.square(self.frame.restored(seen.astype(np.float64)))))

    def own_figures(self, psnr: float | None) -> dict[str, float | None]:
        """Return the root mean squared error, and the ratio of signal to error in dB.

        They are None if channels have ranges of their own.
        """
        if psnr is None or len(self.frame.low) > 1:
            return {"rmse": None, "snr": None}
        rmse = float(self.frame.spread[0]) * 10.0 ** (-psnr / 20.0)
        snr = 10.0 * math.log10(self.power / rmse**2) if rmse > 0.0 and self.power > 0.0 else None
        return {"rmse": rmse, "snr": snr}

    def other_bits_per_pixel(self, psnr: float | None) -> dict[str, float | None]:
        """Return the bits of a sample of the array."""
        return {"plain": 8 * np.dtype(self.frame.dtype).itemsize * self.channels}

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of shape, values, mask and points in hexadecimal."""
        digest = hashlib.sha256("x".join(map(str, self.pixels.shape)).encode() + b"\n")
        for array, kind in ((self.pixels, "<f4"), (self.known, "u1"), (self.points, "<f8")):
            if array is not None:
                digest.update(np.ascontiguousarray(array, dtype=kind).data)
        return digest.hexdigest()


def array_signal(
    values: ArrayLike,
    axes: str | Sequence[str] | None = None,
    *,
    spacing: AxisNumbers = 1.0,
    origin: AxisNumbers = 0.0,
    value_range: ValueRange = "array",
    known: ArrayLike | None = None,
    name: str = "array",
) -> ArraySignal:
    """Return the signal of an array; see `coordfit.fit_array` for its arguments.

    Raises
    ------
    SignalError
        The array cannot be used, or the others do not fit it.
    """
    array = _numbers(values, "values")
    if axes is None and hasattr(values, "dims"):
        axes, spacing, origin = _of_xarray(values, spacing, origin)
    names, place = named_axes(axes, array.ndim)
    array = array[..., None] if place is None else np.moveaxis(array, place, -1)
    if 0 in array.shape:
        raise SignalError(f"an array of shape {array.shape} has no values")
    frame = Frame(
        names,
        _of_axes(origin, names, "origin", 0.0),
        _of_axes(spacing, names, "spacing", 1.0),
        has_channels=place is not None,
    )
    if 0.0 in frame.spacing:
        raise SignalError(f"spacing must not be 0 along an axis, and it is {frame.spacing}")
    return _signal(array, frame, value_range, known, name)


def point_signal(
    coordinates: ArrayLike,
    values: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    value_range: ValueRange = "array",
    name: str = "points",
) -> ArraySignal:
    """Return the signal of scattered points; see `coordfit.fit_points` for its arguments.

    Raises
    ------
    SignalError
        The arrays cannot be used, or do not fit each other.
    """
    points, array = _numbers(coordinates, "coordinates").astype(np.float64), _numbers(values, "values")
    if points.ndim == 1:
        points = points[:, None]
    if points.ndim != 2 or not 1 <= points.shape[1] <= MOST_AXES or not len(points):
        raise SignalError(f"coordinates must have shape (N, D) with D up to {MOST_AXES}, not {points.shape}")
    if array.ndim not in (1, 2) or len(array) != len(points):
        raise SignalError(f"values must have shape (N,) or (N, C) with N = {len(points)}, not {array.shape}")
    if not np.isfinite(points).all():
        raise SignalError("coordinates must be finite")
    low, spans = points.min(axis=0), np.ptp(points, axis=0)
    spans[spans == 0.0] = 1.0
    spacing = spans / _shape_of_points(points)[0]
    given = tuple(names or ("x", "y", "z", "t")[: points.shape[1]])
    if len(given) != points.shape[1]:
        raise SignalError(f"there are {len(given)} names of coordinates, and {points.shape[1]} coordinates")
    frame = Frame(
        given[::-1],
        tuple((low + 0.5 * spacing).tolist()[::-1]),
        tuple(spacing.tolist()[::-1]),
        has_channels=array.ndim == 2,
    )
    return _signal(array.reshape(len(array), -1), frame, value_range, None, name, (points - low) / spans)


def _shape_of_points(points: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the shape of a grid with a cell for four of the points (N, D)."""
    count, dimensions = points.shape
    return (max(1, round(float(count / 4.0) ** (1.0 / dimensions))),) * int(dimensions)


def _drawn_line(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a picture (H, W, 1) of values (n,) as a dark line, each column from its lowest to its highest."""
    width, height = min(len(values), _LINE_SIZE[0]), _LINE_SIZE[1]
    ends = np.linspace(0, len(values), width + 1).astype(int)
    levels = np.clip(values, 0.0, 1.0) * (height - 1)
    low, high = (extreme.reduceat(levels, ends[:-1]) for extreme in (np.minimum, np.maximum))
    low[1:], high[1:] = np.minimum(low[1:], high[:-1]), np.maximum(high[1:], low[:-1])  # without gaps
    rows = np.arange(height)[::-1, None]
    is_drawn = (rows >= np.floor(low)) & (rows <= np.ceil(high))
    return np.where(is_drawn, 0.1, 1.0).astype(np.float32)[..., None]


def _signal(
    array: NDArray[Any],
    frame: Frame,
    value_range: ValueRange,
    known: ArrayLike | None,
    name: str,
    points: NDArray[np.float64] | None = None,
) -> ArraySignal:
    """Return the signal of values (*samples, C)."""
    if array.shape[-1] > _MOST_CHANNELS:
        raise SignalError(f"{array.shape[-1]} channels are too many; {_MOST_CHANNELS} are the most")
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise SignalError("the values have infinities; NaN means unknown, and all others must be finite")
    unknown, notes = _unknown(array)
    mask = _known(array, unknown, known)
    seen = array if mask is None else array[mask]
    low, high = _range(seen, value_range)
    limits: Any = {"low": tuple(low.tolist()), "high": tuple(high.tolist())}
    framed = dataclasses.replace(frame, **limits, dtype=array.dtype.name)
    pixels = framed.scaled(array)
    if unknown is not None:
        pixels[unknown] = 0.0
    return ArraySignal(pixels, framed, name, notes, mask, unknown, points)


def _numbers(values: ArrayLike, what: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise SignalError(f"{what} must be real numbers, not of {array.dtype}")
    return array


def named_axes(axes: str | Sequence[str] | None, dimensions: int) -> tuple[tuple[str, ...], int | None]:
    """Return the names of an array's axes without channels, and the place of those, None if there are none.

    Channels may be without a name, as the last axis.

    Raises
    ------
    SignalError
        The names do not fit the array's axes.
    """
    if axes is None:
        names: tuple[str, ...] = _USUAL_NAMES[-dimensions:]
    else:
        names = tuple(part.strip() for part in axes.split(",")) if isinstance(axes, str) else tuple(axes)
        if len(names) == 1 and dimensions > 1 and len(names[0]) in (dimensions, dimensions - 1):
            names = tuple(names[0])  # "zyx"
    others = [name for name in names if name != CHANNELS]
    told = f"the array has {dimensions} axes, and {', '.join(names) or 'none'} are named"
    if not names or len(set(names)) < len(names) or not all(names):
        raise SignalError(f"axes must be different names, such as z,y,x; {told}")
    if len(names) not in (dimensions, dimensions - 1) or (CHANNELS in names and len(names) != dimensions):
        raise SignalError(f"axes must name each axis of the array, but for channels at the end; {told}")
    if not 1 <= len(others) <= MOST_AXES:
        raise SignalError(f"a signal has 1 to {MOST_AXES} axes beside channels; {told}: name one {CHANNELS!r}")
    if len(names) < dimensions:
        return names, dimensions - 1
    return tuple(others), names.index(CHANNELS) if CHANNELS in names else None


def _of_axes(numbers: AxisNumbers, names: tuple[str, ...], what: str, usual: float) -> tuple[float, ...]:
    """Return one number for each axis."""
    if isinstance(numbers, Mapping):
        if unknown := set(numbers) - set(names):
            raise SignalError(f"{what} names {', '.join(sorted(unknown))}, and the axes are {', '.join(names)}")
        given = [numbers.get(name, usual) for name in names]
    else:
        given = [numbers] * len(names) if isinstance(numbers, int | float) else [*numbers]
    if len(given) != len(names) or not np.isfinite(np.asarray(given, np.float64)).all():
        raise SignalError(f"{what} must be one finite number, or one for each of {', '.join(names)}")
    return tuple(float(number) for number in given)


def _unknown(array: NDArray[Any]) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    """Return the mask (*samples) of those with a NaN, None if there are none, and notes."""
    if array.dtype.kind != "f" or not (unknown := np.isnan(array).any(axis=-1)).any():
        return None, ()
    return unknown, (f"{np.count_nonzero(unknown)} of {unknown.size} samples are unknown (NaN)",)


def _of_xarray(
    values: Any, spacing: AxisNumbers, origin: AxisNumbers
) -> tuple[list[str], AxisNumbers, AxisNumbers]:
    """Return names, distances and origins of the axes of a DataArray; SignalError if distances differ."""
    names = [CHANNELS if str(name) in ("channel", "band") else str(name) for name in values.dims]
    steps, firsts = {}, {}
    for name, own in zip(names, values.dims, strict=True):
        if name == CHANNELS or own not in values.coords or not np.issubdtype(values[own].dtype, np.number):
            continue
        places = np.asarray(values[own], np.float64)
        gaps = np.diff(places)
        if len(gaps) and not np.allclose(gaps, gaps[0], rtol=1e-3):
            raise SignalError(f"the positions along {name} are not at even distances; use coordfit.fit_points")
        steps[name], firsts[name] = float(gaps[0]) if len(gaps) else 1.0, float(places[0])
    return names, steps if spacing == 1.0 else spacing, firsts if origin == 0.0 else origin


def _known(
    array: NDArray[Any], unknown: NDArray[np.bool_] | None, known: ArrayLike | None
) -> NDArray[np.bool_] | None:
    """Return the mask (*samples) of what training may see, None for all."""
    mask = np.ones(array.shape[:-1], np.bool_) if unknown is None else ~unknown
    if known is not None:
        given = np.asarray(known)
        if given.dtype != np.bool_ or given.shape != mask.shape:
            raise SignalError(f"known must be a boolean array {mask.shape}, not {given.dtype} {given.shape}")
        mask &= given
    if not mask.any():
        raise SignalError("no value is known; training needs one at least")
    return None if mask.all() else mask


def _range(seen: NDArray[Any], value_range: ValueRange) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest values, of all channels (1,) or of each (C,)."""
    if isinstance(value_range, str):
        if value_range not in ("array", "channel"):
            raise SignalError(f"value_range must be array, channel, or (lowest, highest), not {value_range!r}")
        axis = None if value_range == "array" else tuple(range(seen.ndim - 1))
        low, high = (np.atleast_1d(extreme(seen, axis=axis)).astype(np.float64) for extreme in (np.min, np.max))
    else:
        low, high = (np.atleast_1d(np.asarray(limit, np.float64)) for limit in value_range)
    high = np.where(high == low, low + 1.0, high)  # a constant
    half = 0.5 * high - 0.5 * low
    if not ((np.abs([low, high, half]) < _MOST_VALUE).all() and (half > 0.0).all()):
        raise SignalError(
            f"the range of values, {low.tolist()} to {high.tolist()}, is not finite and ascending"
        )
    return low, high
