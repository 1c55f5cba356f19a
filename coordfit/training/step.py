"""One training step, the same for one network or K, on every backend, for a whole batch or a block of rows.

    x  = encoder(coordinates[rows])
    y  = mlp.forward(x)
    dy = loss(y, target[rows])
    dx = mlp.backward(dy)
    encoder.backward(dx)
    optimizer.step()

Only an encoder that learns has the fifth line. Lines two to four are one call if all members share a loss
(`MLP.forward_and_backward`), since a backend may compute the output layer and the loss in one pass. The backend
partitions a batch into blocks of rows (and of members) for its workers. All buffers of a step are allocated
before the first one, if the backend can reuse memory.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend, Partition
from ..encoders.base import Encoder
from ..network.buffers import Workspace, first_rows
from ..network.cost import cost_of_a_row
from ..network.losses import Loss
from ..network.mlp import MLP
from ..optimizers.base import Optimizer
from ..pixels.rows import Rows
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from .recorded_steps import RecordedSteps, record_steps


class TrainingStep:
    """Forward, loss, backward and optimizer for batches of `batch_rows` rows.

    There is one loss, or one for each member: each run of equal losses is one call, so equal ones should be
    neighbours. `advance` takes batches and learning rates from `step_inputs`.
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
        """Of the training pixels, (N, F) or (*E, N, F), if they are kept in a table."""
        count = batch_rows * mlp.layout.layer_sizes[-1]
        common = _Common(backend, encoder, mlp, loss, optimizer, pixels, table, count, shared)
        self.workers = [_parts_of(common, partition) for partition in partitions]
        self.parts = [part for parts in self.workers for part in parts]
        self._tasks = [functools.partial(_run, parts) for parts in self.workers]
        self._gradients = [shared] if self._by_members else [part.mlp.gradient for part in self.parts]
        self._values: list[Array] = []
        self._recorded: RecordedSteps | None = None
        if step_inputs is not None and encoder.is_recordable:
            losses = (tuple(mlp.parameters.shape[:-1]), mlp.dtype)
            flops = 3.0 * row_flops * batch_rows * members
            self._recorded = record_steps(backend, self.compute, step_inputs, losses, flops)

    @property
    def is_recorded(self) -> bool:
        """Whether the device drives the steps by itself."""
        return self._recorded is not None

    @property
    def steps_at_once(self) -> int:
        """Steps that one call of `advance` should take, without the host in between."""
        return 1 if self._recorded is None else self._recorded.steps_at_once

    def advance(self, step: int, count: int = 1) -> None:
        """Take `count` steps after the first `step` ones, with batches and rates of `step_inputs`."""
        if self.step_inputs is None:
            raise ValueError("a step without step_inputs takes its batch and learning rate from each call")
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

        A batch has the numbers (batch_rows,) or (*E, batch_rows) of its pixels; None means all in order. The
        learning rate is a number, or an array (*E, 1).
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
        """Do the arithmetic of a step without counting it, and return the loss, shape E.

        `counter` is the step's number if the device counts; `value` an optional buffer for the loss.
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
        """Return the losses (n, *E) of steps by `advance` since the last call, as far as they are on the host.

        A device that drives the steps sends them some time later; with `wait` all are returned.
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
    """(K, P), if each worker has members of its own."""


def _parts_of(common: _Common, partition: Partition) -> list[_Part]:
    """Return one worker's parts, which use the same buffers one after the other."""
    workspace, parts = Workspace(common.backend), []
    for members in partition.groups:
        workspace.rewind()
        parts.append(_Part(common, members, partition.blocks, workspace))
    return parts


def _run(parts: Sequence[_Part]) -> None:
    for part in parts:
        part.run()


class _Part:
    """Some members (None: all) and some blocks of rows, with their own gradient."""

    value: Array

    def __init__(
        self, common: _Common, members: slice | None, blocks: list[slice], workspace: Workspace
    ) -> None:
        self.backend, self.optimizer, self.count = common.backend, common.optimizer, common.count
        self.members, self.blocks = members, blocks
        # The worker with the first rows adds the gradient of a penalty on the parameters, once for all workers.
        self.adds_penalty = common.encoder.learns and blocks[0].start == 0
        rows = max(block.stop - block.start for block in blocks)
        own = slice(None) if members is None else members
        loss, pixels, table, scratch = common.loss, common.pixels, common.table, workspace.scratch
        self.losses = _runs_of_equals(loss[own]) if isinstance(loss, Sequence) else [(slice(None), loss)]
        self.coordinates, self.target = pixels.coordinates.members(own), pixels.target.members(own)
        self.weights = None if pixels.weights is None else pixels.weights.members(own)
        self.table = None if table is None else table.members(own)
        gradient = None if common.gradient is None else common.gradient[own, ...]
        self.mlp = common.mlp.replica(rows, members=members, gradient=gradient, scratch=scratch)
        self.encoder = self.mlp.give_parameters(common.encoder.members(own))
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
        """Set the inputs of the next `run`, and an optional buffer for its loss."""
        self.batch, self.learning_rate = self._own(batch), self._own(learning_rate)
        self.counter, self.value_buffer = counter, value if len(self.blocks) == 1 else None

    def _own(self, values: Any) -> Any:
        """Return the rows of this part's members, if values differ by member."""
        is_shared = self.members is None or getattr(values, "ndim", 0) < 2
        return values if is_shared else values[self.members, ...]

    def run(self) -> None:
        """Sum loss and gradient over the blocks; update members that no other part has."""
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
                value=self.value_buffer,
            )
        else:
            value, dy = self._loss(self.mlp.forward(x), target, weights)
            dx = self.mlp.backward(dy, accumulate=accumulate)
        if dx is not None:
            self.encoder.backward(dx, accumulate=accumulate)
        return value

    def _loss(self, y: Array, target: Array, weights: Array | None) -> tuple[Array, Array]:
        """Return the loss of each member and its gradient, by one call for each run of equal losses."""
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
        """Return `encoder(coordinates[rows])`, from the table if there is one."""
        if self.table is not None:
            return self._of_batch(self.table, rows, first_rows(self.features, rows.stop - rows.start))
        pixels = (*(() if self.batch is None else self.batch.shape[:-1]), rows.stop - rows.start)
        return self.coordinates.encoded(self.encoder, rows, self.batch, self._feature_buffer(pixels))

    def _feature_buffer(self, pixels: tuple[int, ...]) -> Array | None:
        """Return a buffer for the features of pixels of shape (n,) or (*E, n)."""
        # If each member has its own batch, it has its own features, even with a shared encoder.
        if self.features is not None and self.features.ndim < len(pixels) + 1:
            shape = (*pixels[:-1], *self.features.shape)
            self.features = self.backend.scratch(shape, self.encoder.feature_dtype(self.mlp.dtype))
        return first_rows(self.features, pixels[-1])

    def _of_batch(self, data: Rows, rows: slice, out: Array | None = None) -> Array:
        return data.rows(rows) if self.batch is None else data.take(self.batch[..., rows], out=out)


def _runs_of_equals(losses: Sequence[Loss]) -> list[tuple[slice, Loss]]:
    """Return neighbouring members with the same loss, as slices."""
    runs, start = [], 0
    for loss, members in itertools.groupby(losses):
        stop = start + len(list(members))
        runs.append((slice(start, stop), loss))
        start = stop
    return runs
