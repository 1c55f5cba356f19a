"""The loop over steps: clocks, evaluations, callbacks, checkpoints, and the reason to stop.

Evaluations may arrive some steps late (`DeferredEvaluation`); only a checkpoint, every half minute, waits for
them. A network that has diverged keeps its last finite state, and the others go on.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from .deferred_evaluation import FINAL, DeferredEvaluation, Evaluated, Point
from .state import (
    CALLBACK_SECONDS,
    CHECKPOINT_SECONDS,
    Callback,
    Checkpoint,
    Progress,
    ShouldStop,
    TrainingState,
)

if TYPE_CHECKING:
    from .trainer import Trainer


class Loop:
    """One run of a trainer."""

    def __init__(
        self,
        trainer: Trainer,
        callback: Callback | None = None,
        checkpoint: Checkpoint | None = None,
        should_stop: ShouldStop | None = None,
    ) -> None:
        self.trainer, self.callback, self.checkpoint = trainer, callback, checkpoint
        self.should_stop = should_stop or (lambda: False)
        self.began = self.last_tick = self.last_checkpoint = time.perf_counter()
        self.steps_before, self.seconds_before = trainer.step, trainer.seconds
        self.evaluations = DeferredEvaluation(trainer.backend, trainer.arrays, trainer.sums, trainer.seconds)
        self.restore_points: list[Point | None] = [None] * len(trainer.members)
        """The last finite point of each network, in the order of the trainer; its first if it never was."""
        self.diverged: set[int] = set()
        self.asked_to_stop = False
        self.warm: tuple[int, float] | None = None

    def run(self) -> str:
        """Train until the run ends, and return the reason."""
        try:
            stopped = self._end(self._take_steps())
            if self.checkpoint is not None and self.trainer.history:
                self.checkpoint(self.trainer.state())
        except KeyboardInterrupt:
            self._save_after_interrupt()
            raise
        return stopped

    def state_of(self, k: int) -> TrainingState:
        """Return the last finite state of a network, on the host."""
        point = self.restore_points[k]
        assert point is not None, "the loop has waited for the first figures"
        return self.trainer.state_of(k, point.arrays, point.step, point.seconds)

    def _save_after_interrupt(self) -> None:
        """Save a checkpoint; if a step was interrupted, go back to the latest figures first."""
        trainer = self.trainer
        for k, point in enumerate(self.restore_points):
            if point is not None:
                trainer.show_member(k, point.arrays[0])
        if trainer.is_in_a_step and (latest := self._latest_restore_point()) is not None:
            self._go_back(latest)
            trainer.is_in_a_step = False
        if self.checkpoint is not None and trainer.history and not trainer.is_in_a_step:
            self._save()

    def _take_steps(self) -> str | None:
        """Take steps until the run ends, and return the reason; None if all have been taken."""
        trainer = self.trainer
        if self._lacks_an_evaluation():
            self._submit()
        else:
            self.evaluations.last_step = trainer.step
            point = self.evaluations.point(trainer.step, trainer.learning_rates(trainer.step))
            self.restore_points = [point] * len(self.restore_points)
        stopped = self._poll()
        while stopped is None and trainer.step < trainer.steps:
            stop = trainer.member.next_evaluation(trainer.step)
            self._train_until(stop)
            diverged = trainer.losses.has_diverged
            if trainer.step == stop or diverged:
                self._submit()
            stopped = self._poll(wait=diverged or self._is_time_to_save())
            stopped = stopped or self._reason_to_stop()
            if stopped is None and self._is_time_to_save():
                self._save()
        return stopped

    def _end(self, stopped: str | None) -> str:
        """Wait for all figures, those of the last step included, and return the reason to stop."""
        if stopped in FINAL:
            return stopped
        if reason := self._poll(wait=True):
            return reason
        if self.evaluations.last_step != self.trainer.step:
            self._submit()
            if self._poll(wait=True) == "diverged":
                return "diverged"
        return stopped or self._reason_to_stop() or "steps"

    def _lacks_an_evaluation(self) -> bool:
        """Whether this step has no row yet: at the start, or if a run was killed between step and row."""
        history, step = self.trainer.history, self.trainer.step
        return not history or (self.trainer.member.is_evaluated_at(step) and history[-1]["step"] != step)

    def _train_until(self, stop: int) -> None:
        """Take steps up to `stop` or to the end of the run; only this time counts as training."""
        trainer, start, before = self.trainer, time.perf_counter(), self.trainer.seconds
        with self.evaluations.training():
            while trainer.step < stop and self._reason_to_stop() is None:
                trainer.take_steps(stop - trainer.step)
                now = time.perf_counter()
                self._correct_budget(now)
                if now - self.last_tick >= CALLBACK_SECONDS:
                    trainer.seconds = before + now - start
                    trainer.collect_losses()
                    if trainer.losses.has_diverged:
                        break
                    self._call_back()
                    if self._is_time_to_save():
                        break
        trainer.seconds = before + time.perf_counter() - start
        trainer.collect_losses()

    def _correct_budget(self, now: float) -> None:
        step, taken = self.trainer.step, self.trainer.step - self.steps_before
        self.trainer.budget.correct(step, taken, now - self.began, self._seconds_left(now))

    def _seconds_left(self, now: float) -> float:
        limit = self.trainer.config.seconds
        return math.inf if limit is None else limit - (now - self.began + self.seconds_before)

    def _reason_to_stop(self) -> str | None:
        if self._seconds_left(time.perf_counter()) <= 0.0:
            return "seconds"
        self.asked_to_stop = self.asked_to_stop or self.should_stop()
        return "interrupted" if self.asked_to_stop else None

    # -- figures ---------------------------------------------------------------------------------------

    def _submit(self) -> None:
        """Start an evaluation of the present networks."""
        step = self.trainer.step
        self.evaluations.submit(step, self.trainer.learning_rates(step))

    def _poll(self, wait: bool = False) -> str | None:
        """Add the rows of figures that have arrived; return their reason to stop, if there is one."""
        if wait:
            self.trainer.collect_losses(wait=True)
        for evaluated in self.evaluations.poll(wait):
            if reason := self._process(evaluated):
                return reason
        return None

    def _process(self, evaluated: Evaluated) -> str | None:
        """Add a row to each history; for a reason to stop, go back to its point and return it."""
        trainer, point = self.trainer, evaluated.point
        self._add_rows(evaluated)
        if len(self.diverged) == len(self.restore_points):
            self._go_back(self._latest_restore_point() or point)
            return "diverged"
        if point.step == trainer.step:
            trainer.seconds = point.seconds
        if self.callback is not None:
            with self.evaluations.parameters_at(point):
                trainer.show()
                self._call_back(point)
        if not self._has_reached_target():
            return None
        trainer.collect_losses(wait=True)
        trainer.losses.drop_last(trainer.step - point.step)
        self._go_back(point)
        return "target_psnr"

    def _has_reached_target(self) -> bool:
        target = self.trainer.config.target_psnr
        histories = [member.history for member in self.trainer.members if member.history]
        return target is not None and all((rows[-1]["psnr_train"] or 0.0) >= target for rows in histories)

    def _add_rows(self, evaluated: Evaluated) -> None:
        """Add a row for each network that has not diverged, and keep its point."""
        point, before = evaluated.point, {*self.restore_points}
        for k, member in enumerate(self.trainer.ordered):
            if k in self.diverged:
                continue
            figures = member.evaluate.read(evaluated.sums[k])
            # The loss alone does not tell: a ReLU may turn NaN of an early layer into 0.
            if math.isfinite(figures.loss) and evaluated.is_finite[k]:
                member.add_history_row(figures, point.step, point.seconds, point.learning_rates[k])
                self.restore_points[k] = point
            else:
                self.diverged.add(k)
                self.restore_points[k] = self.restore_points[k] or point
        for unused in (before | {point}) - {*self.restore_points}:
            if unused is not None:
                self.evaluations.release(unused)

    def _latest_restore_point(self) -> Point | None:
        found = [point for point in self.restore_points if point is not None]
        return max(found, key=lambda point: point.step, default=None)

    def _go_back(self, point: Point) -> None:
        trainer = self.trainer
        self.evaluations.restore(point)
        self.evaluations.cancel()
        trainer.step = trainer.optimizer.steps = point.step
        trainer.seconds = point.seconds

    def _call_back(self, point: Point | None = None) -> None:
        """Call the callback with the progress, or with the new rows of a point."""
        self.last_tick = time.perf_counter()
        if self.callback is None:
            return
        trainer = self.trainer
        rows = [m.history[-1] for k, m in enumerate(trainer.ordered) if m.history and k not in self.diverged]
        progress = Progress(
            trainer.step if point is None else point.step,
            trainer.budget.expected_steps(trainer.step),
            trainer.seconds,
            self._steps_per_second(),
            rows[0] if rows else None,
            evaluated=point is not None,
            batch_loss=trainer.losses.recent_mean,
            members=trainer.members,
            psnr=rows[0]["psnr"] if rows else None,
            is_estimate=trainer.budget.is_estimate,
            models_now=trainer.models_now,
        )
        self.asked_to_stop = bool(self.callback(progress)) or self.asked_to_stop

    def _steps_per_second(self) -> float:
        """Return the rate of this run; without its first steps, which may compile, once there are others."""
        step, seconds = self.trainer.step, self.trainer.seconds
        begun = self.steps_before, self.seconds_before
        if self.warm is None and step > self.steps_before:
            self.warm = step, seconds
        elif self.warm is not None and step > self.warm[0] and seconds > self.warm[1]:
            begun = self.warm
        return (step - begun[0]) / max(seconds - begun[1], 1e-9)

    # -- checkpoints -----------------------------------------------------------------------------------

    def _is_time_to_save(self) -> bool:
        if self.checkpoint is None:
            return False
        return time.perf_counter() - self.last_checkpoint >= CHECKPOINT_SECONDS

    def _save(self) -> None:
        assert self.checkpoint is not None
        state = self.trainer.state()
        if np.isfinite(state.parameters).all():  # if not, the next evaluation detects it
            self.checkpoint(state)
        self.last_checkpoint = time.perf_counter()
