"""Steps recorded into CUDA graphs, and the numbers that they read from device memory.

A recorded step repeats the same launches with the same arguments on the same memory. So the step's number, the
learning rates and the batch, which change, are arrays of a `DeviceState`. The device counts steps itself, and
the host refills learning rates without waiting.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dispatch import FusedUnavailableError
from ..protocols import Array
from .checks import first_line
from .device import Device
from .kernels import blocks_for
from .readback import DeviceReadback, pinned
from .streams import recorded

_IN_FLIGHT = 4  # pending replays: enough to keep the device busy, few enough to stop soon


class CapturedStep:
    """A step that runs a few times, is then recorded, and from then on replayed: once for each call.

    Parameters
    ----------
    step : callable
        Launches work on the current stream, and changes nothing on the host. The recording is its last call.
    warm_up : int
        Calls before the recording: they compile kernels, choose algorithms and make buffers.

    Attributes
    ----------
    graph
        The recorded step; None before the recording or if it failed.
    reason : str
        Why the recording failed or is impossible; else empty.
    """

    def __init__(self, gpu: Device, step: Callable[[], None], warm_up: int) -> None:
        self._gpu, self._step, self._warm_up = gpu, step, warm_up
        self.graph: Any = None
        self._pool: Any = None
        self._kept: list[Array] = []
        self.reason = gpu.why_not_recorded

    def __call__(self) -> None:
        """Take one step."""
        if self.graph is None and not self.reason and self._gpu.is_active:
            if self._warm_up <= 0:
                self._record()
            self._warm_up -= 1
        if self.graph is None:
            self._step()
        else:
            self.graph.launch(self._gpu.stream)

    def _record(self) -> None:
        try:
            self.graph = self._recorded()
        except Exception as error:  # steps then run without a graph
            self._kept, self._pool = [], None
            self.reason = f"{type(error).__name__}: {first_line(error)}"
            self._gpu.not_recorded = self.reason
            if self._gpu.fused == "always":
                if isinstance(error, FusedUnavailableError):
                    raise
                raise FusedUnavailableError(
                    f"fused=always, but the step cannot be recorded: {self.reason}"
                ) from error

    def _recorded(self) -> Any:
        """Return the graph of one step, which keeps the memory that it allocates for its replays."""
        gpu, cuda = self._gpu, self._gpu.xp.cuda
        # A pool of its own: memory freed while recording must not go to work outside the graph.
        self._pool = cuda.MemoryPool()
        # A finalizer that frees device memory would be recorded, or break the recording.
        had_gc = gc.isenabled()
        gc.disable()
        gpu.is_recording = True
        try:
            with cuda.using_allocator(self._pool.malloc):
                graph = recorded(gpu.stream, self._step)
        finally:
            gpu.is_recording = False
            if had_gc:
                gc.enable()
        self._kept = gpu.buffers()
        return graph


class DeviceState:
    """`backends.DeviceState` in device memory, with the arguments of `Backend.device_state`."""

    def __init__(
        self,
        gpu: Device,
        num_rates: int,
        max_steps: int,
        orders: Sequence[tuple[int, int, int]],
        losses: tuple[tuple[int, ...], str],
    ) -> None:
        self._gpu, xp = gpu, gpu.xp
        self.counter = gpu.zeros((1,), "int64")
        self._table = gpu.zeros((max_steps, num_rates), "float64")
        shape = (1,) if num_rates == 1 else (num_rates, 1)
        self._rates = [xp.reshape(self._table[s, :], shape) for s in range(max_steps)]
        self._on_device: Any = None
        self._slots = [pinned(xp, (max_steps, num_rates), np.float64) for _ in range(_IN_FLIGHT)]
        self._next_slot = 0
        ensemble, dtype = losses
        self._losses = gpu.zeros((max_steps, *ensemble), dtype)
        self._loss_buffers = [self._losses[s, ...] for s in range(max_steps)]
        self._readback = DeviceReadback(gpu, self._losses.shape, dtype, _IN_FLIGHT)
        self._orders = list(orders)
        if self._orders:
            self._n, self._batch_size, _ = self._orders[0]
            self._seeds = gpu.asarray(np.array([seed for *_, seed in self._orders], np.uint32))
            self._batch = gpu.zeros((len(self._orders), self._batch_size), "int64")

    def put_step(self, step: int) -> None:
        """Set the number of steps taken."""
        self.counter.fill(step)

    def put_rates(self, rates: NDArray[Any]) -> None:
        """Set the learning rates (n, num_rates) of the next n steps, without waiting for the device."""
        if self._on_device is not None and np.array_equal(self._on_device[: len(rates)], rates):
            return
        # `send_losses` has waited until the device read this slot.
        slot = self._slots[self._next_slot]
        self._next_slot = (self._next_slot + 1) % _IN_FLIGHT
        slot[: len(rates)] = rates
        self._table.set(slot, stream=self._gpu.xp.cuda.get_current_stream())
        self._on_device = slot.copy()

    def send_losses(self, count: int) -> None:
        """Start to copy the losses of the last `count` steps to the host; wait if too many are pending."""
        self._readback.send(self._losses[:count, ...])

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """Return losses (n, *E) that reached the host since the last call; with `wait`, all pending ones."""
        return self._readback.arrived(wait)

    # -- inside a step, recorded or not ------------------------------------------------------------------

    def batch(self) -> Array | None:
        """Return the pixel numbers of the next batch: (B,) for all members, or (K, B)."""
        if not self._orders:
            return None
        members = len(self._orders)
        self._gpu.launch(
            "batch_order",
            (),
            (blocks_for(self._batch_size), members),
            *(self.counter, 0, self._seeds, self._batch, self._batch_size, self._n, self._batch_size),
        )
        return self._batch[0, :] if members == 1 else self._batch

    def advance(self) -> None:
        """Count one step: `counter` is then the current step's number, from 1."""
        self._gpu.launch("advance", (), (1, 1), self.counter)

    def rate(self, place: int) -> Array:
        """Return the learning rates of step `place` since the last refill: (1,), or (K, 1) in float64."""
        return self._rates[place]

    def loss_buffer(self, place: int) -> Array:
        """Return a buffer for the loss of step `place` since the last refill, shape E."""
        return self._loss_buffers[place]

    def keep_losses(self, values: Sequence[Array]) -> None:
        """Copy the steps' losses into their buffers, unless they are these buffers."""
        for place, value in enumerate(values):
            if value is not self._loss_buffers[place]:
                self._losses[place, ...] = value
