"""`fill_array`: an array of any number of axes with its unknown values filled, without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..backends import get_backend
from ..kriging import fill_hidden
from ..signals.arrays import ArraySignal, array_signal, named_axes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Callback = Callable[[float], object]
"""Called with the share of the work that is done; the filling ends without a result if it returns True."""


@dataclass(frozen=True, repr=False)
class FilledArray:
    """An array with its unknown values filled by kriging.

    Attributes
    ----------
    values : array
        Of the shape and type of the given one; known values are as they were.
    deviation : array
        The standard deviation of a channel as the process estimates it, in the array's own units, without the
        axis of channels; 0 where the value was known.
    """

    values: NDArray[Any]
    deviation: NDArray[np.float32]

    def __repr__(self) -> str:
        filled = np.count_nonzero(self.deviation)
        return f"<FilledArray {self.values.shape} of {self.values.dtype}: {filled} filled>"


def fill_array(
    values: ArrayLike,
    axes: str | Sequence[str] | None = None,
    *,
    known: ArrayLike | None = None,
    threads: int | None = None,
    callback: Callback | None = None,
) -> FilledArray | None:
    """Fill the unknown values of an array from the known ones by kriging; None if the callback ended it.

    Distances count in samples along all axes. Memory is bounded: volumes are filled slab by slab.

    Parameters
    ----------
    values : array
        1 to 4 axes, and perhaps one of channels, as `coordfit.fit_array` takes it. NaN is unknown.
    axes : str or sequence of str, optional
        The names of the axes, with "c" for channels.
    known : boolean array, optional
        False where a value is not to be taken, without the axis of channels.
    threads : int, optional
        By default all cores; the result does not depend on it.

    Raises
    ------
    SignalError
        The array cannot be used.
    """
    signal = array_signal(values, axes, known=known)
    filling = fill_signal(signal, threads, callback)
    if filling is None:
        return None
    filled, deviation = filling
    given = np.asarray(values)
    mask = np.ones(signal.samples, np.bool_) if signal.known is None else signal.known
    made = signal.frame.as_source(filled) if given.dtype.kind in "iu" else filled.astype(given.dtype)
    _, place = named_axes(axes, given.ndim)
    if place is None:
        return FilledArray(np.where(mask, given, made[..., 0]), deviation)
    return FilledArray(np.where(np.expand_dims(mask, place), given, np.moveaxis(made, -1, place)), deviation)


def fill_signal(
    signal: ArraySignal, threads: int | None = None, callback: Callback | None = None
) -> tuple[NDArray[np.floating], NDArray[np.float32]] | None:
    """Return the values (*shape, C) of a signal and their deviations (*shape), both in its own units."""
    backend = get_backend("numpy", threads=threads)
    known = np.ones(signal.samples, np.bool_) if signal.known is None else signal.known
    with backend.activate():  # one thread of the BLAS for each of ours
        filling = fill_hidden(signal.pixels, known, threads=getattr(backend, "threads", 1), callback=callback)
    if filling is None:
        return None
    spread = float(np.max(signal.frame.spread))
    values = signal.frame.restored(filling.colours.astype(np.float64))
    return values, (spread * filling.deviation).astype(np.float32)
