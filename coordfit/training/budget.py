"""The number of steps of a run and their learning-rate schedules, for each kind of budget.

- Steps or epochs: one schedule of that length.
- Seconds: one schedule that ends with them, at a step that is estimated from the rate so far.
- A PSNR: a short schedule; if it ends below the target, further ones, each twice as long as the last: the warm
  restarts of Loshchilov and Hutter, "SGDR" (2017), section 3, with `T_mult = 2`.
- None: one schedule over the default number of steps (`config.default_steps`).

The budget that is spent first ends the run. With a PSNR and seconds, the last schedule ends with the seconds.
"""

from __future__ import annotations

from ..config import MOST_STEPS, FitConfig

# With a PSNR the schedules have 1/4, 1/2, 1 and 2 times the default steps.
_FIRST_SHARE, _ROUNDS = 4, 4


class Budget:
    """The most `steps` of a run, and the schedule of each; if `time_limited`, only seconds end the run."""

    def __init__(self, config: FitConfig, num_training_pixels: int) -> None:
        counted = config.counted_steps(num_training_pixels)
        self.time_limited = counted is None and config.seconds is not None
        self._restarts = counted is None and config.target_psnr is not None
        self._first = config.resolved_steps(num_training_pixels)
        if self._restarts:
            self._first //= _FIRST_SHARE
        self.steps = self._first
        if self.time_limited:
            self.steps = MOST_STEPS
        elif self._restarts:
            self.steps = self._first * (2**_ROUNDS - 1)
        self._end_of_seconds: int | None = None

    @property
    def is_estimate(self) -> bool:
        """Whether the steps of the run are not known before its end."""
        return self.time_limited or self._restarts

    def correct(self, step: int, steps_taken: int, seconds_taken: float, seconds_left: float) -> None:
        """Estimate again, from the rate so far, at which step the seconds will be spent."""
        if self.time_limited and steps_taken:
            self._end_of_seconds = step + int(max(0.0, seconds_left) * steps_taken / seconds_taken)

    def schedule_of(self, step: int) -> tuple[int, int]:
        """Return the first step and the length of the schedule of the step after `step` steps."""
        start, length = 0, self._first
        while self._restarts and start + length <= step < self.steps:
            start, length = start + length, 2 * length
        if self._end_of_seconds is not None:
            last = max(self._end_of_seconds, step + 1) - start
            length = min(length, last) if self._restarts else last
        return start, length

    def expected_steps(self, step: int) -> int:
        """Return the estimated end of the schedule of the step after `step` steps."""
        return min(sum(self.schedule_of(step)), self.steps)
