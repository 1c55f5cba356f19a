"""Training of K networks as one batch, K = 1 included.

The arrays of one network have no ensemble axis and belong to its model. Those of several have an axis of
members, and each model is a copy of its row. Members may differ in picture, mask, seed, encoding, sigma,
learning rate, schedule, loss and initializer, but not in the shapes of arrays (`Job.shape_key`). K networks
trained together equal K trained alone, to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend
from ..encoders.base import Encoder
from ..encoders.registry import join_encoders
from ..errors import ConfigError
from ..models import memory
from ..models.model import Model
from ..network.cost import layer_sizes
from ..network.mlp import MLP, make_mlp
from ..network.parameters import ParameterLayout
from ..optimizers.base import Optimizer
from ..optimizers.gauss_newton import Damping, GaussNewtonStep
from ..optimizers.last_layer import Polish, solve_last_layer
from ..optimizers.make import make_optimizer
from .job import Job
from .loop import Loop
from .member import HistoryRow, Member, step_inputs_of, training_pixels_of
from .result import FitResult, make_result
from .state import CALLBACK_SECONDS, Callback, Checkpoint, ShouldStop, TrainingState, Trial
from .step import TrainingStep
from .step_losses import StepLosses


class Trainer:
    """K networks and all data of their steps; ConfigError if the `shape_key` of their jobs differ.

    A run of one network can go on from the state of an earlier one.
    """

    def __init__(self, jobs: Sequence[Job], backend: Backend, state: TrainingState | None = None) -> None:
        _check(jobs, backend)
        self.backend, self.config = backend, jobs[0].config
        before = None if state is None else (state.encoder_state, state.parameters)
        self.members = [
            Member(backend, job.signal, job.config, known=job.known, weights=job.weights, before=before)
            for job in jobs
        ]
        # Members with the same loss are neighbours, so that each loss is one call.
        self.ordered = sorted(self.members, key=lambda m: (str(m.config.loss), m.config.delta))
        self.steps, self.budget = self.member.steps, self.member.budget
        for member in self.members:
            member.budget = self.budget  # with its estimate of the end of the seconds
        self.encoder, self.mlp = self._network()
        for k in range(0 if self.is_alone else len(jobs)):
            self._copy_member(k, self.mlp.parameters, into_batch=True)
        self.optimizer: Optimizer | Damping = make_optimizer(
            backend, self.config, self.mlp.parameters, self.mlp.layout
        )
        self.step_inputs = step_inputs_of(self.ordered, self.learning_rates)
        self.pixels = training_pixels_of(self.ordered)
        self.training_step = self._new_training_step()
        self.step, self.seconds = 0, 0.0
        self.is_in_a_step = False
        """Whether parameters and optimizer state are between two steps, as after an exception in the middle."""
        self.losses = StepLosses()
        if state is not None:
            self.restore(state)
            # A run that ended between two evaluations has one row that an uninterrupted run does not have.
            member = self.member
            member.history = [row for row in state.history if member.is_regular_row(row, state.step)]

    @property
    def member(self) -> Member:
        """The first network."""
        return self.members[0]

    @property
    def model(self) -> Model:
        """The first network's model; see `show` if there are several."""
        return self.member.model

    @property
    def history(self) -> list[HistoryRow]:
        """The history of the first network."""
        return self.member.history

    @property
    def is_alone(self) -> bool:
        """Whether there is one network, whose model is trained directly."""
        return len(self.members) == 1

    @property
    def arrays(self) -> list[Array]:
        """The arrays that steps change: the parameters (*E, P), then the optimizer's state."""
        return [self.mlp.parameters, *self.optimizer.state.values()]

    # -- data of the steps ---------------------------------------------------------------------------

    def _network(self) -> tuple[Encoder, MLP]:
        """Return the encoder and the layers of one network, or new ones with an ensemble axis."""
        if self.is_alone:
            return self.model.encoder, self.model.mlp
        backend, config = self.backend, self.config
        encoder = join_encoders(backend, [member.model.encoder for member in self.ordered], config.dtype)
        sizes = layer_sizes(config, encoder.num_features, self.member.signal.channels)
        layout = ParameterLayout(sizes, self.model.mlp.layout.encoder_shapes)
        parameters = backend.zeros((len(self.members), layout.size), config.dtype)
        mlp = make_mlp(backend, config, layout, parameters)
        return mlp.give_parameters(encoder), mlp

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
                member.use_features(features if features.ndim == 2 else features[k, ...])
        return step

    def _copy_member(self, k: int, batch: Array, own: Array | None = None, *, into_batch: bool = False) -> None:
        """Copy row k of a batch (K, P) to a network's own buffer (its model's, or `own`), or back."""
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
        """Train until a budget is spent or a callable ends the run; return results in the order of the jobs."""
        with self.backend.activate():
            loop = Loop(self, callback, checkpoint, should_stop)
            stopped = loop.run()
            polished: Sequence[Polish | None] = [None] * len(self.ordered)
            if self.config.polish == "ridge" and stopped != "diverged":
                polished = self.polish()
            results = [self._result(k, loop, stopped, one) for k, one in enumerate(polished)]
            return [results[self.ordered.index(member)] for member in self.members]

    def _result(self, k: int, loop: Loop, stopped: str, polished: Polish | None) -> FitResult:
        member, state = self.ordered[k], loop.state_of(k)
        if k in loop.diverged:
            stopped, polished = "diverged", None
        if polished is None:
            member.model.mlp.parameters[...] = self.backend.asarray(state.parameters, self.config.dtype)
        losses, networks = self.losses.of_member(k), len(self.members)
        return make_result(member, state, stopped, self.backend, networks, losses=losses, polished=polished)

    def train(self, trial: Trial | None = None) -> list[Model]:
        """Take all steps without an evaluation; return the models in the order of the jobs."""
        report = trial or (lambda *_: None)
        report(self.step, self.steps)
        last_report = time.perf_counter()
        while self.step < self.steps:
            self.take_steps(self.steps - self.step)
            if time.perf_counter() - last_report >= CALLBACK_SECONDS:
                last_report = time.perf_counter()
                report(self.step, self.steps)
        self.collect_losses()
        report(self.step, self.steps)
        return self.models_now()

    def take_steps(self, limit: int) -> None:
        """Take as many steps as this backend takes at once, at most `limit`."""
        count = min(limit, self.training_step.steps_at_once)
        self.is_in_a_step = True
        self.training_step.advance(self.step, count)
        self.step += count
        self.is_in_a_step = False

    def collect_losses(self, wait: bool = False) -> None:
        """Collect losses that have arrived from the device; with `wait`, those of all steps so far."""
        self.losses.add(self.training_step.new_losses(wait))

    def learning_rates(self, step: int) -> list[float]:
        """Return the learning rate of each network for the step that follows `step` steps."""
        return [member.learning_rate(step) for member in self.ordered]

    def polish(self) -> list[Polish]:
        """Replace the last layer of each network by its least-squares solution.

        States and checkpoints are from before it, so that a resumed run equals an uninterrupted one.
        """
        start, chosen = time.perf_counter(), self.step_inputs.numbers_on(self.backend)
        found = solve_last_layer(self.mlp, self.encoder, self.pixels, chosen=chosen)
        self.show()
        seconds = time.perf_counter() - start
        before, after = (self.backend.to_numpy(errors).reshape(-1) for errors in found)
        return [Polish(float(b), float(a), seconds) for b, a in zip(before, after, strict=True)]

    # -- models and states ---------------------------------------------------------------------------

    def show(self) -> None:
        """Copy the trained parameters to the models."""
        for k in range(len(self.ordered)):
            self.show_member(k, self.mlp.parameters)

    def show_member(self, k: int, parameters: Array) -> None:
        """Copy a network's row of parameters (K, P) to its model."""
        if not self.is_alone:
            self._copy_member(k, parameters)

    def models_now(self) -> list[Model]:
        """Return the present models in the order of the jobs."""
        self.show()
        return [member.model for member in self.members]

    def sums(self) -> Array:
        """Return the sums of errors of each network, (K, NUM_SUMS) on the device."""
        self.show()
        return self.backend.xp.stack([member.evaluate.sums() for member in self.ordered])

    def state(self) -> TrainingState:
        """Return the state of a run of one network, on the host."""
        return self.state_of(0, self.arrays, self.step, self.seconds)

    def state_of(self, k: int, arrays: Sequence[Array], step: int, seconds: float) -> TrainingState:
        """Return one network's state from `arrays`, as a run of its own would have it."""
        member = self.ordered[k]
        own = [self._to_host(k, array) for array in arrays]
        return TrainingState(
            step=step,
            seconds=seconds,
            parameters=own[0],
            optimizer=dict(zip(self.optimizer.state, own[1:], strict=True)),
            encoder_state=member.encoder_state,
            picture_digest=member.signal.digest,
            history=list(member.history),
        )

    def _to_host(self, k: int, array: Array) -> NDArray[Any]:
        if not self.is_alone:
            own = self.backend.zeros(self.ordered[k].model.mlp.parameters.shape, self.config.dtype)
            self._copy_member(k, array, own)
            array = own
        return np.array(self.backend.to_numpy(array))

    def restore(self, state: TrainingState) -> None:
        """Go back, or on, to the state of an earlier run of one network."""
        self.step, self.seconds = state.step, state.seconds
        self.mlp.parameters[...] = self.backend.asarray(state.parameters, self.config.dtype)
        self.optimizer.steps = state.step
        for name, array in self.optimizer.state.items():
            array[...] = self.backend.asarray(state.optimizer[name], self.config.dtype)


