"""Train one network on one picture: everything that its steps touch, and the loop over them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from ..config import FitConfig
from ..images import Picture
from ..models import memory
from ..optimizers.base import Optimizer
from ..optimizers.gauss_newton import Damping, GaussNewtonStep
from ..optimizers.last_layer import Polish, polish
from ..optimizers.make import make_optimizer
from ..pixels.rows import GridRows
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from .deferred_evaluation import FINAL, DeferredEvaluation, Evaluated, Point
from .member import HistoryRow, Member
from .state import Callback, Progress, TrainingState
from .step import TrainingStep
from .step_losses import StepLosses

if TYPE_CHECKING:
    from .result import FitResult

_TICK_SECONDS = 0.2
_CHECKPOINT_SECONDS = 30.0


class Trainer:
    """One fit of one picture: everything that its steps touch, and the loop over them.

    Parameters
    ----------
    state : TrainingState, optional
        Where an earlier run stopped; this one then goes on from there.
    known : boolean array (H, W), optional
        The pixels that training may see, instead of those that `config.train_on` names.
    """

    def __init__(
        self,
        picture: Picture,
        config: FitConfig,
        backend: Backend,
        state: TrainingState | None = None,
        *,
        known: NDArray[np.bool_] | None = None,
    ) -> None:
        memory.check(memory.need_of_training(config, picture.pixels.shape, backend), backend, "this run")
        self.picture, self.config, self.backend = picture, config, backend
        B, before = (None, None) if state is None else (state.B, state.parameters)
        self.member = member = Member(backend, picture, config, known=known, B=B, parameters=before)
        self.model, self.steps = member.model, member.steps
        parameters = self.model.mlp.parameters
        self.optimizer: Optimizer | Damping = (
            Damping(backend, parameters, dtype=config.dtype)
            if config.optimizer == "gauss-newton"
            else make_optimizer(backend, config, parameters, self.model.mlp.layout)
        )
        self.pixels = self._training_pixels()
        self.training_step = self._new_training_step()
        self.step, self.seconds = 0, 0.0
        self.is_in_a_step = False
        """Whether parameters and optimizer state are between two steps, as after an exception in the middle."""
        self.losses = StepLosses()
        if state is not None:
            self.restore(state)
            # A run that was stopped between two evaluations has a row that an unbroken one would not have.
            member.history = [row for row in state.history if member.is_on_the_way(row, state.step)]

    @property
    def history(self) -> list[HistoryRow]:
        """One row for each evaluation so far."""
        return self.member.history

    def _training_pixels(self) -> TrainingPixels:
        backend, dtype, member = self.backend, self.config.dtype, self.member
        grid, all_of_them = self.model.picture.grid, bool(member.train.all())
        seen = member.target if all_of_them else member.target[member.train]  # all of them are not copied
        if member.known is not None and not all_of_them:
            coordinates = backend.asarray(grid.coordinates(np.flatnonzero(member.train)), dtype)
        else:
            stride = 2 if self.config.train_on == "every-second" and member.known is None else 1
            coordinates = GridRows(backend, grid, stride, dtype)
        return TrainingPixels(backend, coordinates, backend.asarray(seen, dtype))

    def _new_training_step(self) -> TrainingStep | GaussNewtonStep:
        backend, member, model, optimizer = self.backend, self.member, self.model, self.optimizer
        step_inputs = StepInputs(
            lambda step: (member.learning_rate(step),), () if member.order is None else (member.order,)
        )
        if isinstance(optimizer, Damping):
            return GaussNewtonStep(
                backend, model.encoder, model.mlp, optimizer, self.pixels, member.batch_rows, step_inputs
            )
        step = TrainingStep(
            backend,
            model.encoder,
            model.mlp,
            member.loss,
            optimizer,
            self.pixels,
            member.batch_rows,
            step_inputs,
        )
        if step.features is not None and member.train.all():
            member.know_features(step.features)
        return step

    # -- the loop ------------------------------------------------------------------------------------

    def run(
        self,
        *,
        callback: Callback | None = None,
        checkpoint: Callable[[TrainingState], None] | None = None,
    ) -> FitResult:
        """Train until a budget is spent, and return what came of it.

        Parameters
        ----------
        callback
            Told of the progress; returning True ends the run.
        checkpoint
            Given the state every half minute and at the end.
        """
        from .result import make_result

        with self.backend.activate():
            stopped = _Loop(self, callback, checkpoint).run()
            state, polished = self.state(), None
            if self.config.polish == "ridge" and stopped != "diverged":
                polished = self.polish()
            losses = self.losses.array
            return make_result(self.member, state, stopped, self.backend, losses=losses, polished=polished)

    def polish(self) -> Polish:
        """Put the least-squares solution in the last layer's place.

        States and checkpoints are taken before it, so that a run that goes on equals an unbroken one.
        """
        return polish(self.model.mlp, self.model.encoder, self.pixels)

    def take_step(self) -> None:
        """One optimizer step on the next batch."""
        self.training_step.advance(self.step)
        self.step += 1

    def take_steps(self, limit: int) -> None:
        """As many steps as go at once on this backend, at most `limit`."""
        count = min(limit, self.training_step.steps_at_once)
        self.is_in_a_step = True
        if count == 1:
            self.take_step()
        else:
            self.training_step.advance(self.step, count)
            self.step += count
        self.is_in_a_step = False

    def collect_losses(self, wait: bool = False) -> None:
        """Take in the losses of steps that have come from the device; with `wait`, of all steps so far."""
        self.losses.add(self.training_step.new_losses(wait))

    @property
    def learning_rate(self) -> float:
        """Of the step that comes next."""
        return self.member.learning_rate(self.step)

    # -- stopping and going on -----------------------------------------------------------------------

    def state(self) -> TrainingState:
        """A copy of where the run stands, on the host."""
        return TrainingState(
            step=self.step,
            seconds=self.seconds,
            parameters=self._to_host(self.model.mlp.parameters),
            optimizer={name: self._to_host(array) for name, array in self.optimizer.state.items()},
            B=self.member.B,
            picture_digest=self.picture.digest,
            history=list(self.history),
        )

    def _to_host(self, array: Array) -> NDArray[Any]:
        return np.array(self.backend.to_numpy(array))

    def restore(self, state: TrainingState) -> None:
        """Put the run where `state` was taken."""
        self.step, self.seconds = state.step, state.seconds
        self.model.mlp.parameters[...] = self.backend.asarray(state.parameters, self.config.dtype)
        self.optimizer.steps = state.step
        for name, array in self.optimizer.state.items():
            array[...] = self.backend.asarray(state.optimizer[name], self.config.dtype)


class _Loop:
    """The loop over steps: clocks, evaluations, callbacks, checkpoints, and the reason to stop.

    Figures may come some steps after they were asked for (`DeferredEvaluation`): nothing in the loop waits
    for them but a checkpoint, each half minute.
    """

    def __init__(
        self,
        trainer: Trainer,
        callback: Callback | None,
        checkpoint: Callable[[TrainingState], None] | None,
    ) -> None:
        self.trainer, self.callback, self.checkpoint = trainer, callback, checkpoint
        self.began = self.last_tick = self.last_checkpoint = time.perf_counter()
        self.steps_before, self.seconds_before = trainer.step, trainer.seconds
        arrays = [trainer.model.mlp.parameters, *trainer.optimizer.state.values()]
        self.evaluations = DeferredEvaluation(
            trainer.backend, arrays, lambda: trainer.member.evaluate.sums()[None, :], trainer.seconds
        )
        self.good: Point | None = None
        self.asked_to_stop = False
        self.warm: tuple[int, float] | None = None

    def run(self) -> str:
        try:
            stopped = self._end(self._take_steps())
            if self.checkpoint is not None and self.trainer.history:
                self.checkpoint(self.trainer.state())
        except KeyboardInterrupt:
            self._keep_what_is_whole()
            raise
        return stopped

    def _keep_what_is_whole(self) -> None:
        """Save where the run stands; where a step was broken off, go back to the latest figures first."""
        trainer = self.trainer
        if trainer.is_in_a_step and self.good is not None:
            self._go_back(self.good)
            trainer.is_in_a_step = False
        if self.checkpoint is not None and trainer.history and not trainer.is_in_a_step:
            self._save()

    def _take_steps(self) -> str | None:
        """Train until something ends the run, and return what; None where all steps have been taken."""
        trainer = self.trainer
        if self._owes_an_evaluation():
            self._ask()
        else:
            self.good, self.evaluations.last_step = self._point(), trainer.step
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
        """Whether this step lacks its row: at the start, and where a run was killed between step and row."""
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
                if now - self.last_tick >= _TICK_SECONDS:
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
        self.trainer.member.budget.correct(step, taken, now - self.began, self._seconds_left(now))

    def _seconds_left(self, now: float) -> float:
        limit = self.trainer.config.seconds
        return math.inf if limit is None else limit - (now - self.began + self.seconds_before)

    def _out_of_time_or_asked(self) -> str | None:
        if self._seconds_left(time.perf_counter()) <= 0.0:
            return "seconds"
        return "interrupted" if self.asked_to_stop else None

    # -- figures ---------------------------------------------------------------------------------------

    def _point(self) -> Point:
        return self.evaluations.point(self.trainer.step, [self.trainer.learning_rate])

    def _ask(self) -> None:
        """Ask for the figures of where the run stands."""
        self.evaluations.submit(self.trainer.step, [self.trainer.learning_rate])

    def _take_in(self, wait: bool = False) -> str | None:
        """Judge by the figures that have come; the reason to stop, if they give one."""
        if wait:
            self.trainer.collect_losses(wait=True)
        for judged in self.evaluations.poll(wait):
            if verdict := self._verdict(judged):
                return verdict
        return None

    def _verdict(self, judged: Evaluated) -> str | None:
        """Add a row to the history; the reason to stop, with the run put back to where it stands."""
        trainer, point = self.trainer, judged.point
        figures = trainer.member.evaluate.read(judged.sums[0])
        # The parameters too: a ReLU that turns NaN into 0 hides from the loss what an early layer has become.
        if not (math.isfinite(figures.loss) and judged.is_finite[0]):
            self._go_back(self.good or point)
            return "diverged"
        row = trainer.member.add_history_row(figures, point.step, judged.seconds, point.learning_rates[0])
        if self.good is not None:
            self.evaluations.release(self.good)
        self.good = point
        if point.step == trainer.step:
            trainer.seconds = judged.seconds
        with self.evaluations.showing(point):
            self._tell(row)
        target = trainer.config.target_psnr
        if target is None or figures.psnr_train < target:
            return None
        trainer.collect_losses(wait=True)
        trainer.losses.drop_last(trainer.step - point.step)
        self._go_back(point)
        return "target_psnr"

    def _go_back(self, point: Point) -> None:
        """Put the run back to a point."""
        trainer = self.trainer
        self.evaluations.restore(point)
        self.evaluations.cancel()
        trainer.step = trainer.optimizer.steps = point.step
        if trainer.history:
            trainer.seconds = float(trainer.history[-1]["seconds"] or 0.0)

    def _tell(self, row: HistoryRow | None = None) -> None:
        """Tell the callback how far the run is, or of a new row."""
        self.last_tick = time.perf_counter()
        if self.callback is None:
            return
        trainer = self.trainer
        step = trainer.step if row is None else int(row["step"] or 0)
        latest = trainer.history[-1] if trainer.history else None
        rate = self._rate()
        steps, batch_loss = trainer.member.budget.expected_steps(trainer.step), trainer.losses.recent_mean
        progress = Progress(step, steps, trainer.seconds, rate, latest, row is not None, batch_loss)
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
        return time.perf_counter() - self.last_checkpoint >= _CHECKPOINT_SECONDS

    def _save(self) -> None:
        assert self.checkpoint is not None
        state = self.trainer.state()
        if np.isfinite(state.parameters).all():  # if not, the next evaluation will tell
            self.checkpoint(state)
        self.last_checkpoint = time.perf_counter()
