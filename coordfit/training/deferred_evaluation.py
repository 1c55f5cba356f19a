"""Figures of a run on its way: asked for in the middle of the work, and read when they come.

Between a step and the next the host has no business with the device: what figures are made of is summed there,
and copied without a wait. So they come late on a device that computes while the host goes on. What a verdict
needs is therefore kept beside them, on the device: the parameters and the optimizer's state that they are of.
A run that has reached its target, or diverged, goes back there, and steps that were taken meanwhile never were:
it ends as it would if every figure were waited for. On the CPU all figures come at once.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend, Moment
from .evaluation import NUM_SUMS

# Figures on their way: while the oldest are waited for, the steps after them keep the device busy.
_IN_FLIGHT = 3

FINAL = ("diverged", "target_psnr")
"""Reasons to stop that figures give: a run ends at the point that they are of."""


@dataclass(eq=False)
class Point:
    """Where a run stood when its figures were asked for."""

    step: int
    learning_rates: list[float]
    """Of the step that comes next, for each member."""
    arrays: list[Array]
    """Copies on the device: the parameters first, then the optimizer's state."""


@dataclass(frozen=True)
class Evaluated:
    """A point and its figures, on the host."""

    point: Point
    seconds: float
    """Seconds of training up to there, of this run and those that it goes on from."""
    sums: NDArray[np.float64]
    """(K, NUM_SUMS): for each member what `Evaluator.read` takes."""
    is_finite: NDArray[np.bool_]
    """(K,): whether all of a member's parameters are."""


class DeferredEvaluation:
    """Asks for figures, keeps the points that they are of, and tells the seconds of training between them.

    Parameters
    ----------
    arrays : sequence of arrays
        Parameters (*E, P), and the buffers of the optimizer's state.
    sums : callable
        Asks for the sums of errors of all members: (K, NUM_SUMS) on the device.
    seconds : float
        Of training before this run.
    """

    def __init__(
        self, backend: Backend, arrays: Sequence[Array], sums: Callable[[], Array], seconds: float
    ) -> None:
        self._backend, self._arrays, self._sums = backend, list(arrays), sums
        self._seconds = seconds
        members = 1 if arrays[0].ndim == 1 else arrays[0].shape[0]
        self._readback = backend.readback((members, NUM_SUMS + 1), "float64", _IN_FLIGHT)
        self._submitted: collections.deque[tuple[Point, list[tuple[Moment, Moment]]]] = collections.deque()
        self._stretches: list[tuple[Moment, Moment]] = []
        self._free: list[list[Array]] = []
        self.last_step: int | None = None
        """The step whose figures were asked for last."""

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """A stretch of training: its seconds count, and those of evaluations and callbacks do not."""
        start = self._backend.moment()
        yield
        self._stretches.append((start, self._backend.moment()))

    def point(self, step: int, learning_rates: list[float]) -> Point:
        """Copy where the run stands."""
        copies = self._free.pop() if self._free else [array + 0.0 for array in self._arrays]
        for copy, array in zip(copies, self._arrays, strict=True):
            copy[...] = array
        return Point(step, learning_rates, copies)

    def release(self, point: Point) -> None:
        """Say that a point's copies are of no more use."""
        self._free.append(point.arrays)

    def submit(self, step: int, learning_rates: list[float]) -> None:
        """Ask for the figures of the present parameters, and keep where the run stands."""
        xp = self._backend.xp
        # Reshaped first: of one network it is a scalar, and NumPy's `astype` takes arrays alone before 2.1.
        finite = xp.reshape(xp.all(xp.isfinite(self._arrays[0]), axis=-1), (-1, 1))
        finite = xp.astype(finite, xp.float64)
        self._submitted.append((self.point(step, learning_rates), self._stretches))
        self._stretches, self.last_step = [], step
        self._readback.send(xp.concat([self._sums(), finite], axis=-1))

    def poll(self, wait: bool = False) -> Iterator[Evaluated]:
        """Figures that have come, in order; all that were asked for with `wait`."""
        for figures in self._readback.arrived(wait):
            point, stretches = self._submitted.popleft()
            self._seconds += sum(end.seconds_since(start) for start, end in stretches)
            yield Evaluated(point, self._seconds, figures[:, :-1], figures[:, -1] == 1.0)

    def cancel(self) -> None:
        """Drop what is on its way: the run goes back to a point before it."""
        self._readback.arrived(wait=True)
        while self._submitted:
            self.release(self._submitted.popleft()[0])
        self._stretches = []

    def restore(self, point: Point) -> None:
        """Put parameters and optimizer state back to a point."""
        for array, copy in zip(self._arrays, point.arrays, strict=True):
            array[...] = copy

    @contextlib.contextmanager
    def showing(self, point: Point) -> Iterator[None]:
        """Have the parameters of a point for a while, where the run may have gone on."""
        if point.step == self.last_step and not self._stretches:
            yield
            return
        parameters = self._arrays[0]
        kept = parameters + 0.0
        parameters[...] = point.arrays[0]
        try:
            yield
        finally:
            parameters[...] = kept
