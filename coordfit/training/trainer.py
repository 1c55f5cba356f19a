"""Train K networks as one batch, K = 1 included: everything that their steps touch.

One network's arrays have no ensemble axis, and its model is what is trained. Several have an axis of members,
and each model is a copy of its row. Members may differ in picture, mask, seed, encoding, sigma, learning rate,
schedule, loss and initializer; what shapes the arrays must agree (`Job.shape_key`). K networks trained together
equal K trained alone, to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from ..encoders.base import Encoder
from ..encoders.registry import join_encoders
from ..errors import ConfigError
from ..models import memory
from ..models.model import Model
from ..network.activations import make_activation
from ..network.cost import layer_sizes
from ..network.mlp import MLP
from ..network.parameters import ParameterLayout
from ..optimizers.base import Optimizer
from ..optimizers.gauss_newton import Damping, GaussNewtonStep
from ..optimizers.last_layer import Polish, solve_last_layer
from ..optimizers.make import make_optimizer
from ..pixels.rows import GridRows
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from .job import Job
from .loop import Loop
from .member import HistoryRow, Member
from .result import FitResult, make_result
from .state import CALLBACK_SECONDS, Callback, Checkpoint, ShouldStop, TrainingState, Trial
from .step import TrainingStep
from .step_losses import StepLosses


class Trainer:
    """K networks, and everything that their steps touch.

    Parameters
    ----------
    jobs : sequence of Job
        All of one `shape_key`; ConfigError if they are not.
    state : TrainingState, optional
        Where an earlier run of one network stopped; this one then goes on from there.
    """

    def __init__(self, jobs: Sequence[Job], backend: Backend, state: TrainingState | None = None) -> None:
        _check(jobs, backend)
        self.backend, self.config = backend, jobs[0].config
        before = None if state is None else (state.encoder_state, state.parameters)
        self.members = [
            Member(backend, job.picture, job.config, known=job.known, weights=job.weights, before=before)
            for job in jobs
        ]
        # Neighbours share a loss, so that the loss of the batch is one call for each kind.
        self.ordered = sorted(self.members, key=lambda m: (str(m.config.loss), m.config.delta))
        self.steps, self.budget = self.member.steps, self.member.budget
        for member in self.members:
            member.budget = self.budget  # and with it the estimate of where seconds end
        self.encoder, self.mlp = self._network()
        for k in range(0 if self.is_alone else len(jobs)):
            self._copy_member(k, self.mlp.parameters, into_batch=True)
        self.optimizer: Optimizer | Damping = (
            Damping(backend, self.mlp.parameters, dtype=self.config.dtype)
            if self.config.optimizer == "gauss-newton"
            else make_optimizer(backend, self.config, self.mlp.parameters, self.mlp.layout)
        )
        self.step_inputs, self.pixels = self._step_inputs(), self._training_pixels()
        self.training_step = self._new_training_step()
        self.step, self.seconds = 0, 0.0
        self.is_in_a_step = False
        """Whether parameters and optimizer state are between two steps, as after an exception in the middle."""
        self.losses = StepLosses()
        if state is not None:
            self.restore(state)
            # A run that was stopped between two evaluations has a row that an unbroken one would not have.
            member = self.member
            member.history = [row for row in state.history if member.is_on_the_way(row, state.step)]

    @property
    def member(self) -> Member:
        """The first network: the only one, if there is one."""
        return self.members[0]

    @property
    def model(self) -> Model:
        """The first network's model; of several see `show`."""
        return self.member.model

    @property
    def history(self) -> list[HistoryRow]:
        """One row of the first network for each evaluation so far."""
        return self.member.history

    @property
    def is_alone(self) -> bool:
        """Whether there is one network, whose model is what is trained."""
        return len(self.members) == 1

    @property
    def arrays(self) -> list[Array]:
        """What steps change: the parameters (*E, P), then the optimizer's state."""
        return [self.mlp.parameters, *self.optimizer.state.values()]

    # -- what the steps touch ------------------------------------------------------------------------

    def _network(self) -> tuple[Encoder, MLP]:
        """One network's own encoder and layers; of several, new ones with an ensemble axis."""
        if self.is_alone:
            return self.model.encoder, self.model.mlp
        backend, config = self.backend, self.config
        encoder = join_encoders(backend, [member.model.encoder for member in self.ordered], config.dtype)
        sizes = layer_sizes(config, encoder.num_features, self.member.picture.channels)
        activations = (
            make_activation(name, omega=config.omega) for name in (config.activation, config.output_activation)
        )
        shapes = self.model.mlp.layout.encoder_shapes
        parameters = backend.zeros((len(self.members), ParameterLayout(sizes, shapes).size), config.dtype)
        mlp = MLP(backend, sizes, parameters, *activations, rows=1, dtype=config.dtype, encoder_shapes=shapes)
        return mlp.give_parameters(encoder), mlp

    def _step_inputs(self) -> StepInputs:
        """Return which pixels a step takes: one order of batches and one set of pixels, or one for each."""
        members = self.ordered
        orders = [member.order for member in members if member.order is not None]
        if self.is_alone:  # its training pixels are all that there are
            return StepInputs(self.learning_rates, orders)
        same_mask = all(np.array_equal(member.train, members[0].train) for member in members[1:])
        shared = same_mask and len({order.seed for order in orders}) <= 1
        count = 1 if shared else len(members)
        sees_all = all(bool(member.train.all()) for member in members)
        numbers = None if sees_all else [np.flatnonzero(member.train) for member in members[:count]]
        return StepInputs(self.learning_rates, orders[:count], numbers)

    def _training_pixels(self) -> TrainingPixels:
        """Return one network's training pixels; of several all pixels, and each takes its own by number."""
        backend, dtype, first = self.backend, self.config.dtype, self.member
        if not self.is_alone:
            same = all(member.picture.pixels is first.picture.pixels for member in self.members)
            target = first.target if same else np.stack([member.target for member in self.ordered])
            own = [member.weights for member in self.ordered if member.weights is not None]
            weights = backend.asarray(np.stack(own), dtype) if own else None
            return TrainingPixels(backend, self._grid_rows(1), backend.asarray(target, dtype), weights)
        sees_all = bool(first.train.all())
        seen = first.target if sees_all else first.target[first.train]  # all of them are not copied
        if first.known is not None and not sees_all:
            numbers = np.flatnonzero(first.train)
            coordinates = backend.asarray(first.model.picture.grid.coordinates(numbers), dtype)
        else:
            every_second = self.config.train_on == "every-second" and first.known is None
            coordinates = self._grid_rows(2 if every_second else 1)
        weights = None if first.weights is None else backend.asarray(first.weights[first.train], dtype)
        return TrainingPixels(backend, coordinates, backend.asarray(seen, dtype), weights)

    def _grid_rows(self, stride: int) -> GridRows:
        return GridRows(self.backend, self.model.picture.grid, stride, self.config.dtype)

    def _new_training_step(self) -> TrainingStep | GaussNewtonStep:
        first, inputs = self.member, self.step_inputs
        if isinstance(self.optimizer, Damping):
            return GaussNewtonStep(
                self.backend, self.encoder, self.mlp, self.optimizer, self.pixels, first.batch_rows, inputs
            )
        step = TrainingStep(
            self.backend,
            self.encoder,
            self.mlp,
            first.loss if self.is_alone else [member.loss for member in self.ordered],
            self.optimizer,
            self.pixels,
            first.batch_rows,
            inputs,
        )
        features = step.features
        if features is not None and self.pixels.size == len(first.target):
            for k, member in enumerate(self.ordered):
                member.know_features(features if features.ndim == 2 else features[k, ...])
        return step

    def _copy_member(self, k: int, batch: Array, own: Array | None = None, *, into_batch: bool = False) -> None:
        """Copy between row k of a batch (K, P) and a network's own layout: its model's, or `own`."""
        xp, mlp = self.backend.xp, self.ordered[k].model.mlp
        own_arrays = mlp.layout.arrays(xp, mlp.parameters if own is None else own)
        arrays = zip(own_arrays, self.mlp.layout.arrays(xp, batch[k, ...]), strict=True)
        for array, in_batch in arrays:
            part = in_batch[..., : array.shape[-2], :]  # the first layer may be padded: see `MixedEncoder`
            if into_batch:
                part[...] = array
            else:
                array[...] = part

    # -- steps ---------------------------------------------------------------------------------------

    def run(
        self,
        callback: Callback | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[FitResult]:
        """Train until a budget is spent; results in the order of the jobs.

        Parameters
        ----------
        callback
            Told of the progress; returning True ends the run.
        checkpoint
            Given the state of one network every half minute and at the end.
        should_stop
            Asked after each step; True ends the run.
        """
        with self.backend.activate():
            loop = Loop(self, callback, checkpoint, should_stop)
            stopped = loop.run()
            states = [loop.state_of(k) for k in range(len(self.ordered))]
            polished: Sequence[Polish | None] = [None] * len(states)
            if self.config.polish == "ridge" and stopped != "diverged":
                polished = self.polish()
            reasons = ["diverged" if k in loop.diverged else stopped for k in range(len(states))]
            results = [
                self._result(k, *end) for k, end in enumerate(zip(states, reasons, polished, strict=True))
            ]
            return [results[self.ordered.index(member)] for member in self.members]

    def _result(self, k: int, state: TrainingState, stopped: str, polished: Polish | None) -> FitResult:
        member = self.ordered[k]
        if stopped == "diverged" or polished is None:
            polished = None
            member.model.mlp.parameters[...] = self.backend.asarray(state.parameters, self.config.dtype)
        losses, networks = self.losses.of_member(k), len(self.members)
        return make_result(member, state, stopped, self.backend, networks, losses=losses, polished=polished)

    def train(self, trial: Trial | None = None) -> list[Model]:
        """Take all steps without an evaluation; the models in the order of the jobs."""
        last_told = time.perf_counter()
        if trial is not None:
            trial(self.step, self.steps)
        while self.step < self.steps:
            self.take_steps(self.steps - self.step)
            if trial is not None and time.perf_counter() - last_told >= CALLBACK_SECONDS:
                last_told = time.perf_counter()
                trial(self.step, self.steps)
        self.collect_losses()
        if trial is not None:
            trial(self.step, self.steps)
        return self.models_now()

    def take_steps(self, limit: int) -> None:
        """Take as many steps as go at once on this backend, at most `limit`."""
        count = min(limit, self.training_step.steps_at_once)
        self.is_in_a_step = True
        self.training_step.advance(self.step, count)
        self.step += count
        self.is_in_a_step = False

    def collect_losses(self, wait: bool = False) -> None:
        """Take in the losses of steps that have come from the device; with `wait`, of all steps so far."""
        self.losses.add(self.training_step.new_losses(wait))

    def learning_rates(self, step: int) -> list[float]:
        """Return the learning rate of each network for the step that follows `step` steps."""
        return [member.learning_rate(step) for member in self.ordered]

    def polish(self) -> list[Polish]:
        """Put the least-squares solution in the last layer's place, of each network.

        States and checkpoints are taken before it, so that a run that goes on equals an unbroken one.
        """
        start, chosen = time.perf_counter(), self.step_inputs.numbers_on(self.backend)
        found = solve_last_layer(self.mlp, self.encoder, self.pixels, chosen=chosen)
        self.show()
        seconds = time.perf_counter() - start
        before, after = (self.backend.to_numpy(errors).reshape(-1) for errors in found)
        return [Polish(float(b), float(a), seconds) for b, a in zip(before, after, strict=True)]

    # -- models and states ---------------------------------------------------------------------------

    def show(self) -> None:
        """Bring the models up to date with what is trained."""
        for k in range(len(self.ordered)):
            self.show_member(k, self.mlp.parameters)

    def show_member(self, k: int, parameters: Array) -> None:
        """Give a network's model its row of parameters (K, P)."""
        if not self.is_alone:
            self._copy_member(k, parameters)

    def models_now(self) -> list[Model]:
        """Return the models in the order of the jobs, as they are now."""
        self.show()
        return [member.model for member in self.members]

    def sums(self) -> Array:
        """Return what each network's figures are made of: (K, NUM_SUMS), on the device."""
        self.show()
        return self.backend.xp.stack([member.evaluate.sums() for member in self.ordered])

    def state(self) -> TrainingState:
        """Return a copy of where one network's run stands, on the host."""
        return self.state_of(0, self.arrays, self.step, self.seconds)

    def state_of(self, k: int, arrays: Sequence[Array], step: int, seconds: float) -> TrainingState:
        """Return one network's state from copies of `arrays`, as a run of its own would keep it."""
        member = self.ordered[k]
        own = [self._to_host(k, array) for array in arrays]
        return TrainingState(
            step=step,
            seconds=seconds,
            parameters=own[0],
            optimizer=dict(zip(self.optimizer.state, own[1:], strict=True)),
            encoder_state=member.encoder_state,
            picture_digest=member.picture.digest,
            history=list(member.history),
        )

    def _to_host(self, k: int, array: Array) -> NDArray[Any]:
        if not self.is_alone:
            own = self.backend.zeros(self.ordered[k].model.mlp.parameters.shape, self.config.dtype)
            self._copy_member(k, array, own)
            array = own
        return np.array(self.backend.to_numpy(array))

    def restore(self, state: TrainingState) -> None:
        """Put one network's run where `state` was taken."""
        self.step, self.seconds = state.step, state.seconds
        self.mlp.parameters[...] = self.backend.asarray(state.parameters, self.config.dtype)
        self.optimizer.steps = state.step
        for name, array in self.optimizer.state.items():
            array[...] = self.backend.asarray(state.optimizer[name], self.config.dtype)


def _check(jobs: Sequence[Job], backend: Backend) -> None:
    """Refuse jobs that cannot be trained together, and more than fits into memory."""
    if not jobs or len({job.shape_key for job in jobs}) > 1:
        raise ConfigError("networks that are trained together must have the same shapes, steps and optimizer")
    config, count = jobs[0].config, len(jobs)
    if config.optimizer == "gauss-newton" and count > 1:
        raise ConfigError("gauss-newton trains one network at a time")
    need = memory.need_of_training(config, jobs[0].picture.pixels.shape, backend, count)
    memory.check(need, backend, "this run" if count == 1 else f"this batch of {count} networks")


def fit_together(
    jobs: Sequence[Job],
    backend: Backend,
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
) -> list[FitResult]:
    """Train jobs of one shape as one batch; one result for each, in their order."""
    # A batch saves calls, and a Gauss-Newton step is few calls on large matrices.
    one_by_one = bool(jobs) and jobs[0].config.optimizer == "gauss-newton"
    results: list[FitResult] = []
    for group in [[job] for job in jobs] if one_by_one else [jobs]:
        with backend.activate():
            results += Trainer(group, backend).run(callback, should_stop=should_stop)
    return results


def fit_alone(
    job: Job, backend: Backend, callback: Callback | None = None, state: TrainingState | None = None
) -> FitResult:
    """Train one network, from where an earlier run stopped if there is a state."""
    [result] = Trainer([job], backend, state).run(callback)
    return result
