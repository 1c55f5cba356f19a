"""K networks trained together as one batch: the same step, on arrays with an ensemble axis.

Members may differ in picture, mask, seed, encoding, sigma, learning rate, schedule, loss and initializer; what
shapes the arrays must agree (`shape_key`). K networks trained together equal K trained alone, to rounding.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from ..config import FitConfig
from ..encoders.registry import join_encoders
from ..errors import ConfigError
from ..images import Picture
from ..models import memory
from ..models.model import Model
from ..network.activations import make_activation
from ..network.cost import layer_sizes
from ..network.mlp import MLP
from ..network.parameters import ParameterLayout
from ..optimizers.last_layer import Polish, solve_last_layer
from ..optimizers.make import make_optimizer
from ..pixels.rows import GridRows
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from .deferred_evaluation import FINAL, DeferredEvaluation, Evaluated, Point
from .member import Member
from .result import FitResult, make_result
from .state import Progress, TrainingState
from .step import TrainingStep
from .step_losses import StepLosses
from .trainer import Trainer

# Settings in which the members of one batch may differ.
FREE = (
    "encoding",
    "sigma",
    "seed",
    "learning_rate",
    "schedule",
    "warmup_steps",
    "final_factor",
    "loss",
    "delta",
    "initializer",
    "output_start",
    "train_on",
    "size",
    "background",
)


@dataclass(frozen=True)
class Job:
    """One network to be trained: a picture, settings and, where there is one, a mask of known pixels (H, W)."""

    picture: Picture
    config: FitConfig
    known: NDArray[np.bool_] | None = None

    @property
    def shape_key(self) -> tuple[object, ...]:
        """Equal for jobs that can be members of one batch."""
        settings = dataclasses.asdict(self.config)
        fixed = tuple((name, value) for name, value in settings.items() if name not in FREE)
        num_pixels = None if self.known is None else int(self.known.sum())
        train_on = self.config.train_on if self.known is None else ""
        return (*fixed, self.picture.pixels.shape, num_pixels, train_on)


@dataclass(frozen=True)
class EnsembleProgress:
    """What a callback is told a few times a second and after each evaluation.

    The members are in the order of the jobs.
    """

    step: int
    steps: int
    seconds: float
    members: list[Member]
    evaluated: bool = True
    """Whether the members have a new row, which their models are of."""


Callback = Callable[[EnsembleProgress], bool | None]
ShouldStop = Callable[[], bool]
"""Asked after each step whether the run is to end; it ends with an evaluation then."""
Trial = Callable[[int, int], object]
"""Told of the steps taken and of all steps, a few times a second."""

_TICK_SECONDS = 0.2


def _never() -> bool:
    return False


def group_by_shape(jobs: Sequence[Job]) -> list[list[int]]:
    """Indices of the jobs that can be trained together, group by group, in the order of their first jobs."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(job.shape_key, []).append(index)
    return list(groups.values())


def fit_together(
    jobs: Sequence[Job],
    backend: Backend,
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
) -> list[FitResult]:
    """Train jobs of one shape as one batch; one result for each, in their order."""
    with backend.activate():
        if jobs and jobs[0].config.optimizer == "gauss-newton":
            return [_fit_alone(job, backend, callback, should_stop) for job in jobs]
        return EnsembleTrainer(jobs, backend).run(callback, should_stop)


def _fit_alone(
    job: Job, backend: Backend, callback: Callback | None, should_stop: ShouldStop | None
) -> FitResult:
    """One member by itself: a batch saves calls, and a Gauss-Newton step is few calls on large matrices."""
    trainer = Trainer(job.picture, job.config, backend, known=job.known)

    def tell(progress: Progress) -> bool:
        if should_stop is not None and should_stop():
            return True
        if callback is None:
            return False
        members, evaluated = [trainer.member], progress.evaluated
        told = EnsembleProgress(progress.step, progress.steps, progress.seconds, members, evaluated)
        return bool(callback(told))

    return trainer.run(callback=tell)


