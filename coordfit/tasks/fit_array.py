"""`fit_array` and `fit_points`: from an array of finite numbers, or from scattered points, to a function."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Unpack

from ..fit_options import AllOptions, RecipeName
from ..signals.arrays import ArraySignal, AxisNumbers, ValueRange, array_signal, point_signal
from .folders.folder_fit import Files, fit_in
from .folders.resume import Asked
from .jobs.settings import Keywords, Settings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import ArrayLike

    from ..training.result import FitResult
    from ..training.state import Callback


def fit_array(
    values: ArrayLike,
    axes: str | Sequence[str] | None = None,
    *,
    spacing: AxisNumbers = 1.0,
    origin: AxisNumbers = 0.0,
    value_range: ValueRange = "array",
    known: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    name: str = "array",
    recipe: RecipeName | None = None,
    callback: Callback | None = None,
    average: int = 1,
    executor: Executor | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **options: Unpack[AllOptions],
) -> FitResult:
    """Fit a function to an array: a sound, a volume, a video, a picture of many channels.

    Parameters
    ----------
    values : array
        1 to 4 axes, and perhaps one of channels. Any finite numbers; NaN is unknown.
    axes : str or sequence of str, optional
        The names of the axes in the order of the array, such as "zyx", "t,y,x" or ("y", "x", "c"); "c" is the
        axis of channels, which need no name as the last. By default all axes are coordinates.
    spacing, origin : float, sequence or mapping
        The distance of neighbouring samples along each axis, and the position of the first, in any units.
    value_range : "array", "channel", or (lowest, highest)
        What networks see as 0 and 1: the lowest and highest known value of all channels, or of each channel.
        PSNR is by this range.
    known : boolean array, optional
        The samples that training may see, without the axis of channels.
    weights : array, optional
        How much each sample counts in training, relative to the others.
    name : str
        For titles.
    recipe, callback, average, executor, out, overwrite, resume, **options
        As `coordfit.fit` takes them; `sigma` may be one number for each coordinate, x first.

    Returns
    -------
    FitResult
        `result.model(points)` takes points (..., D) with the last axis first, (x, y, z) for axes "zyx", in the
        units of `spacing` and `origin`; values have the units of the array.

    Raises
    ------
    SignalError, ConfigError, DeviceUnavailableError
    """
    signal = array_signal(
        values, axes, spacing=spacing, origin=origin, value_range=value_range, known=known, name=name
    )
    files = Files(out, overwrite, resume)
    return _fit(signal, Keywords.split(options), recipe, callback, weights, average, files, executor)


def fit_points(
    coordinates: ArrayLike,
    values: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    value_range: ValueRange = "array",
    weights: ArrayLike | None = None,
    name: str = "points",
    recipe: RecipeName | None = None,
    callback: Callback | None = None,
    average: int = 1,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **options: Unpack[AllOptions],
) -> FitResult:
    """Fit a function to values at scattered points.

    Parameters
    ----------
    coordinates : array (N, D), or (N,) for one coordinate
        In any units, D from 1 to 4. Each is scaled by its own extent, and sigma means cycles over that.
    values : array (N,) or (N, C)
        NaN is unknown.
    names : sequence of str, optional
        Of the coordinates; by default x, y, z, t.
    value_range, weights, name, recipe, callback, average, out, overwrite, resume, **options
        As `coordfit.fit_array` takes them.

    Returns
    -------
    FitResult
        `result.model(points)` takes points (..., D) as they were given; `result.model.render(shape=...)` is a
        grid over their extent.

    Raises
    ------
    SignalError, ConfigError, DeviceUnavailableError
    """
    signal = point_signal(coordinates, values, names=names, value_range=value_range, name=name)
    files = Files(out, overwrite, resume)
    return _fit(signal, Keywords.split(options), recipe, callback, weights, average, files)


def _fit(
    signal: ArraySignal,
    keywords: Keywords,
    recipe: str | None,
    callback: Callback | None,
    weights: ArrayLike | None,
    average: int,
    files: Files,
    executor: Executor | None = None,
) -> FitResult:
    settings = Settings([keywords.settings], recipe)
    asked = Asked(None, settings, keywords.tiles, average=None if average == 1 else average)
    return fit_in(files, asked, signal, keywords.device, callback, executor, weights=weights)
