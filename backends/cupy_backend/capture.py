"""Steps recorded into CUDA graphs, and the numbers that such a step reads from device memory.

A recorded step repeats the same launches with the same arguments, on the same memory. So nothing that changes
from step to step may be an argument: the number of the step, the learning rates and the batch are read from
the arrays of a `DeviceState`, which the device itself counts up and the host refills without waiting.
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

_IN_FLIGHT = 4  # replays that the device has not done yet: enough to keep it busy, few enough to stop soon


class CapturedStep:
    """A step that runs as it is a few times, is then recorded, and from there on replayed: once for each call.

    Parameters
    ----------
    step : callable
        Launches work on the current stream, and leaves the host as it was: it is called a last time to be
        recorded, and no more.
    warm_up : int
        Calls before the recording: they compile kernels, choose algorithms and make buffers.

    Attributes
    ----------
    reason : str
        Why steps are not replayed; empty before the recording, and after one that went well. A graph whose
        recording failed is incomplete, and is never launched.
    """

    def __init__(self, gpu: Device, step: Callable[[], None], warm_up: int) -> None:
        self._gpu, self._step, self._warm_up = gpu, step, warm_up
        self._graph: Any = None
        self._pool: Any = None
        self._kept: list[Array] = []
        self.reason = gpu.why_not_recorded

    @property
    def is_replayed(self) -> bool:
        """Whether there is a graph."""
        return self._graph is not None

    def __call__(self) -> None:
        """Take one step."""
        if self._graph is None and not self.reason and self._gpu.is_active:
            if self._warm_up <= 0:
                self._record()
            self._warm_up -= 1
        if self._graph is None:
            self._step()
        else:
            self._graph.launch(self._gpu.stream)

    def _record(self) -> None:
        try:
            self._graph = self._recorded()
        except Exception as error:  # the step itself can go on as it is
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
        """Return the graph of one step. What it allocates stays its own: every replay writes there again."""
        gpu, cuda = self._gpu, self._gpu.xp.cuda
        # What is freed while recording must not be given to work outside of the graph.
        self._pool = cuda.MemoryPool()
        # A finalizer that frees device memory in the middle would be recorded, or break the recording.
        had_gc = gc.isenabled()
        gc.disable()
        try:
            with cuda.using_allocator(self._pool.malloc), gpu.recording():
                graph = recorded(gpu.stream, self._step)
        finally:
            if had_gc:
                gc.enable()
        self._kept = gpu.buffers()
        return graph


class DeviceState:
    """What changes from step to step, in device memory: the step's number, learning rates, and the batch.

    Parameters
    ----------
    num_rates : int
        Learning rates of a step: 1, or one for each member.
    max_steps : int
        Steps between two refills of the learning rates.
    orders : sequence of (n, batch_size, seed)
        One for all members, or one for each; of equal n and batch_size. Empty where the batch never changes.
    losses : (E, dtype)
        Shape and dtype of a step's loss.
    """

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
        """Say how many steps have been taken."""
        self.counter.fill(step)

    def put_rates(self, rates: NDArray[Any]) -> None:
        """Learning rates (n, num_rates) of the next n steps, without waiting for the device."""
        if self._on_device is not None and np.array_equal(self._on_device[: len(rates)], rates):
            return
        # A slot is written again after the device has read it: `send_losses` has seen to that.
        slot = self._slots[self._next_slot]
        self._next_slot = (self._next_slot + 1) % _IN_FLIGHT
        slot[: len(rates)] = rates
        self._table.set(slot, stream=self._gpu.xp.cuda.get_current_stream())
        self._on_device = slot.copy()

    def send_losses(self, count: int) -> None:
        """Have the losses of the last `count` steps copied to the host, without waiting for them.

        The host is held only where it is too far ahead: budgets of time and interrupts must stay in touch.
        """
        self._readback.send(self._losses[:count, ...])

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """Losses (n, *E) that have come since the last call, in order; all of them with `wait`."""
        return self._readback.arrived(wait)

    # -- inside a step, recorded or not ------------------------------------------------------------------

    def batch(self) -> Array | None:
        """Numbers of the batch of the step that comes next: (B,) for all members, or (K, B)."""
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
        """Count one step: `counter` is then the number of the one that is being taken, from 1."""
        self._gpu.launch("advance", (), (1, 1), self.counter)

    def rate(self, place: int) -> Array:
        """The learning rates of step `place` since the last refill: (1,), or (K, 1) in float64."""
        return self._rates[place]

    def loss_buffer(self, place: int) -> Array:
        """Return a buffer for the loss of step `place` since the last refill, shape E."""
        return self._loss_buffers[place]

    def keep_losses(self, values: Sequence[Array]) -> None:
        """Copy the steps' losses into their buffers, unless they are there already."""
        for place, value in enumerate(values):
            if value is not self._loss_buffers[place]:
                self._losses[place, ...] = value
