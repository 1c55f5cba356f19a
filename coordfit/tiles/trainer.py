"""Training of the tiles: groups of K networks as one batch, each worker with groups of its own.

A tile starts from the closed-form last layer over hidden units that are the same for all tiles, takes some
steps of the optimizer, and ends with its last layer solved again. Its target is brought to mean 0 and spread 1
first, so that one learning rate serves all tiles; the last layer takes that back at the end. Tiles that are
good enough leave; the others go on in new groups, with more steps. Pixels may be hidden, other ones in each
tile: they weigh nothing in steps, closed forms and errors.
"""

from __future__ import annotations

import collections
import functools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from ..course import Course
from ..encoders import make_encoder
from ..last_layer import least_squares
from ..losses import make_loss
from ..optimizers import Optimizer
from ..pixel_rows import GridRows
from ..schedules import schedule_factor
from ..training import make_optimizer
from ..training_step import TrainingPixels, TrainingStep, cost_of_a_row
from .layout import TileLayout
from .network import TileNetwork

# With a target, tiles begin with half of the steps; those that miss it go on, each time with twice as many.
_ROUNDS = 4
# Of the last layers in closed form. Less fits the pixels sooner, but the picture is restless between them: with
# 1e-5 a rendering at twice the size loses 0.7 dB.
RIDGE = 1e-3
# Where tiles do not see all pixels: smaller weights guess better what is between them.
RIDGE_BETWEEN = 3e-2
# The spread to which a tile's colours are scaled is not smaller than this: flat tiles are not blown up.
_LEAST_SPREAD = 1 / 255
# What a round is expected to leave of a tile's error, before one has told.
_HOPE = 0.2
# A group is made for so many times the tiles that it is to hold at most; to make another takes as long as a
# round of some ten tiles.
_MOST_ROOM = 1.5

Host = NDArray[np.floating]


class TileGroup:
    """Up to K tiles that are trained together; its buffers serve one batch of them after the other.

    Parameters
    ----------
    masked : bool
        Whether pixels have weights, each tile its own.
    """

    def __init__(
        self, backend: Backend, network: TileNetwork, layout: TileLayout, count: int, *, masked: bool = False
    ) -> None:
        self.backend, self.network, self.count = backend, network, count
        dtype, rows = network.config.dtype, len(layout.grid)
        self.parameters = backend.zeros((count, network.layout.size), dtype)
        self.target = backend.zeros((count, rows, network.channels), dtype)
        self.weights = backend.zeros((count, rows, 1), dtype) if masked else None
        self.coordinates = GridRows(backend, layout.grid, 1, dtype)
        self.encoder = make_encoder(backend, network.B, dtype)
        self.features = self.encoder(self.coordinates.rows(slice(0, rows)))
        self.mlp = network.mlp(backend, self.parameters, rows)
        self.steps = 1

    @functools.cached_property
    def optimizer(self) -> Optimizer:
        """Of all tiles of the group."""
        return make_optimizer(self.backend, self.network.config, self.parameters, self.network.layout)

    @functools.cached_property
    def training_step(self) -> TrainingStep:
        """Made with the first step: a group whose last layers alone are solved has none."""
        config = self.network.config
        return TrainingStep(
            self.backend,
            self.encoder,
            self.mlp,
            make_loss(config.loss, delta=config.delta),
            self.optimizer,
            TrainingPixels(self.backend, self.coordinates, self.target, self.weights),
            self.coordinates.size,
            Course(lambda step: (self.learning_rate(step),)),
        )

    def learning_rate(self, step: int) -> float:
        """Of the step that follows `step` steps."""
        config = self.network.config
        return config.learning_rate * schedule_factor(
            config.schedule,
            step,
            self.steps,
            warmup_steps=config.warmup_steps,
            final_factor=config.final_factor,
        )

    def learn(
        self, parameters: Host, target: Host, steps: int, weights: Host | None = None
    ) -> tuple[Host, Host]:
        """Parameters (n, P) after `steps` steps from given ones, and the squared error of each pixel (n, N).

        There may be fewer tiles than the group has room for: the others go on with what is there, unheard.

        Parameters
        ----------
        weights : array, shape (n, N), optional
            Of each pixel, of mean 1 in each tile; for a group that is `masked`.
        """
        backend, dtype, own = self.backend, self.network.config.dtype, slice(len(parameters))
        self.parameters[own, ...] = backend.asarray(parameters, dtype)
        self.target[own, ...] = backend.asarray(target, dtype)
        if self.weights is not None and weights is not None:
            self.weights[own, ...] = backend.asarray(weights[..., None], dtype)
        if steps:
            self._take(steps)
        squared = self._finish()
        return np.array(backend.to_numpy(self.parameters[own, ...])), squared[own]

    def _take(self, steps: int) -> None:
        self.optimizer.steps, self.steps = 0, steps
        for state in self.optimizer.state.values():
            state[...] = 0.0
        self.training_step.advance(0, steps)
        self.training_step.new_losses()  # nobody asks for them: the end is judged, and they shall not pile up

    def _finish(self) -> Host:
        """Solve the last layers, where that can be; the squared error (K, N) of what is there at the end."""
        xp, network = self.backend.xp, self.network
        prediction = self.mlp.forward(self.features)
        if closes(network):
            hidden = self.backend.as_numbers(self.mlp.layers[-1].x)
            last = list(network.layout.views(xp, self.parameters))[-1]
            W, b = least_squares(self.backend, hidden, self.target, _ridge(self.weights), self.weights)
            last[0][...], last[1][...] = W, b
            prediction = hidden @ last[0] + last[1]
        residual = prediction - self.target
        return np.array(self.backend.to_numpy(xp.mean(residual * residual, axis=-1)), np.float64)


