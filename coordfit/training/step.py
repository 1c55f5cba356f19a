"""One training step, written once: for one network or K, for every backend, for the whole batch or a block.

    x  = encoder(coordinates[rows])
    y  = mlp.forward(x)
    dy = loss(y, target[rows])
    dx = mlp.backward(dy)
    encoder.backward(dx)
    optimizer.step()

The fifth is there if the encoder learns. The second to the fourth are one call if all members share a loss
(`MLP.forward_and_backward`), since a backend may take the output layer and the loss in one pass. The backend
decides how a batch is cut into blocks of rows (and of members) and dealt to workers; the mathematics does not
know. Everything a step touches is allocated before the first one, if the backend can reuse memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend, NotRecordedError, Partition
from ..encoders.base import Encoder
from ..network.buffers import Workspace
from ..network.cost import cost_of_a_row
from ..network.losses import Loss
from ..network.mlp import MLP, first_rows
from ..optimizers.base import Optimizer
from ..pixels.rows import Rows
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from .recorded_steps import RecordedSteps


class TrainingStep:
    """Forward, loss, backward and optimizer for one batch of rows.

    Parameters
    ----------
    mlp : MLP
        Its parameters are updated in place.
    loss : Loss, or a sequence of one for each member
        Members that share one should be neighbours: each run of equal losses is one call.
    batch_rows : int
        Rows of every batch.
    course : Course, optional
        Batches and learning rates by the step's number, for `advance`.
    """

    def __init__(
        self,
        backend: Backend,
        encoder: Encoder,
        mlp: MLP,
        loss: Loss | Sequence[Loss],
        optimizer: Optimizer,
        pixels: TrainingPixels,
        batch_rows: int,
        step_inputs: StepInputs | None = None,
    ) -> None:
        self.backend, self.mlp, self.optimizer, self.step_inputs = backend, mlp, optimizer, step_inputs
        row_bytes, row_flops = cost_of_a_row(mlp.layout.layer_sizes, mlp.dtype)
        members = math.prod(mlp.parameters.shape[:-1])
        partitions = backend.partition(batch_rows, members, row_bytes, 3 * row_flops)
        self._by_members = partitions[0].members is not None
        shared = backend.zeros(mlp.parameters.shape, mlp.dtype) if self._by_members else None
        table = pixels.feature_table(encoder, mlp.dtype)
        self.features = None if table is None else table.array
        """Of the training pixels, (N, F) or (*E, N, F), where they are kept."""
        count = batch_rows * mlp.layout.layer_sizes[-1]
        common = _Common(backend, encoder, mlp, loss, optimizer, pixels, table, count, shared)
        self.workers = [_Worker(common, partition) for partition in partitions]
        self.parts = [part for worker in self.workers for part in worker.parts]
        self._tasks = [worker.run for worker in self.workers]
        self._gradients = [shared] if self._by_members else [part.mlp.gradient for part in self.parts]
        self._values: list[Array] = []
        flops = 3.0 * row_flops * batch_rows * members
        self._recorded = self._new_recorded_steps(flops) if encoder.is_recordable else None

    def _new_recorded_steps(self, flops: float) -> RecordedSteps | None:
        """Steps that the device drives; None where the host does."""
        if self.step_inputs is None:
            return None
        num_rates, orders = len(self.step_inputs.rates(0)), self.step_inputs.order_numbers()
        losses = (tuple(self.mlp.parameters.shape[:-1]), self.mlp.dtype)
        at_once = self.backend.steps_at_once(flops)
        state = self.backend.device_state(num_rates, at_once, orders, losses)
        if state is None:
            return None
        try:
            return RecordedSteps(self.backend, self.compute, self.step_inputs, state, at_once)
        except NotRecordedError:
            return None

    @property
    def is_recorded(self) -> bool:
        """Whether the device drives the steps of the course by itself."""
        return self._recorded is not None

    @property
    def steps_at_once(self) -> int:
        """Steps that one call of `advance` may well take: the host has no say between them."""
        return 1 if self._recorded is None else self._recorded.steps_at_once

    def advance(self, step: int, count: int = 1) -> None:
        """Take `count` steps of the course, after the `step` that have been taken."""
        if self.step_inputs is None:
            raise ValueError("a step without a course is told its batch and learning rate by each call")
        if self._recorded is not None and self.optimizer.steps == step:
            self.backend.parameters_changed(self.mlp.parameters)
            self._recorded.advance(step, count)
            self.optimizer.steps += count
            return
        for taken in range(step, step + count):
            batch, rate = self.step_inputs.batch(taken), self.step_inputs.rate(taken)
            value = self(
                None if batch is None else self.backend.asarray(batch),
                rate if isinstance(rate, int | float) else self.backend.asarray(rate, self.mlp.dtype),
            )
            self._values.append(value)

    def __call__(self, batch: Array | None, learning_rate: float | Array) -> Array:
        """Take one step and return the batch's loss before it, shape E.

        Parameters
        ----------
        batch : integer array, shape (batch_rows,) or (*E, batch_rows), optional
            Which pixels the batch holds, for all members or for each; None for all pixels in order.
        learning_rate : float, or array of shape (*E, 1)
        """
        self.optimizer.steps += 1
        self.backend.parameters_changed(self.mlp.parameters)
        return self.compute(batch, learning_rate)

    def compute(
        self,
        batch: Array | None,
        learning_rate: float | Array,
        counter: Array | None = None,
        value: Array | None = None,
    ) -> Array:
        """The step's arithmetic, without counting it: `counter` has its number where the device counts.

        `value` is a buffer on offer for the loss, shape E.
        """
        for part in self.parts:
            part.begin(batch, learning_rate, counter, value if len(self.parts) == 1 else None)
        self.backend.run_workers(self._tasks)
        values = [part.value for part in self.parts]
        if self._by_members:  # each part has updated its own members
            return self.backend.joined(values)
        self.optimizer.update(self.mlp.parameters, self._gradients, learning_rate, counter=counter)
        return self.backend.total(values)

    def new_losses(self, wait: bool = False) -> NDArray[np.floating]:
        """Losses (n, *E) of the steps of the course since the last call, in order, as far as they have come.

        Where the device drives the steps they come to the host some time after the step, and nobody waits for
        them; with `wait` all are there.
        """
        found = [] if self._recorded is None else self._recorded.new_losses(wait)
        found += [self.backend.to_numpy(value)[None] for value in self._values]
        self._values.clear()
        empty = np.empty((0, *self.mlp.parameters.shape[:-1]), np.float32)
        return np.concatenate(found) if found else empty

    @property
    def gradient(self) -> Array:
        """The flat gradient (*E, P) of the last step, summed over the workers."""
        return self._gradients[0]


@dataclass(frozen=True)
class _Common:
    """What all parts of a step share."""

    backend: Backend
    encoder: Encoder
    mlp: MLP
    loss: Loss | Sequence[Loss]
    optimizer: Optimizer
    pixels: TrainingPixels
    table: Rows | None
    count: int
    gradient: Array | None
    """(K, P), where each worker has members of its own."""


class _Worker:
    """One worker's share of a step: its parts one after the other, which have its buffers in turn."""

    def __init__(self, common: _Common, partition: Partition) -> None:
        workspace = Workspace(common.backend)
        self.parts = []
        for members in partition.groups:
            workspace.rewind()
            self.parts.append(_Part(common, members, partition.blocks, workspace))

    def run(self) -> None:
        """Do the parts' share of the step."""
        for part in self.parts:
            part.run()


