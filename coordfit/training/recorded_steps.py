"""Steps that the device drives by itself: recorded once by the backend, and replayed several at a time.

The arithmetic is that of `TrainingStep`. A step's number, batch and learning rates come from device memory
(`backends.DeviceState`), so the same launches can be repeated; the host only refills the learning rates. It
never waits for the device, except to stay at most a few replays ahead.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend, DeviceState, NotRecordedError
from ..pixels.step_inputs import StepInputs

Compute = Callable[[Array | None, Array, Array, Array | None], Array]

_WARM_UP = 2


class RecordedSteps:
    """Drives the steps of a backend that has a `device_state`, one or `steps_at_once` at a time.

    `compute` is `TrainingStep.compute`: from batch, learning rates, number and a buffer for the loss, all on
    the device, to the loss. It raises NotRecordedError if the backend cannot record such a step.
    """

    def __init__(
        self,
        backend: Backend,
        compute: Compute,
        step_inputs: StepInputs,
        state: DeviceState,
        steps_at_once: int,
    ) -> None:
        self.backend, self.step_inputs, self.state = backend, step_inputs, state
        self.compute, take = _weak(compute), _weak(self._take)
        self.steps_at_once = steps_at_once
        self._numbers = step_inputs.numbers_on(backend)
        self._counted: int | None = None
        # The first steps are taken one by one: they make all buffers and plans, for both recordings.
        self._runs: dict[int, Callable[[], None]] = {
            1: backend.capture(functools.partial(take, 1), warm_up=_WARM_UP),
        }
        if steps_at_once > 1:
            self._runs[steps_at_once] = backend.capture(functools.partial(take, steps_at_once), warm_up=0)
        self._taken = 0

    def advance(self, step: int, count: int) -> None:
        """Take `count` steps after `step` steps."""
        if step != self._counted:
            self.state.put_step(step)
        while count:
            at_once = self.steps_at_once if count >= self.steps_at_once and self._taken >= _WARM_UP else 1
            self.state.put_rates(self.step_inputs.rates_ahead(step, at_once))
            self._runs[at_once]()
            self.state.send_losses(at_once)
            step, count, self._taken = step + at_once, count - at_once, self._taken + 1
        self._counted = step

    def new_losses(self, wait: bool = False) -> list[NDArray[np.floating]]:
        """Return losses (n, *E) that arrived on the host since the last call; with `wait`, of all steps."""
        return self.state.arrived(wait)

    def _take(self, count: int) -> None:
        """Launch `count` steps; this is what is recorded."""
        values = []
        for place in range(count):
            batch, buffer = self._batch(), self.state.loss_buffer(place)
            self.state.advance()
            values.append(self.compute(batch, self.state.rate(place), self.state.counter, buffer))
        self.state.keep_losses(values)

    def _batch(self) -> Array | None:
        batch = self.state.batch()
        if self._numbers is None:
            return batch
        if batch is None:
            return self._numbers
        return self.backend.chosen(self._numbers, batch)


def _weak(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a bound method that does not keep its object alive.

    In a circle of objects a step's buffers would outlive it until Python next looks for circles.
    """
    reference = weakref.WeakMethod(method)

    def call(*arguments: Any) -> Any:
        bound = reference()
        assert bound is not None, "the step is no more"
        return bound(*arguments)

    return call


def record_steps(
    backend: Backend,
    compute: Compute,
    step_inputs: StepInputs,
    losses: tuple[tuple[int, ...], str],
    flops: float,
) -> RecordedSteps | None:
    """Return steps that the device drives; None if the host has to.

    A step has a loss of the shape and type `losses`, and takes `flops` operations.
    """
    at_once = backend.steps_at_once(flops)
    state = backend.device_state(len(step_inputs.rates(0)), at_once, step_inputs.order_numbers(), losses)
    if state is None:
        return None
    try:
        return RecordedSteps(backend, compute, step_inputs, state, at_once)
    except NotRecordedError:
        return None