def _ridge(weights: Array | None) -> float:
    """Of a last layer whose pixels have these weights; None where all are seen."""
    return RIDGE if weights is None else RIDGE_BETWEEN


def closes(network: TileNetwork) -> bool:
    """Whether the last layer has a closed form: a linear output, a hidden layer, and squares to minimise."""
    config = network.config
    return config.output_activation == "identity" and config.loss == "mse" and config.depth > 1


@dataclass
class Tiles:
    """Some tiles on the host: what they are to learn, and how far they are."""

    weights: Host | None
    """(n, N), of mean 1 in each tile: how much each pixel counts in training; None where all count alike."""
    shares: Host
    """(n, N), how much of each pixel is a tile's own, times the pixel's weight."""

    target: Host
    """(n, N, C), of mean 0 and spread 1 in each tile."""
    mean: Host
    """(n, 1, C)."""
    spread: Host
    """(n, 1, 1)."""
    parameters: Host
    """(n, P), for that target."""
    error: Host
    """(n,), the mean squared error of the colours themselves, by the shares."""

    def mean_of(self, squared: Host, chosen: NDArray[np.int64] | slice) -> Host:
        """The weighted mean (K,) of squared errors (K, N) of scaled colours, for colours as they are."""
        shares = self.shares[chosen]
        mean = (squared * shares).sum(axis=1) / shares.sum(axis=1)
        return np.asarray(mean * self.spread[chosen, 0, 0] ** 2)