class EnsembleTrainer:
    """Everything that the steps of K members touch, and the loop over them.

    Parameters
    ----------
    jobs : sequence of Job
        All of one `shape_key`; ConfigError where they are not.
    """

    def __init__(self, jobs: Sequence[Job], backend: Backend) -> None:
        if not jobs or len({job.shape_key for job in jobs}) > 1:
            raise ConfigError(
                "networks that are trained together must have the same shapes, steps and optimizer"
            )
        if jobs[0].config.optimizer == "gauss-newton":
            raise ConfigError("gauss-newton trains one network at a time")
        self.backend, self.config = backend, jobs[0].config
        need = memory.need_of_training(self.config, jobs[0].picture.pixels.shape, backend, len(jobs))
        memory.check(need, backend, f"this batch of {len(jobs)} networks")
        self.members = [Member(backend, job.picture, job.config, known=job.known) for job in jobs]
        # Neighbours share a loss, so that the loss of the batch is one call for each kind.
        self._sorted = sorted(self.members, key=lambda m: (m.config.loss, m.config.delta))
        first = self.members[0]
        self.steps, self.budget = first.steps, first.budget
        for member in self.members:
            member.budget = self.budget  # and with it the estimate of where seconds end
        self.step = 0
        self.losses = StepLosses()

        encoders = [member.model.encoder for member in self._sorted]
        self.encoder = join_encoders(backend, encoders, self.config.dtype)
        sizes = layer_sizes(self.config, self.encoder.num_features, first.picture.channels)
        self.layout = ParameterLayout(sizes)
        self.parameters = backend.zeros((len(jobs), self.layout.size), self.config.dtype)
        for k, member in enumerate(self._sorted):
            self._copy(member, member.model.mlp.parameters, self.parameters[k, ...], into_batch=True)
        self.mlp = MLP(
            backend,
            sizes,
            self.parameters,
            make_activation(self.config.activation, omega=self.config.omega),
            make_activation(self.config.output_activation, omega=self.config.omega),
            rows=1,
            dtype=self.config.dtype,
        )
        self.optimizer = make_optimizer(backend, self.config, self.parameters, self.layout)
        losses = [member.loss for member in self._sorted]
        self.pixels, self.step_inputs = self._pixels(), self._course()
        self.training_step = TrainingStep(
            backend,
            self.encoder,
            self.mlp,
            losses,
            self.optimizer,
            self.pixels,
            first.batch_rows,
            self.step_inputs,
        )
        arrays = [self.parameters, *self.optimizer.state.values()]
        self.evaluations = DeferredEvaluation(backend, arrays, self._sums, 0.0)
        if (features := self.training_step.features) is not None:
            for k, member in enumerate(self._sorted):
                member.know_features(features if features.ndim == 2 else features[k, ...])
        self._good: list[Evaluated | None] = [None] * len(jobs)
        self._diverged: set[int] = set()
        self._asked, self._last_tick, self._judged_seconds = False, time.perf_counter(), 0.0

    # -- what the members share -------------------------------------------------------------------------

    def _pixels(self) -> TrainingPixels:
        """All pixels of the pictures: members choose theirs by number."""
        backend, dtype, first = self.backend, self.config.dtype, self.members[0]
        same = all(member.picture.pixels is first.picture.pixels for member in self.members)
        target = first.target if same else np.stack([member.target for member in self._sorted])
        grid = first.model.picture.grid
        return TrainingPixels(backend, GridRows(backend, grid, 1, dtype), backend.asarray(target, dtype))

    def _course(self) -> StepInputs:
        """Who chooses which pixels: one order of batches and one set of training pixels, or one for each."""
        members = self._sorted
        orders = [member.order for member in members if member.order is not None]
        same_mask = all(np.array_equal(member.train, members[0].train) for member in members[1:])
        shared = same_mask and len({order.seed for order in orders}) <= 1
        count = 1 if shared else len(members)
        counts_all = all(bool(member.train.all()) for member in members)
        numbers = None if counts_all else [np.flatnonzero(member.train) for member in members[:count]]
        return StepInputs(self._rates, orders[:count], numbers)

    def _rates(self, step: int) -> list[float]:
        return [member.learning_rate(step) for member in self._sorted]

    def _copy(self, member: Member, own: Array, batch: Array, *, into_batch: bool) -> None:
        """Copy flat parameters between a member's own layout and its row of the batch."""
        xp = self.backend.xp
        views = zip(member.model.mlp.layout.views(xp, own), self.layout.views(xp, batch), strict=True)
        for (W, b), (W_batch, b_batch) in views:
            inputs = W.shape[-2]  # the first layer of an encoding with fewer features is padded
            if into_batch:
                W_batch[..., :inputs, :], b_batch[...] = W, b
            else:
                W[...], b[...] = W_batch[..., :inputs, :], b_batch

    # -- the loop ---------------------------------------------------------------------------------------

    def run(self, callback: Callback | None = None, should_stop: ShouldStop | None = None) -> list[FitResult]:
        """Train until the budget is spent; results in the order of the jobs."""
        try:
            return self._run(callback, should_stop or _never)
        except KeyboardInterrupt:  # the members' own models are whole, and may be saved
            for k, good in enumerate(self._good):
                if good is not None:
                    self._show_member(k, good.point.arrays[0])
            raise

    def _run(self, callback: Callback | None, should_stop: ShouldStop) -> list[FitResult]:
        def asked_to_stop() -> bool:
            self._asked = self._asked or should_stop() or (self._is_time_to_tell() and self._tell(callback))
            return self._asked

        stopped = self._take_steps(callback, asked_to_stop)
        if stopped not in FINAL:
            stopped = self._take_in(callback, wait=True) or stopped
        polished = self._polish() if self.config.polish == "ridge" else [None] * len(self.members)
        results = {
            id(member): self._result(member, stopped or "steps", polish)
            for member, polish in zip(self._sorted, polished, strict=True)
        }
        return [results[id(member)] for member in self.members]

    def _take_steps(self, callback: Callback | None, asked_to_stop: ShouldStop) -> str | None:
        """Train until something ends the run, and return what; None where all steps have been taken."""
        began = time.perf_counter()
        self._ask()
        stopped = self._take_in(callback)
        while stopped is None and self.step < self.steps:
            self._train_until(self.members[0].next_evaluation(self.step), asked_to_stop, began)
            self._ask()
            stopped = self._take_in(callback)
            if stopped is None and asked_to_stop():
                stopped = "interrupted"
            if stopped is None and self._seconds_left(began) <= 0.0:
                stopped = "seconds"
        return stopped

    def _polish(self) -> Sequence[Polish | None]:
        """Solve the last layers of all members; their states were taken before, as in a single run."""
        start = time.perf_counter()
        before, after = solve_last_layer(
            self.mlp, self.encoder, self.pixels, chosen=self.step_inputs.numbers_on(self.backend)
        )
        for k, member in enumerate(self._sorted):
            self._copy(member, member.model.mlp.parameters, self.parameters[k, ...], into_batch=False)
        seconds = time.perf_counter() - start
        errors = zip(self.backend.to_numpy(before), self.backend.to_numpy(after), strict=True)
        return [Polish(float(b), float(a), seconds) for b, a in errors]

    def _is_time_to_tell(self) -> bool:
        now = time.perf_counter()
        if now - self._last_tick < _TICK_SECONDS:
            return False
        self._last_tick = now
        return True

    def _tell(self, callback: Callback | None) -> bool:
        """Tell the callback of a step between two evaluations; whether the run is to end."""
        steps, seconds = self.budget.expected_steps(self.step), self._judged_seconds
        told = EnsembleProgress(self.step, steps, seconds, self.members, evaluated=False)
        return callback is not None and bool(callback(told))

    def train(self, trial: Trial | None = None) -> list[Model]:
        """Take all steps without a look on the way; the models in the order of the jobs."""

        def tell() -> bool:
            if trial is not None and self._is_time_to_tell():
                trial(self.step, self.steps)
            return False

        if trial is not None:
            trial(self.step, self.steps)
        self._train_until(self.steps, tell)
        if trial is not None:
            trial(self.step, self.steps)
        for k, member in enumerate(self._sorted):
            self._copy(member, member.model.mlp.parameters, self.parameters[k, ...], into_batch=False)
        return [member.model for member in self.members]

    def _seconds_left(self, began: float) -> float:
        limit = self.config.seconds
        return math.inf if limit is None else limit - (time.perf_counter() - began)

    def _train_until(self, stop: int, asked_to_stop: ShouldStop = _never, began: float | None = None) -> None:
        began = time.perf_counter() if began is None else began
        with self.evaluations.training():
            while self.step < stop and (left := self._seconds_left(began)) > 0.0 and not asked_to_stop():
                self.budget.correct(self.step, self.step, time.perf_counter() - began, left)
                count = min(stop - self.step, self.training_step.steps_at_once)
                self.training_step.advance(self.step, count)
                self.step += count
        self.collect_losses()

    def collect_losses(self, wait: bool = False) -> None:
        """Take in the losses of steps that have come from the device; with `wait`, of all steps so far."""
        self.losses.add(self.training_step.new_losses(wait))

    # -- figures, which may come some steps later: see `evaluations` ------------------------------------------

    def _ask(self) -> None:
        """Ask for the figures of all members as they are now."""
        self.evaluations.submit(self.step, self._rates(self.step))

    def _sums(self) -> Array:
        self._show(self.parameters)
        return self.backend.xp.stack([member.evaluate.sums() for member in self._sorted])

    def _show(self, parameters: Array) -> None:
        """Give each member's own model its row of the batch."""
        for k in range(len(self._sorted)):
            self._show_member(k, parameters)

    def _show_member(self, k: int, parameters: Array) -> None:
        member = self._sorted[k]
        self._copy(member, member.model.mlp.parameters, parameters[k, ...], into_batch=False)

    def _take_in(self, callback: Callback | None, wait: bool = False) -> str | None:
        """Judge by the figures that have come; the reason to stop, if they give one."""
        if wait:
            self.collect_losses(wait=True)
        for judged in self.evaluations.poll(wait):
            if verdict := self._verdict(judged, callback):
                return verdict
        return None

    def _verdict(self, judged: Evaluated, callback: Callback | None) -> str | None:
        """Add a row to each member's history; the reason to stop, if there is one."""
        self._add_rows(judged)
        self._judged_seconds = judged.seconds
        target, point = self.config.target_psnr, judged.point
        if len(self._diverged) == len(self.members):
            self.evaluations.cancel()
            return "diverged"
        if target is not None and all(
            (m.history[-1]["psnr_train"] or 0.0) >= target for m in self.members if m.history
        ):
            self._go_back(point)
            return "target_psnr"
        if callback is None:
            return None
        self._show(point.arrays[0])  # the run may have gone on, or an earlier point have been shown
        steps = self.budget.expected_steps(self.step)
        told = EnsembleProgress(point.step, steps, judged.seconds, self.members)
        return "interrupted" if callback(told) else None

    def _add_rows(self, judged: Evaluated) -> None:
        """Add a row for each member that has not diverged, and keep where it is good."""
        before = {good.point for good in self._good if good is not None}
        for k, member in enumerate(self._sorted):
            if k in self._diverged:
                continue
            figures = member.evaluate.read(judged.sums[k])
            # The parameters too: see `training`.
            if math.isfinite(figures.loss) and judged.is_finite[k]:
                point = judged.point
                member.add_history_row(figures, point.step, judged.seconds, point.learning_rates[k])
                self._good[k] = judged
            else:
                self._diverged.add(k)
                self._good[k] = self._good[k] or judged
        kept = {good.point for good in self._good if good is not None}
        for point in (before | {judged.point}) - kept:
            self.evaluations.release(point)

    def _go_back(self, point: Point) -> None:
        """Put all members back to a point."""
        self.collect_losses(wait=True)
        self.losses.drop_last(self.step - point.step)
        self.evaluations.restore(point)
        self.evaluations.cancel()
        self.step = self.optimizer.steps = point.step

    def _state(self, member: Member) -> TrainingState:
        """Where one member was good last, on the host, as a run of its own would keep it."""
        k = self._sorted.index(member)
        good = self._good[k]
        assert good is not None, "the first figures have been waited for"
        own = self.backend.zeros(member.model.mlp.parameters.shape, self.config.dtype)
        found = []
        for rows in good.point.arrays:
            self._copy(member, own, rows[k, ...], into_batch=False)
            found.append(np.array(self.backend.to_numpy(own)))
        return TrainingState(
            step=good.point.step,
            seconds=good.seconds,
            parameters=found[0],
            optimizer=dict(zip(self.optimizer.state, found[1:], strict=True)),
            B=member.B,
            picture_digest=member.picture.digest,
            history=list(member.history),
        )

    def _result(self, member: Member, stopped: str, polished: Polish | None) -> FitResult:
        k, state = self._sorted.index(member), self._state(member)
        if k in self._diverged:
            stopped, polished = "diverged", None
        if polished is None:
            member.model.mlp.parameters[...] = self.backend.asarray(state.parameters, self.config.dtype)
        losses = self.losses.array
        own = losses[:, k] if losses.ndim > 1 else losses
        return make_result(
            member, state, stopped, self.backend, len(self.members), losses=own, polished=polished
        )
