"""The parameters of all tiles of a fit while it is under way: what a callback draws from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .store import TileStore

Under = Callable[[NDArray[np.integer]], NDArray[np.floating]]


class ParametersNow:
    """Reads stored parameters (n, p) of tiles by number, as they are when they are asked for.

    Finished tiles are in the store; those that follow may be under way. A tile of which nothing is known yet is
    NaN, and so are the pixels that it would be seen in.

    Parameters
    ----------
    under_way : callable
        Returns the parameters (k, p) of tiles by their numbers after the finished ones.
    """

    def __init__(self, store: TileStore, under_way: Under) -> None:
        self._store, self._under_way = store, under_way
        self.shape, self.dtype = store.parameters.shape, store.parameters.dtype

    def __getitem__(self, tiles: Any) -> NDArray[np.floating]:
        """Return the parameters (k, p) of some tiles."""
        numbers = np.arange(self.shape[0])[tiles]
        finished = numbers < self._store.done
        found = np.empty((len(numbers), self.shape[1]), self.dtype)
        found[finished] = self._store.parameters[numbers[finished]]
        if not finished.all():
            found[~finished] = self._under_way(numbers[~finished] - self._store.done)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.floating]:
        """Return the parameters of all tiles."""
        return self[:].astype(dtype or self.dtype)