class TileTrainer:
    """Trains the tiles of a picture, as many at a time as it is given.

    Parameters
    ----------
    largest : float
        The largest number that can be stored: tiles with larger ones have diverged, and keep what they had.
    stop : callable, optional
        Asked between groups; True ends the training, and the tiles stay as they are.
    """

    def __init__(
        self,
        backend: Backend,
        network: TileNetwork,
        layout: TileLayout,
        *,
        every_tile: bool = False,
        largest: float = math.inf,
        stop: Callable[[int], bool] | None = None,
    ) -> None:
        self.backend, self.network, self.layout = backend, network, layout
        self.every_tile, self.largest, self._stop = every_tile, largest, stop
        self._lock, self.diverged = threading.Lock(), 0
        self.crews = [_Crew(b, network, layout) for b in backend.side_by_side()]
        rows, (row_bytes, _) = len(layout.grid), cost_of_a_row(network.layout.layer_sizes, network.config.dtype)
        self.group_size = max(4, backend.group_bytes // (row_bytes * rows))
        self.first = network.first_parameters()
        self.stopped, self.seconds, self.steps_taken = False, 0.0, 0

    @property
    def target_error(self) -> float | None:
        """The mean squared error that is asked for, if one is."""
        target = self.network.config.target_psnr
        return None if target is None else float(10.0 ** (-target / 10.0))

    def fit(
        self, pixels: Host, steps: int, shares: Host | None = None, weights: Host | None = None
    ) -> tuple[Host, Host]:
        """Flat parameters (n, P) of tiles with pixels (n, N, C), and their mean squared errors (n,).

        Parameters
        ----------
        steps : int
            Of each tile without a target; with one, rounds have half of them, all, twice and four times that.
        shares : array, shape (n, N), optional
            How much of each pixel is a tile's own. Errors are weighted by them; so what the errors promise, the
            blended picture keeps: the square of a mean is at most the mean of the squares.
        weights : array, shape (n, N), optional
            How much each pixel counts, above 0.
        """
        start = time.perf_counter()
        tiles = self._begin(pixels, shares, weights)
        rounds = [steps] if self.target_error is None else [steps * 2**k // 2 for k in range(_ROUNDS)]
        left = _HOPE
        for count in rounds:
            chosen = self._unfinished(tiles, left)
            if not len(chosen) or self.stopped:
                break
            before = tiles.error[chosen].sum()
            self._train(tiles, chosen, count)
            if 0.0 < before < math.inf:
                left = float(np.clip(tiles.error[chosen].sum() / before, _HOPE, 1.0))
        self._take_the_scale_back(tiles)
        self.seconds += time.perf_counter() - start
        return tiles.parameters, tiles.error

    def _begin(self, pixels: Host, shares: Host | None, weights: Host | None) -> Tiles:
        dtype = self.network.config.dtype
        if shares is None:
            shares = np.ones(pixels.shape[:-1], dtype)
        if weights is not None:
            shares = shares * weights  # a tile that sees few pixels has little to say of the picture's error
            weights = (weights / weights.mean(axis=1, keepdims=True)).astype(dtype)
        linear = self.network.config.output_activation == "identity"
        mean, spread = np.zeros_like(pixels[:, :1]), np.ones((len(pixels), 1, 1), dtype)
        if linear:
            mean = np.mean(pixels if weights is None else weights[..., None] * pixels, axis=1, keepdims=True)
        target = (pixels - mean).astype(dtype)
        if linear:
            squares = np.square(target) if weights is None else weights[..., None] * np.square(target)
            spread = np.maximum(np.sqrt(squares.mean(axis=(1, 2), keepdims=True)), _LEAST_SPREAD)
        target /= spread
        parameters, error = np.tile(self.first, (len(pixels), 1)), np.full(len(pixels), math.inf)
        tiles = Tiles(weights, shares, target, mean, spread, parameters, error)
        if closes(self.network):
            self._solve_first_layers(tiles)
        return tiles

    def _solve_first_layers(self, tiles: Tiles) -> None:
        """The last layer over the hidden units of the first weights: one array for all tiles."""
        group = self.crews[0].one
        backend = group.backend
        group.parameters[...] = backend.asarray(self.first, self.network.config.dtype)
        group.mlp.forward(group.features)
        hidden = backend.as_numbers(group.mlp.layers[-1].x)[0, ...]
        target = backend.asarray(tiles.target)
        weights = None if tiles.weights is None else backend.asarray(tiles.weights[..., None])
        closed = least_squares(backend, hidden, target, _ridge(weights), weights)
        solved = [backend.to_numpy(a) for a in closed]
        W, b = list(self.network.layout.views(np, tiles.parameters))[-1]
        W[...], b[...] = solved
        residual = backend.to_numpy(hidden) @ W + b - tiles.target
        tiles.error[:] = tiles.mean_of(np.square(residual).mean(axis=-1), slice(None))

    def _unfinished(self, tiles: Tiles, left: float) -> NDArray[np.int64]:
        """The tiles that are to go on: all, those that miss the target, or the worst that stand in its way.

        `left` is the share of a tile's error that another round is expected to leave.
        """
        target, error = self.target_error, tiles.error
        if target is None:
            return np.arange(len(error))
        if self.every_tile or not np.isfinite(error).all():
            return np.flatnonzero(~(error <= target))
        total = error * tiles.shares.sum(axis=1, dtype=np.float64)
        allowed = target * float(tiles.shares.sum(dtype=np.float64))
        if total.sum() <= allowed:
            return np.empty(0, np.int64)
        worst = np.argsort(-total, kind="stable")
        hoped = total.sum() - (1.0 - left) * np.cumsum(total[worst])
        enough = np.flatnonzero(hoped <= allowed)
        return np.sort(worst[: 1 + enough[0]] if len(enough) else worst)

    def _train(self, tiles: Tiles, chosen: NDArray[np.int64], steps: int) -> None:
        """Train the chosen tiles in groups, which the workers take one after the other."""
        parts = -(-len(chosen) // self.group_size)
        parts = -(-parts // len(self.crews)) * len(self.crews)  # all workers end together
        groups = collections.deque(part for part in np.array_split(chosen, parts) if len(part))
        tasks = [functools.partial(self._work, crew, tiles, groups, steps) for crew in self.crews]
        with self.backend.activate():
            self.backend.run_workers(tasks)

    def _work(
        self, crew: _Crew, tiles: Tiles, groups: collections.deque[NDArray[np.int64]], steps: int
    ) -> None:
        while not self.stopped:
            try:
                chosen = groups.popleft()
            except IndexError:
                return
            group = crew.group(len(chosen), masked=tiles.weights is not None)
            weights = None if tiles.weights is None else tiles.weights[chosen]
            parameters, squared = group.learn(tiles.parameters[chosen], tiles.target[chosen], steps, weights)
            error = tiles.mean_of(squared, chosen)
            sound = np.isfinite(error) & (np.abs(parameters).max(axis=1) <= self.largest)  # NaN is not
            better = sound & (error < tiles.error[chosen])
            with self._lock:
                self.steps_taken += steps * len(chosen)
                self.diverged += int(np.sum(~sound))
            tiles.parameters[chosen[better]], tiles.error[chosen[better]] = parameters[better], error[better]
            if crew is self.crews[0] and self._stop is not None:
                self.stopped = self._stop(len(chosen)) or self.stopped

    def _take_the_scale_back(self, tiles: Tiles) -> None:
        """From networks of the scaled target to networks of the colours: the last layer is linear."""
        if self.network.config.output_activation == "identity":
            W, b = list(self.network.layout.views(np, tiles.parameters))[-1]
            W *= tiles.spread
            b *= tiles.spread
            b += tiles.mean

    def routes(self) -> dict[str, dict[str, int]]:
        """Calls of each primitive by route, of all workers."""
        total: dict[str, dict[str, int]] = {}
        for crew in self.crews:
            for name, counts in crew.backend.routes().items():
                for route, count in counts.items():
                    of_name = total.setdefault(name, {})
                    of_name[route] = of_name.get(route, 0) + count
        return total


class _Crew:
    """One worker's backend, and groups of the sizes that it has met."""

    def __init__(self, backend: Backend, network: TileNetwork, layout: TileLayout) -> None:
        self.backend, self._make = backend, functools.partial(TileGroup, backend, network, layout)
        self._groups: list[TileGroup] = []

    @functools.cached_property
    def one(self) -> TileGroup:
        """A group of one tile."""
        return self._make(1)

    def group(self, count: int, *, masked: bool) -> TileGroup:
        """A group for so many tiles; two are kept, since neighbours in the queue differ by one at most."""
        for group in self._groups:
            alike = (group.weights is not None) == masked
            if alike and count <= group.count <= _MOST_ROOM * count:
                return group
        group = self._make(count, masked=masked)
        self._groups = [*self._groups[-1:], group]
        return group


__all__: Sequence[str] = ("TileGroup", "TileTrainer", "Tiles", "closes")
