"""One training step, written once: for one network or K, for every backend, for the whole batch or a block.

    x  = encoder(coordinates[rows])
    y  = mlp.forward(x)
    dy = loss(y, target[rows])
    mlp.backward(dy)
    optimizer.step()

The backend decides how the rows of a batch are cut into blocks and dealt to workers; the mathematics does not
know. Everything a step touches is allocated before the first one, where the backend can reuse memory.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ._backends import Array, Backend
from .encoders import Encoder
from .losses import Loss
from .mlp import MLP, first_rows
from .optimizers import Optimizer


@dataclass(frozen=True)
class TrainingPixels:
    """The pixels that training may see, on the backend's device.

    Parameters
    ----------
    coordinates : array, shape (N, 2)
    target : array, shape (N, C), or (*E, N, C) where members learn different pictures
    weights : array, shape (N, 1) or (*E, N, 1), optional
        Of mean 1 over N; 0 hides a pixel.
    """

    backend: Backend
    coordinates: Array
    target: Array
    weights: Array | None = None

    def take(self, batch: Array | None, rows: slice) -> tuple[Array, Array, Array | None]:
        """Coordinates, targets and weights of some rows of a batch.

        Parameters
        ----------
        batch : integer array, shape (B,) or (*E, B), optional
            Which pixels the batch holds, for all members or for each; None for all pixels in order.
        """
        if batch is None:
            return tuple(a if a is None else a[..., rows, :] for a in self._arrays())  # type: ignore[return-value]
        index = batch[..., rows]
        return tuple(a if a is None else self._gather(a, index) for a in self._arrays())  # type: ignore[return-value]

    def _arrays(self) -> tuple[Array, Array, Array | None]:
        return self.coordinates, self.target, self.weights

    def _gather(self, array: Array, index: Array) -> Array:
        xp = self.backend.xp
        if index.ndim == 1:
            return xp.take(array, index, axis=-2)
        if array.ndim == 2:
            rows = xp.take(array, xp.reshape(index, (-1,)), axis=0)
            return xp.reshape(rows, (*index.shape, array.shape[-1]))
        return xp.take_along_axis(array, index[..., None], axis=-2)


class TrainingStep:
    """Forward, loss, backward and optimizer for one batch of rows.

    Parameters
    ----------
    mlp : MLP
        Its parameters are updated in place.
    batch_rows : int
        Rows of every batch.
    """

    def __init__(
        self,
        backend: Backend,
        encoder: Encoder,
        mlp: MLP,
        loss: Loss,
        optimizer: Optimizer,
        pixels: TrainingPixels,
        batch_rows: int,
    ) -> None:
        self.backend, self.mlp, self.optimizer = backend, mlp, optimizer
        row_bytes, row_flops = cost_of_a_row(mlp)
        shares = backend.row_blocks(batch_rows, row_bytes, 3 * row_flops)
        count = batch_rows * mlp.layout.layer_sizes[-1]
        self.workers = [_Worker(backend, encoder, mlp, loss, pixels, blocks, count) for blocks in shares]
        self._tasks = [worker.run for worker in self.workers]

    def __call__(self, batch: Array | None, learning_rate: float | Array) -> Array:
        """Take one step and return the batch's loss before it, shape E.

        Parameters
        ----------
        batch : integer array, shape (batch_rows,) or (*E, batch_rows), optional
            See `TrainingPixels.take`.
        learning_rate : float, or array of shape (*E, 1)
        """
        for worker in self.workers:
            worker.batch = batch
        self.backend.run_workers(self._tasks)
        first, *others = self.workers
        value = first.value
        for other in others:  # in a fixed order, so that a run repeats bit by bit
            first.mlp.gradient += other.mlp.gradient
            value = value + other.value
        self.optimizer.step(self.mlp.parameters, first.mlp.gradient, learning_rate)
        return value

    @property
    def gradient(self) -> Array:
        """The flat gradient (*E, P) of the last step."""
        return self.workers[0].mlp.gradient


class _Worker:
    """One worker's share of a step: some blocks of rows, with activations and gradients of its own."""

    batch: Array | None = None
    value: Array

    def __init__(
        self,
        backend: Backend,
        encoder: Encoder,
        mlp: MLP,
        loss: Loss,
        pixels: TrainingPixels,
        blocks: list[slice],
        count: int,
    ) -> None:
        self.backend, self.encoder, self.loss, self.pixels = backend, encoder, loss, pixels
        self.blocks, self.count = blocks, count
        rows = max(block.stop - block.start for block in blocks)
        self.mlp = mlp.replica(rows)
        ensemble, dtype = mlp.parameters.shape[:-1], mlp.dtype
        self.features = feature_buffer(backend, encoder, ensemble, rows, dtype)
        self.dy = backend.scratch((*ensemble, rows, mlp.layout.layer_sizes[-1]), dtype)

    def run(self) -> None:
        """Sum loss and gradient over this worker's blocks."""
        value = self._block(self.blocks[0], accumulate=False)
        for rows in self.blocks[1:]:
            value = value + self._block(rows, accumulate=True)
        self.value = value

    def _block(self, rows: slice, accumulate: bool) -> Array:
        n = rows.stop - rows.start
        coordinates, target, weights = self.pixels.take(self.batch, rows)
        x = self.encoder(coordinates, out=self._room_for_features(coordinates))
        y = self.mlp.forward(x)
        value, dy = self.backend.loss_and_gradient(
            self.loss, y, target, count=self.count, weights=weights, out=first_rows(self.dy, n)
        )
        self.mlp.backward(dy, accumulate=accumulate)
        return value

    def _room_for_features(self, coordinates: Array) -> Array | None:
        # Where each member has a batch of its own, so it has features, though B may be shared.
        if self.features is not None and self.features.ndim < coordinates.ndim:
            shape = (*coordinates.shape[:-2], *self.features.shape)
            self.features = self.backend.scratch(shape, self.mlp.dtype)
        return first_rows(self.features, coordinates.shape[-2])


def feature_buffer(
    backend: Backend, encoder: Encoder, ensemble: tuple[int, ...], rows: int, dtype: str
) -> Array | None:
    """A buffer on offer for an encoder's features, with ensemble axes only where B has them."""
    if encoder.B is None:
        return None
    shared = encoder.B.ndim == 2
    return backend.scratch((*(() if shared else ensemble), rows, encoder.num_features), dtype)


def cost_of_a_row(mlp: MLP) -> tuple[int, int]:
    """Bytes of activations that one row keeps alive in all members, and its operations forward."""
    sizes, members = mlp.layout.layer_sizes, max(1, mlp.parameters.shape[0] if mlp.parameters.ndim > 1 else 1)
    item = 8 if mlp.dtype == "float64" else 4
    products = sum(n_in * n_out for n_in, n_out in itertools.pairwise(sizes))
    return members * sum(sizes) * item, members * 2 * products