class _Part:
    """Some members (None: all) and some blocks of rows, with a gradient of their own."""

    value: Array

    def __init__(
        self, common: _Common, members: slice | None, blocks: list[slice], workspace: Workspace
    ) -> None:
        self.backend, self.optimizer, self.count = common.backend, common.optimizer, common.count
        self.members, self.blocks = members, blocks
        # Workers with different rows share a penalty on the parameters: that of the first adds its gradient.
        self.adds_penalty = common.encoder.learns and blocks[0].start == 0
        rows = max(block.stop - block.start for block in blocks)
        own = slice(None) if members is None else members

        def of_members(data: Rows) -> Rows:
            return data if members is None else data.members(own)

        loss, pixels, scratch = common.loss, common.pixels, workspace.scratch
        self.losses = _runs_of_equals(loss[own]) if isinstance(loss, Sequence) else [(slice(None), loss)]
        self.coordinates = pixels.coordinates if members is None else pixels.coordinates.members(own)
        self.target = of_members(pixels.target)
        self.weights = None if pixels.weights is None else of_members(pixels.weights)
        self.table = None if common.table is None else of_members(common.table)
        gradient = None if common.gradient is None else common.gradient[own, ...]
        self.mlp = common.mlp.replica(rows, members=members, gradient=gradient, scratch=scratch)
        encoder = common.encoder if members is None else common.encoder.members(own)
        self.encoder = self.mlp.give_parameters(encoder)
        ensemble, dtype = self.mlp.parameters.shape[:-1], self.mlp.dtype
        self.features = self.encoder.buffer(scratch, ensemble, rows, dtype)
        self.dy = scratch((*ensemble, rows, self.mlp.layout.layer_sizes[-1]), dtype)

    def begin(
        self,
        batch: Array | None,
        learning_rate: float | Array,
        counter: Array | None,
        value: Array | None = None,
    ) -> None:
        """Note the batch that `run` is to work on, and a buffer on offer for its loss."""
        self.batch, self.learning_rate, self.counter = batch, learning_rate, counter
        self.value_room = value if len(self.blocks) == 1 else None
        if self.members is not None and batch is not None and batch.ndim > 1:
            self.batch = batch[self.members, ...]
        if self.members is not None and not isinstance(learning_rate, int | float) and learning_rate.ndim > 1:
            self.learning_rate = learning_rate[self.members, ...]

    def run(self) -> None:
        """Sum loss and gradient over the blocks; update the members where no other part has them."""
        self.value = self.backend.total(
            [self._block(rows, accumulate=k > 0) for k, rows in enumerate(self.blocks)]
        )
        if self.adds_penalty:
            self.encoder.add_penalty_gradient()
        if self.members is not None:
            self.optimizer.update(
                self.mlp.parameters, [self.mlp.gradient], self.learning_rate, self.members, self.counter
            )

    def _block(self, rows: slice, accumulate: bool) -> Array:
        x = self._encoded(rows)
        target = self._of_batch(self.target, rows)
        weights = None if self.weights is None else self._of_batch(self.weights, rows)
        if len(self.losses) == 1:
            value, dx = self.mlp.forward_and_backward(
                x,
                self.losses[0][1],
                target,
                count=self.count,
                weights=weights,
                accumulate=accumulate,
                dy=first_rows(self.dy, x.shape[-2]),
                value=self.value_room,
            )
        else:
            value, dy = self._loss(self.mlp.forward(x), target, weights)
            dx = self.mlp.backward(dy, accumulate=accumulate)
        if dx is not None:
            self.encoder.backward(dx, accumulate=accumulate)
        return value

    def _loss(self, y: Array, target: Array, weights: Array | None) -> tuple[Array, Array]:
        """The loss of each member and its gradient, one call for each run of members with the same loss."""
        dy = first_rows(self.dy, y.shape[-2])
        parts = [
            self.backend.loss_and_gradient(
                loss,
                y[members, ...],
                target if target.ndim == 2 else target[members, ...],
                divisor=self.count,
                weights=weights if weights is None or weights.ndim == 2 else weights[members, ...],
                out=None if dy is None else dy[members, ...],
            )
            for members, loss in self.losses
        ]
        xp = self.backend.xp
        return xp.concat([value for value, _ in parts]), xp.concat([gradient for _, gradient in parts])

    def _encoded(self, rows: slice) -> Array:
        """encoder(coordinates[rows]), from the table where there is one."""
        if self.table is not None:
            return self._of_batch(self.table, rows, first_rows(self.features, rows.stop - rows.start))
        pixels = (*(() if self.batch is None else self.batch.shape[:-1]), rows.stop - rows.start)
        return self.coordinates.encoded(self.encoder, rows, self.batch, self._room_for_features(pixels))

    def _room_for_features(self, pixels: tuple[int, ...]) -> Array | None:
        """A buffer for the features of pixels of shape (n,) or (*E, n)."""
        # Where each member has a batch of its own, so it has features, though B may be shared.
        if self.features is not None and self.features.ndim < len(pixels) + 1:
            shape = (*pixels[:-1], *self.features.shape)
            self.features = self.backend.scratch(shape, self.encoder.feature_dtype(self.mlp.dtype))
        return first_rows(self.features, pixels[-1])

    def _of_batch(self, data: Rows, rows: slice, out: Array | None = None) -> Array:
        return data.rows(rows) if self.batch is None else data.take(self.batch[..., rows], out=out)


def _runs_of_equals(losses: Sequence[Loss]) -> list[tuple[slice, Loss]]:
    """Neighbours with the same loss, as slices of the members."""
    runs, start = [], 0
    for loss, members in itertools.groupby(losses):
        stop = start + len(list(members))
        runs.append((slice(start, stop), loss))
        start = stop
    return runs
