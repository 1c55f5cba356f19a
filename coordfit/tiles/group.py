"""One batch of K tiles on a device: steps of the optimizer, then the last layers in closed form."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend
from ..network.losses import make_loss
from ..optimizers.base import Optimizer
from ..optimizers.last_layer import least_squares
from ..optimizers.make import make_optimizer
from ..optimizers.schedules import learning_rate
from ..pixels.rows import GridRows
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from ..training.step import TrainingStep
from .layout import TileLayout
from .network import TileNetwork

# The ridge of closed forms. A smaller one fits the pixels sooner but oscillates between them: with 1e-5 a
# rendering at twice the size loses 0.7 dB.
RIDGE = 1e-3
# With hidden pixels: smaller weights interpolate better.
RIDGE_BETWEEN = 3e-2

# A group serves batches that fill at least the inverse of this; making another takes as long as training ten
# tiles for a round.
_MOST_CAPACITY = 1.5

Host = NDArray[np.floating]


class TileGroup:
    """Up to K tiles that are trained together; its buffers serve one batch of them after the other.

    It takes `TrainingStep`s without `training.loop.Loop`: groups run side by side in workers, are evaluated at
    their end only, and end with a closed form that each tile accepts or not. `TiledFit` has the clocks,
    callbacks and checkpoints of all groups together. If `masked`, pixels have weights, which differ by tile.
    `ridge` is that of the closed form.
    """

    def __init__(
        self,
        backend: Backend,
        network: TileNetwork,
        layout: TileLayout,
        count: int,
        *,
        masked: bool = False,
        ridge: float = RIDGE,
    ) -> None:
        self.backend, self.network, self.count, self.ridge = backend, network, count, ridge
        dtype, rows = network.config.dtype, len(layout.grid)
        self.parameters = backend.zeros((count, network.layout.size), dtype)
        self.target = backend.zeros((count, rows, network.channels), dtype)
        self.weights = backend.zeros((count, rows, 1), dtype) if masked else None
        self.coordinates = GridRows(backend, layout.grid, 1, dtype)
        self.encoder = network.encoder(backend)
        self.features = self.encoder(self.coordinates.rows(slice(0, rows)))
        self.mlp = network.mlp(backend, self.parameters, rows)
        self._length = [1]  # of the schedule: not in `self`, which a step would keep alive in a circle

    @functools.cached_property
    def optimizer(self) -> Optimizer:
        """The optimizer of all tiles."""
        network = self.network
        made: Optimizer = make_optimizer(self.backend, network.config, self.parameters, network.layout)
        return made

    @functools.cached_property
    def training_step(self) -> TrainingStep:
        """The training step; a group that only solves last layers never makes one."""
        config, length = self.network.config, self._length
        return TrainingStep(
            self.backend,
            self.encoder,
            self.mlp,
            make_loss(config.loss, **vars(config)),
            self.optimizer,
            TrainingPixels(self.backend, self.coordinates, self.target, self.weights),
            self.coordinates.size,
            StepInputs(lambda step: (learning_rate(config, step, length[0]),)),
        )

    def learn(
        self,
        parameters: Host,
        target: Host,
        steps: int,
        weights: Host | None = None,
        *,
        on_step: Callable[[int], bool] | None = None,
    ) -> tuple[Host, Host] | None:
        """Return parameters (n, P) after `steps` steps, and the squared error of each pixel (n, N).

        There may be fewer tiles than the group holds; the other rows are trained too and ignored. Weights
        (n, N) of pixels have mean 1 in each tile. If `on_step`, called with the number of steps so far, returns
        True, training is aborted and the result is None.
        """
        backend, dtype, own = self.backend, self.network.config.dtype, slice(len(parameters))
        self.parameters[own, ...] = backend.asarray(parameters, dtype)
        self.target[own, ...] = backend.asarray(target, dtype)
        if self.weights is not None and weights is not None:
            self.weights[own, ...] = backend.asarray(weights[..., None], dtype)
        if steps and not self._take_steps(steps, on_step):
            return None
        squared = self._finish()
        return np.array(backend.to_numpy(self.parameters[own, ...])), squared[own]

    def _take_steps(self, steps: int, on_step: Callable[[int], bool] | None) -> bool:
        """Take the steps; return False if they were aborted."""
        self.optimizer.steps, self._length[0], taken = 0, steps, 0
        for state in self.optimizer.state.values():
            state[...] = 0.0
        while taken < steps:
            count = min(steps - taken, self.training_step.steps_at_once)
            self.training_step.advance(taken, count)
            taken += count
            if on_step is not None and on_step(taken):
                return False
        self.training_step.new_losses()  # unused, and must not accumulate
        return True

    def _finish(self) -> Host:
        """Solve the last layers if there is a closed form; return the squared errors (K, N)."""
        prediction = self.mlp.forward(self.features)
        if self.network.has_closed_form:
            hidden = self.hidden_units
            W, b = list(self.network.layout.views(self.backend.xp, self.parameters))[-1]
            W[...], b[...] = least_squares(self.backend, hidden, self.target, self.ridge, self.weights)
            prediction = hidden @ W + b
        residual = prediction - self.target
        mean = self.backend.xp.mean(residual * residual, axis=-1)
        return np.array(self.backend.to_numpy(mean), np.float64)

    @property
    def hidden_units(self) -> Array:
        """The inputs (K, N, H) of the last layers, from the latest forward pass."""
        return self.backend.as_numbers(self.mlp.layers[-1].x)


class GroupWorker:
    """One worker's backend, with its groups and its progress."""

    def __init__(self, backend: Backend, network: TileNetwork, layout: TileLayout, ridge: float) -> None:
        self.backend = backend
        self._make = functools.partial(TileGroup, backend, network, layout, ridge=ridge)
        self._groups: list[TileGroup] = []
        self.tiles_now = 0.0
        """Tiles of the group in training, by the share of its steps that are taken."""

    @functools.cached_property
    def group_of_one(self) -> TileGroup:
        """A group of one tile."""
        return self._make(1)

    def group(self, count: int, *, masked: bool) -> TileGroup:
        """Return a group for `count` tiles; two are cached, as sizes in the queue differ by one at most."""
        for group in self._groups:
            is_alike = (group.weights is not None) == masked
            if is_alike and count <= group.count <= _MOST_CAPACITY * count:
                return group
        group = self._make(count, masked=masked)
        self._groups = [*self._groups[-1:], group]
        return group
