"""How many steps a run may take, and the schedules that end with them, whichever budget was given.

- Steps or epochs: one schedule over so many steps.
- Seconds: one schedule that ends with them; the rate is measured, and the end corrected as the run goes.
- A PSNR: a short schedule first and, where it ends below the target, others that go on from there, each twice
  as long as the one before: the warm restarts of Loshchilov and Hutter, "SGDR" (2017), section 3, T_mult = 2.
- Nothing: one schedule over the default number of steps (`config.default_steps`).

Whichever budget is spent first ends the run. With a PSNR and seconds the last schedule ends with the seconds.
"""

from __future__ import annotations

from ..config import MOST_STEPS, FitConfig

# Towards a PSNR the schedules have 1/4, 1/2, 1 and 2 times the default steps.
_FIRST_SHARE, _ROUNDS = 4, 4


class Budget:
    """The steps of a run and, for each step, the schedule that it belongs to.

    Attributes
    ----------
    steps : int
        The most steps that the run may take.
    by_clock : bool
        Whether seconds alone end it, so that nobody knows its last step beforehand.
    """

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

    def correct(self, step: int, steps_taken: int, seconds_taken: float, seconds_left: float) -> None:
        """Estimate anew at which step the seconds will have been spent, from the rate so far."""
        if self.time_limited and steps_taken:
            self._end_of_seconds = step + int(max(0.0, seconds_left) * steps_taken / seconds_taken)

    def schedule_of(self, step: int) -> tuple[int, int]:
        """First step and length of the schedule that the step after `step` steps belongs to."""
        start, length = 0, self._first
        while self._restarts and start + length <= step < self.steps:
            start, length = start + length, 2 * length
        if self._end_of_seconds is not None:
            last = max(self._end_of_seconds, step + 1) - start
            length = min(length, last) if self._restarts else last
        return start, length

    def expected_steps(self, step: int) -> int:
        """Where the schedule ends that the step after `step` steps belongs to, as far as is known."""
        return min(sum(self.schedule_of(step)), self.steps)
