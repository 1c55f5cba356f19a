"""The loop over steps: clocks, evaluations, callbacks, checkpoints, and the reason to stop.

Figures may come some steps after they were asked for (`DeferredEvaluation`): nothing in the loop waits for them
but a checkpoint, each half minute. A network that has diverged keeps its last good state, and the others go on.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
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


def never() -> bool:
    """Return False: of a run that nothing but its budget ends."""
    return False


@dataclass(frozen=True)
class _Good:
    """A point whose figures are finite, and the seconds of training up to there."""

    point: Point
    seconds: float


class Loop:
    """One run of a trainer.

    Attributes
    ----------
    good : list of _Good or None
        Where each network was finite last, in the trainer's order.
    diverged : set of int
        The networks that are finite no longer.
    """

    def __init__(
        self,
        trainer: Trainer,
        callback: Callback | None = None,
        checkpoint: Checkpoint | None = None,
        should_stop: ShouldStop | None = None,
    ) -> None:
        self.trainer, self.callback, self.checkpoint = trainer, callback, checkpoint
        self.should_stop = should_stop or never
        self.began = self.last_tick = self.last_checkpoint = time.perf_counter()
        self.steps_before, self.seconds_before = trainer.step, trainer.seconds
        self.evaluations = DeferredEvaluation(trainer.backend, trainer.arrays, trainer.sums, trainer.seconds)
        self.good: list[_Good | None] = [None] * len(trainer.members)
        self.diverged: set[int] = set()
        self.asked_to_stop = False
        self.warm: tuple[int, float] | None = None

    def run(self) -> str:
        """Train until something ends the run, and return what."""
        try:
            stopped = self._end(self._take_steps())
            if self.checkpoint is not None and self.trainer.history:
                self.checkpoint(self.trainer.state())
        except KeyboardInterrupt:
            self._keep_what_is_whole()
            raise
        return stopped

    def state_of(self, k: int) -> TrainingState:
        """Return where a network was good last, on the host."""
        good = self.good[k]
        assert good is not None, "the first figures have been waited for"
        return self.trainer.state_of(k, good.point.arrays, good.point.step, good.seconds)

    def _keep_what_is_whole(self) -> None:
        """Save where the run stands; if a step was broken off, go back to the latest figures first."""
        trainer = self.trainer
        for k, good in enumerate(self.good):
            if good is not None:
                trainer.show_member(k, good.point.arrays[0])
        if trainer.is_in_a_step and (latest := self._latest_good()) is not None:
            self._go_back(latest)
            trainer.is_in_a_step = False
        if self.checkpoint is not None and trainer.history and not trainer.is_in_a_step:
            self._save()

    def _take_steps(self) -> str | None:
        """Train until something ends the run, and return what; None if all steps have been taken."""
        trainer = self.trainer
        if self._owes_an_evaluation():
            self._ask()
        else:
            self.evaluations.last_step = trainer.step
            point = self.evaluations.point(trainer.step, trainer.learning_rates(trainer.step))
            self.good = [_Good(point, trainer.seconds)] * len(self.good)
        stopped = self._take_in()
        while stopped is None and trainer.step < trainer.steps:
            stop = trainer.member.next_evaluation(trainer.step)
            self._train_until(stop)
            diverged = trainer.losses.has_diverged
            if trainer.step == stop or diverged:
                self._ask()
            stopped = self._take_in(wait=diverged or self._is_time_to_save())
            stopped = stopped or self._out_of_time_or_asked()
            if stopped is None and self._is_time_to_save():
                self._save()
        return stopped

    def _end(self, stopped: str | None) -> str:
        """Take in what is on its way, see that the last step has its row, and return what ended the run."""
        if stopped in FINAL:
            return stopped
        if verdict := self._take_in(wait=True):
            return verdict
        if self.evaluations.last_step != self.trainer.step:
            self._ask()
            if self._take_in(wait=True) == "diverged":
                return "diverged"
        return stopped or self._out_of_time_or_asked() or "steps"

    def _owes_an_evaluation(self) -> bool:
        """Whether this step lacks its row: at the start, and if a run was killed between step and row."""
        history, step = self.trainer.history, self.trainer.step
        return not history or (self.trainer.member.is_evaluated_at(step) and history[-1]["step"] != step)

    def _train_until(self, stop: int) -> None:
        """Take steps up to `stop`, or until the clock or the callback ends it; only this time is training."""
        trainer, start = self.trainer, time.perf_counter()
        before = trainer.seconds
        with self.evaluations.training():
            while trainer.step < stop and self._out_of_time_or_asked() is None:
                trainer.take_steps(stop - trainer.step)
                now = time.perf_counter()
                self._correct_budget(now)
                if now - self.last_tick >= CALLBACK_SECONDS:
                    trainer.seconds = before + now - start
                    trainer.collect_losses()
                    if trainer.losses.has_diverged:
                        break
                    self._tell()
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

    def _out_of_time_or_asked(self) -> str | None:
        if self._seconds_left(time.perf_counter()) <= 0.0:
            return "seconds"
        self.asked_to_stop = self.asked_to_stop or self.should_stop()
        return "interrupted" if self.asked_to_stop else None

    # -- figures ---------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask for the figures of the networks as they are."""
        step = self.trainer.step
        self.evaluations.submit(step, self.trainer.learning_rates(step))

    def _take_in(self, wait: bool = False) -> str | None:
        """Add the rows of figures that have come, and return the reason to stop, if they give one."""
        if wait:
            self.trainer.collect_losses(wait=True)
        for evaluated in self.evaluations.poll(wait):
            if verdict := self._verdict(evaluated):
                return verdict
        return None

    def _verdict(self, evaluated: Evaluated) -> str | None:
        """Add a row to each history; the reason to stop, with the run put back to the point of the figures."""
        trainer, point = self.trainer, evaluated.point
        self._add_rows(evaluated)
        if len(self.diverged) == len(self.good):
            self._go_back(self._latest_good() or _Good(point, evaluated.seconds))
            return "diverged"
        if point.step == trainer.step:
            trainer.seconds = evaluated.seconds
        if self.callback is not None:
            with self.evaluations.showing(point):
                trainer.show()
                self._tell(point)
        if not self._has_reached_target():
            return None
        trainer.collect_losses(wait=True)
        trainer.losses.drop_last(trainer.step - point.step)
        self._go_back(_Good(point, evaluated.seconds))
        return "target_psnr"

    def _has_reached_target(self) -> bool:
        target = self.trainer.config.target_psnr
        histories = [member.history for member in self.trainer.members if member.history]
        return target is not None and all((rows[-1]["psnr_train"] or 0.0) >= target for rows in histories)

    def _add_rows(self, evaluated: Evaluated) -> None:
        """Add a row for each network that has not diverged, and keep its point."""
        point, before = evaluated.point, {good.point for good in self.good if good is not None}
        for k, member in enumerate(self.trainer.ordered):
            if k in self.diverged:
                continue
            figures = member.evaluate.read(evaluated.sums[k])
            # The parameters too: a ReLU that turns NaN into 0 hides from the loss what an early layer is.
            if math.isfinite(figures.loss) and evaluated.is_finite[k]:
                member.add_history_row(figures, point.step, evaluated.seconds, point.learning_rates[k])
                self.good[k] = _Good(point, evaluated.seconds)
            else:
                self.diverged.add(k)
                self.good[k] = self.good[k] or _Good(point, evaluated.seconds)
        kept = {good.point for good in self.good if good is not None}
        for released in (before | {point}) - kept:
            self.evaluations.release(released)

    def _latest_good(self) -> _Good | None:
        """The latest point at which a network was finite."""
        found = [good for good in self.good if good is not None]
        return max(found, key=lambda good: good.point.step, default=None)

    def _go_back(self, good: _Good) -> None:
        """Put the run back to a point."""
        trainer = self.trainer
        self.evaluations.restore(good.point)
        self.evaluations.cancel()
        trainer.step = trainer.optimizer.steps = good.point.step
        trainer.seconds = good.seconds

    def _tell(self, point: Point | None = None) -> None:
        """Tell the callback how far the run is, or of the new rows of a point."""
        self.last_tick = time.perf_counter()
        if self.callback is None:
            return
        trainer = self.trainer
        rows = [m.history[-1] for k, m in enumerate(trainer.ordered) if m.history and k not in self.diverged]
        progress = Progress(
            trainer.step if point is None else point.step,
            trainer.budget.expected_steps(trainer.step),
            trainer.seconds,
            self._rate(),
            rows[0] if rows else None,
            evaluated=point is not None,
            batch_loss=trainer.losses.recent_mean,
            members=trainer.members,
            psnr=rows[0]["psnr"] if rows else None,
            models_now=trainer.models_now,
        )
        self.asked_to_stop = bool(self.callback(progress)) or self.asked_to_stop

    def _rate(self) -> float:
        """Steps a second of this run; the first ones, which may compile, count while there are no others."""
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
        if np.isfinite(state.parameters).all():  # if not, the next evaluation will tell
            self.checkpoint(state)
        self.last_checkpoint = time.perf_counter()