def _check(jobs: Sequence[Job], backend: Backend) -> None:
    """Raise an error for jobs that cannot be trained together or do not fit into memory."""
    if not jobs or len({job.shape_key for job in jobs}) > 1:
        raise ConfigError("networks that are trained together must have the same shapes, steps and optimizer")
    config, count = jobs[0].config, len(jobs)
    if config.optimizer == "gauss-newton" and count > 1:
        raise ConfigError("gauss-newton trains one network at a time")
    need = memory.need_of_training(config, jobs[0].signal, backend, count)
    memory.check(need, backend, "this run" if count == 1 else f"this batch of {count} networks")


def fit_together(
    jobs: Sequence[Job],
    backend: Backend,
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
) -> list[FitResult]:
    """Train jobs of one shape as one batch; return their results in order."""
    # A batch saves calls, but a Gauss-Newton step is a few calls on large matrices.
    one_by_one = bool(jobs) and jobs[0].config.optimizer == "gauss-newton"
    results: list[FitResult] = []
    for group in [[job] for job in jobs] if one_by_one else [jobs]:
        with backend.activate():
            results += Trainer(group, backend).run(callback, should_stop=should_stop)
    return results


def fit_alone(
    job: Job, backend: Backend, callback: Callback | None = None, state: TrainingState | None = None
) -> FitResult:
    """Train one network, from the state of an earlier run if there is one."""
    [result] = Trainer([job], backend, state).run(callback)
    return result
