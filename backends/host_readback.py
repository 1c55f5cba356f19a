"""Moments and copies on the host, where every moment has passed and every copy has arrived."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .protocols import Array


class HostMoment:
    """`backends.Moment` on the host's clock."""

    def __init__(self) -> None:
        self._seconds = time.perf_counter()

    def seconds_since(self, earlier: HostMoment) -> float:
        """Return the seconds between another moment and this one."""
        return self._seconds - earlier._seconds


class HostReadback:
    """`backends.Readback` by synchronous copies with `Backend.to_numpy`."""

    def __init__(self, to_numpy: Callable[[Array], NDArray[Any]]) -> None:
        self._to_numpy = to_numpy
        self._arrived: list[NDArray[Any]] = []

    def send(self, array: Array) -> None:
        """Copy an array."""
        self._arrived.append(np.array(self._to_numpy(array)))

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """Return the copies since the last call."""
        found, self._arrived = self._arrived, []
        return found
