"""Asynchronous copies from the device to the host, and moments on the device's clock."""

from __future__ import annotations

import collections
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..protocols import Array
from .device import Device


class DeviceMoment:
    """`backends.Moment`: an event on the current stream."""

    def __init__(self, gpu: Device) -> None:
        cuda = gpu.xp.cuda
        self._cuda, self._event = cuda, cuda.Event()
        self._event.record(cuda.get_current_stream())

    def seconds_since(self, earlier: DeviceMoment) -> float:
        """Return the seconds on the device's clock between another moment and this one."""
        return 1e-3 * float(self._cuda.get_elapsed_time(earlier._event, self._event))


class DeviceReadback:
    """`backends.Readback` by copies into pinned memory, with the arguments of `Backend.readback`."""

    def __init__(self, gpu: Device, shape: tuple[int, ...], dtype: str, in_flight: int) -> None:
        self._gpu, self._in_flight = gpu, in_flight
        # One more than pending copies: the host reads a slot before it is written again.
        self._slots = [pinned(gpu.xp, shape, dtype) for _ in range(in_flight + 1)]
        self._sent = 0
        self._pending: collections.deque[tuple[Any, NDArray[Any]]] = collections.deque()
        self._arrived: list[NDArray[Any]] = []

    def send(self, array: Array) -> None:
        """See `backends.Readback`."""
        cuda = self._gpu.xp.cuda
        stream, slot = cuda.get_current_stream(), self._slots[self._sent % len(self._slots)]
        slot = slot[: array.shape[0]]
        array.get(stream=stream, out=slot, blocking=False)
        event = cuda.Event(disable_timing=True)
        event.record(stream)
        self._pending.append((event, slot))
        self._sent += 1
        if len(self._pending) >= self._in_flight:
            self._take_the_oldest(wait=True)

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """See `backends.Readback`."""
        while self._pending and self._take_the_oldest(wait):
            pass
        found, self._arrived = self._arrived, []
        return found

    def _take_the_oldest(self, wait: bool) -> bool:
        event, slot = self._pending[0]
        if wait:
            event.synchronize()
        elif not event.done:
            return False
        self._pending.popleft()
        self._arrived.append(slot.copy())
        return True


def pinned(xp: Any, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array in page-locked host memory, for asynchronous copies."""
    size, kind = math.prod(shape), np.dtype(dtype)
    memory = xp.cuda.alloc_pinned_memory(kind.itemsize * size)
    return np.frombuffer(memory, kind, size).reshape(shape)
