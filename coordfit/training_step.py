"""One training step, written once: for one network or K, for every backend, for the whole batch or a block.

    x  = encoder(coordinates[rows])
    y  = mlp.forward(x)
    dy = loss(y, target[rows])
    mlp.backward(dy)
    optimizer.step()

The second to the fourth are one call where all members share a loss (`MLP.forward_and_backward`), since a
backend may take the output layer and the loss in one pass. The backend decides how a batch is cut into blocks
of rows (and of members) and dealt to workers; the mathematics does not know. Everything a step touches is
allocated before the first one, where the backend can reuse memory.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._backends import Array, Backend, NotRecordedError, Share
from .course import Course
from .encoders import Encoder, FourierEncoder, GridFeatures, IdentityEncoder
from .losses import Loss
from .mlp import MLP, first_rows
from .optimizers import Optimizer
from .pixel_rows import ArrayRows, GridRows, Rows
from .recorded_steps import RecordedSteps
from .workspace import Scratch, Workspace

# Features of all training pixels are computed once where they take no more memory than this.
FEATURE_TABLE_BYTES = 128 * 2**20
# Networks with frequencies of their own may have so many times that together.
_MEMBERS_SHARE = 4
# What a feature of a pixel costs, beside a product's operations: it is written to memory, and little more.
_FLOPS_PER_FEATURE = 16


class TrainingPixels:
    """The pixels that training may see: what they are, where they are, and what they weigh.

    Parameters
    ----------
    coordinates : array of shape (N, 2), or Rows
    target : array of shape (N, C), or (*E, N, C) where members learn different pictures
    weights : array of shape (N, 1) or (*E, N, 1), optional
        Of mean 1 over N; 0 hides a pixel.
    """

    def __init__(
        self, backend: Backend, coordinates: Array | Rows, target: Array, weights: Array | None = None
    ) -> None:
        self.backend = backend
        self.size = target.shape[-2]
        self.coordinates: Rows = (
            coordinates
            if hasattr(coordinates, "take") and hasattr(coordinates, "rows")
            else ArrayRows(backend, coordinates)
        )
        self.target = ArrayRows(backend, target)
        self.weights = None if weights is None else ArrayRows(backend, weights)

    def feature_table(self, encoder: Encoder, dtype: str) -> ArrayRows | None:
        """The features of all pixels, where they fit; None where they are to be computed in each step."""
        if isinstance(encoder, IdentityEncoder):
            return None
        shape = (*encoder.ensemble, self.size, encoder.num_features)
        members, stored = math.prod(encoder.ensemble), encoder.feature_dtype(dtype)
        row_bytes = encoder.num_features * item_size(stored)
        if not table_fits(self.size * row_bytes, members):
            return None
        table = self.backend.zeros(shape, stored)
        row_flops = _FLOPS_PER_FEATURE * encoder.num_features
        shares = self.backend.share_out(self.size, members, row_bytes, row_flops)
        with self.backend.activate():
            self.backend.run_workers(
                [functools.partial(self._fill, table, encoder, share, dtype) for share in shares]
            )
        return ArrayRows(self.backend, table)

    def _fill(self, table: Array, encoder: Encoder, share: Share, dtype: str) -> None:
        """One worker's share of a table of features: some members, or some rows of all."""
        if not encoder.ensemble:
            self._fill_one(table, encoder, share.blocks, dtype)
            return
        for member in range(*(share.members or slice(None)).indices(table.shape[0])):
            self._fill_one(table[member, ...], encoder.alone(member), share.blocks, dtype)

    def _fill_one(self, table: Array, encoder: Encoder, blocks: Sequence[slice], dtype: str) -> None:
        """Rows of one member's table (N, F); features that its encoder lacks stay 0."""
        on_grid = None
        if isinstance(self.coordinates, GridRows):
            on_grid = GridFeatures(self.backend, encoder, self.coordinates.axes(), dtype)
        for rows in blocks:
            room = table[rows, :]
            out = room if encoder.num_features == room.shape[-1] else None
            features = on_grid(rows, out) if on_grid else encoder(self.coordinates.rows(rows), out)
            if features is not room:
                room[:, : encoder.num_features] = features


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
        course: Course | None = None,
    ) -> None:
        self.backend, self.mlp, self.optimizer, self.course = backend, mlp, optimizer, course
        row_bytes, row_flops = cost_of_a_row(mlp.layout.layer_sizes, mlp.dtype)
        members = math.prod(mlp.parameters.shape[:-1])
        shares = backend.share_out(batch_rows, members, row_bytes, 3 * row_flops)
        self._by_members = shares[0].members is not None
        shared = backend.zeros(mlp.parameters.shape, mlp.dtype) if self._by_members else None
        table = pixels.feature_table(encoder, mlp.dtype)
        self.features = None if table is None else table.array
        """Of the training pixels, (N, F) or (*E, N, F), where they are kept."""
        count = batch_rows * mlp.layout.layer_sizes[-1]
        common = _Common(backend, encoder, mlp, loss, optimizer, pixels, table, count, shared)
        self.workers = [_Worker(common, share) for share in shares]
        self.parts = [part for worker in self.workers for part in worker.parts]
        self._tasks = [worker.run for worker in self.workers]
        self._gradients = [shared] if self._by_members else [part.mlp.gradient for part in self.parts]
        self._values: list[Array] = []
        self._recorded = self._new_recorded_steps(3.0 * row_flops * batch_rows * members)

    def _new_recorded_steps(self, flops: float) -> RecordedSteps | None:
        """Steps that the device drives; None where the host does."""
        if self.course is None:
            return None
        num_rates, orders = len(self.course.rates(0)), self.course.order_numbers()
        losses = (tuple(self.mlp.parameters.shape[:-1]), self.mlp.dtype)
        at_once = self.backend.steps_at_once(flops)
        state = self.backend.device_state(num_rates, at_once, orders, losses)
        if state is None:
            return None
        try:
            return RecordedSteps(self.backend, self.compute, self.course, state, at_once)
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
        if self.course is None:
            raise ValueError("a step without a course is told its batch and learning rate by each call")
        if self._recorded is not None and self.optimizer.steps == step:
            self.backend.parameters_changed(self.mlp.parameters)
            self._recorded.advance(step, count)
            self.optimizer.steps += count
            return
        for taken in range(step, step + count):
            batch, rate = self.course.batch(taken), self.course.rate(taken)
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

    def __init__(self, common: _Common, share: Share) -> None:
        workspace = Workspace(common.backend)
        self.parts = []
        for members in share.groups:
            workspace.rewind()
            self.parts.append(_Part(common, members, share.blocks, workspace))

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
        rows = max(block.stop - block.start for block in blocks)
        own = slice(None) if members is None else members

        def of_members(data: Rows) -> Rows:
            return data if members is None else data.members(own)

        loss, pixels, scratch = common.loss, common.pixels, workspace.scratch
        self.losses = _runs_of_equals(loss[own]) if isinstance(loss, Sequence) else [(slice(None), loss)]
        self.encoder = common.encoder if members is None else common.encoder.members(own)
        self.coordinates, self.target = of_members(pixels.coordinates), of_members(pixels.target)
        self.weights = None if pixels.weights is None else of_members(pixels.weights)
        self.table = None if common.table is None else of_members(common.table)
        gradient = None if common.gradient is None else common.gradient[own, ...]
        self.mlp = common.mlp.replica(rows, members=members, gradient=gradient, scratch=scratch)
        ensemble, dtype = self.mlp.parameters.shape[:-1], self.mlp.dtype
        self.features = feature_buffer(scratch, self.encoder, ensemble, rows, dtype)
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
        if self.members is not None:
            self.optimizer.update(
                self.mlp.parameters, [self.mlp.gradient], self.learning_rate, self.members, self.counter
            )

    def _block(self, rows: slice, accumulate: bool) -> Array:
        x = self._encoded(rows)
        target = self._of_batch(self.target, rows)
        weights = None if self.weights is None else self._of_batch(self.weights, rows)
        if len(self.losses) == 1:
            return self.mlp.forward_and_backward(
                x,
                self.losses[0][1],
                target,
                count=self.count,
                weights=weights,
                accumulate=accumulate,
                dy=first_rows(self.dy, x.shape[-2]),
                value=self.value_room,
            )
        y = self.mlp.forward(x)
        value, dy = self._loss(y, target, weights)
        self.mlp.backward(dy, accumulate=accumulate)
        return value

    def _loss(self, y: Array, target: Array, weights: Array | None) -> tuple[Array, Array]:
        """The loss of each member and its gradient, one call for each run of members with the same loss."""
        dy = first_rows(self.dy, y.shape[-2])
        parts = [
            self.backend.loss_and_gradient(
                loss,
                y[members, ...],
                target if target.ndim == 2 else target[members, ...],
                count=self.count,
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
        if isinstance(self.coordinates, GridRows) and isinstance(self.encoder, FourierEncoder):
            grid = self.coordinates
            index = self.backend.arange(rows.start, rows.stop) if self.batch is None else self.batch[..., rows]
            out = self._room_for_features(index.shape)
            return self.encoder.of_pixels(index, grid.lattice, grid.dtype, out=out)
        coordinates = self._of_batch(self.coordinates, rows)
        return self.encoder(coordinates, out=self._room_for_features(coordinates.shape[:-1]))

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


def feature_buffer(
    scratch: Scratch, encoder: Encoder, ensemble: tuple[int, ...], rows: int, dtype: str
) -> Array | None:
    """A buffer on offer for an encoder's features, with ensemble axes only where B has them."""
    if isinstance(encoder, IdentityEncoder):
        return None
    own = ensemble if encoder.ensemble else ()
    return scratch((*own, rows, encoder.num_features), encoder.feature_dtype(dtype))


def table_fits(table_bytes: int, members: int) -> bool:
    """Whether tables of features are kept: of so many bytes for each of so many members."""
    return max(table_bytes, table_bytes * members // _MEMBERS_SHARE) <= FEATURE_TABLE_BYTES


def cost_of_a_row(layer_sizes: Sequence[int], dtype: str, *, forward_alone: bool = False) -> tuple[int, int]:
    """Bytes of activations that one row of one member keeps alive, and its operations forward.

    With `forward_alone` a layer's input is dead once its output is there, and features are read but once.
    """
    products = sum(n_in * n_out for n_in, n_out in itertools.pairwise(layer_sizes))
    alive = sum(layer_sizes)
    if forward_alone:
        outputs = layer_sizes[1:]
        alive = max(map(sum, itertools.pairwise(outputs)), default=outputs[0])
    return alive * item_size(dtype), 2 * products


def item_size(dtype: str) -> int:
    """Bytes of one number."""
    return np.dtype(dtype).itemsize
