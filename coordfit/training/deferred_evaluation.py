"""Evaluations during training that are started between two steps and read when they arrive.

The sums of an evaluation are computed on the device and copied to the host without waiting, so they arrive some
steps late. Copies of the parameters and the optimizer's state stay on the device beside them: a run that has
reached its target, or diverged, goes back to that point and drops later steps, so it ends as if the host had
waited. On the CPU evaluations arrive at once.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend, Moment
from .evaluation import NUM_SUMS

# Evaluations in flight: if the host waits for the oldest one, later steps keep the device busy.
_IN_FLIGHT = 3

FINAL = ("diverged", "target_psnr")
"""Reasons to stop that come from figures; the run ends at their point."""


@dataclass(eq=False)
class Point:
    """The state of a run when an evaluation was started."""

    step: int
    learning_rates: list[float]
    """Of the next step, for each member."""
    arrays: list[Array]
    """Copies on the device: the parameters first, then the optimizer's state."""
    seconds: float
    """Seconds of training up to there, with those of earlier runs; known when the evaluation has arrived."""


@dataclass(frozen=True)
class Evaluated:
    """A point and its figures, on the host."""

    point: Point
    sums: NDArray[np.float64]
    """(K, NUM_SUMS), for `Evaluator.read` of each member."""
    is_finite: NDArray[np.bool_]
    """(K,): whether all parameters of a member are finite."""


class DeferredEvaluation:
    """Starts evaluations, keeps their points, and counts the seconds of training between them.

    The arrays are the parameters (*E, P) and the optimizer's state. `sums` returns the sums of errors of all
    members, (K, NUM_SUMS) on the device; `seconds` are those of earlier runs.
    """

    def __init__(
        self, backend: Backend, arrays: Sequence[Array], sums: Callable[[], Array], seconds: float
    ) -> None:
        self._backend, self._arrays, self._sums = backend, list(arrays), sums
        self._seconds = seconds
        members = 1 if arrays[0].ndim == 1 else arrays[0].shape[0]
        self._readback = backend.readback((members, NUM_SUMS + 1), "float64", _IN_FLIGHT)
        self._submitted: collections.deque[tuple[Point, list[tuple[Moment, Moment]]]] = collections.deque()
        self._intervals: list[tuple[Moment, Moment]] = []
        self._free: list[list[Array]] = []
        self.last_step: int | None = None
        """The step of the latest evaluation."""

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Count the seconds of this block as training; those of evaluations and callbacks do not count."""
        start = self._backend.moment()
        yield
        self._intervals.append((start, self._backend.moment()))

    def point(self, step: int, learning_rates: list[float]) -> Point:
        """Copy the present state of the run."""
        copies = self._free.pop() if self._free else [array + 0.0 for array in self._arrays]
        for copy, array in zip(copies, self._arrays, strict=True):
            copy[...] = array
        return Point(step, learning_rates, copies, self._seconds)

    def release(self, point: Point) -> None:
        """Release a point's copies for reuse."""
        self._free.append(point.arrays)

    def submit(self, step: int, learning_rates: list[float]) -> None:
        """Start an evaluation of the present parameters, and keep their point."""
        xp = self._backend.xp
        # Reshaped first: for one network it is a scalar, which NumPy's `astype` does not take before 2.1.
        finite = xp.reshape(xp.all(xp.isfinite(self._arrays[0]), axis=-1), (-1, 1))
        finite = xp.astype(finite, xp.float64)
        self._submitted.append((self.point(step, learning_rates), self._intervals))
        self._intervals, self.last_step = [], step
        self._readback.send(xp.concat([self._sums(), finite], axis=-1))

    def poll(self, wait: bool = False) -> Iterator[Evaluated]:
        """Yield the evaluations that have arrived, in order; with `wait`, all that were started."""
        for figures in self._readback.arrived(wait):
            point, intervals = self._submitted.popleft()
            self._seconds += sum(end.seconds_since(start) for start, end in intervals)
            point.seconds = self._seconds
            yield Evaluated(point, figures[:, :-1], figures[:, -1] == 1.0)

    def cancel(self) -> None:
        """Drop evaluations in flight, since the run goes back to an earlier point."""
        self._readback.arrived(wait=True)
        while self._submitted:
            self.release(self._submitted.popleft()[0])
        self._intervals = []

    def restore(self, point: Point) -> None:
        """Restore parameters and optimizer state of a point."""
        for array, copy in zip(self._arrays, point.arrays, strict=True):
            array[...] = copy

    @contextlib.contextmanager
    def parameters_at(self, point: Point) -> Iterator[None]:
        """Have the parameters of a point within this block, if the run has gone on since."""
        if point.step == self.last_step and not self._intervals:
            yield
            return
        parameters = self._arrays[0]
        present = parameters + 0.0
        parameters[...] = point.arrays[0]
        try:
            yield
        finally:
            parameters[...] = present
