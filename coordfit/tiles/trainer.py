"""Training of the tiles: groups of K networks as one batch, each worker with groups of its own.

A tile starts from the closed-form last layer over hidden units that are the same for all tiles, takes some
steps of the optimizer, and ends with its last layer solved again. Its target is brought to mean 0 and spread 1
first, so that one learning rate serves all tiles; the last layer takes that back at the end. Tiles that are
good enough leave; the others go on in new groups, with more steps. Pixels may be hidden, other ones in each
tile: they weigh nothing in steps, closed forms and errors.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from ..network.cost import cost_of_a_row
from ..network.losses import make_loss
from ..optimizers.base import Optimizer
from ..optimizers.last_layer import least_squares
from ..optimizers.make import make_optimizer
from ..optimizers.schedules import schedule_factor
from ..pixels.rows import GridRows
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from ..training.step import TrainingStep
from .layout import TileLayout
from .network import TileNetwork
from .under_way import Round, UnderWay

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
_TELL_SECONDS = 0.2

Host = NDArray[np.floating]


class TileGroup:
    """Up to K tiles that are trained together; its buffers serve one batch of them after the other.

    Its steps are `TrainingStep`s, but no `training.loop.Loop` takes them: groups run side by side in workers, a
    round of steps has no evaluation before its end, and its end is a closed form that each tile keeps or not.
    What the loop does for networks (clocks, callbacks, what is kept of a killed run) is `TiledFit`'s, for all
    groups together.

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
        self.encoder = network.encoder(backend)
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
            StepInputs(lambda step: (self.learning_rate(step),)),
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
        self,
        parameters: Host,
        target: Host,
        steps: int,
        weights: Host | None = None,
        *,
        told: Callable[[int], bool] | None = None,
    ) -> tuple[Host, Host] | None:
        """Parameters (n, P) after `steps` steps from given ones, and the squared error of each pixel (n, N).

        There may be fewer tiles than the group has room for: the others go on with what is there, unheard.

        Parameters
        ----------
        weights : array, shape (n, N), optional
            Of each pixel, of mean 1 in each tile; for a group that is `masked`.
        told : callable, optional
            Told of the steps so far; True breaks off, and the result is None.
        """
        backend, dtype, own = self.backend, self.network.config.dtype, slice(len(parameters))
        self.parameters[own, ...] = backend.asarray(parameters, dtype)
        self.target[own, ...] = backend.asarray(target, dtype)
        if self.weights is not None and weights is not None:
            self.weights[own, ...] = backend.asarray(weights[..., None], dtype)
        if steps and not self._take(steps, told):
            return None
        squared = self._finish()
        return np.array(backend.to_numpy(self.parameters[own, ...])), squared[own]

    def _take(self, steps: int, told: Callable[[int], bool] | None) -> bool:
        """Take the steps; False where they were broken off."""
        self.optimizer.steps, self.steps, taken = 0, steps, 0
        for state in self.optimizer.state.values():
            state[...] = 0.0
        while taken < steps:
            count = min(steps - taken, self.training_step.steps_at_once)
            self.training_step.advance(taken, count)
            taken += count
            if told is not None and told(taken):
                return False
        self.training_step.new_losses()  # the end is judged without them, and they must not pile up
        return True

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
        Told a few times a second, and after each group, how many tiles have been trained, and whether a group
        was finished; those under way count by their share. True ends the training when the groups under way
        are finished, and the tiles stay as they are; see also `break_off`.
    """

    def __init__(
        self,
        backend: Backend,
        network: TileNetwork,
        layout: TileLayout,
        *,
        every_tile: bool = False,
        largest: float = math.inf,
        stop: Callable[[float, bool], bool] | None = None,
    ) -> None:
        self.backend, self.network, self.layout = backend, network, layout
        self.every_tile, self.largest, self._stop = every_tile, largest, stop
        self._lock, self.diverged = threading.Lock(), 0
        self.crews = [_Crew(b, network, layout) for b in backend.per_worker_backends()]
        rows, (row_bytes, _) = len(layout.grid), cost_of_a_row(network.layout.layer_sizes, network.config.dtype)
        self.group_size = max(4, backend.group_bytes // (row_bytes * rows))
        self.first = network.first_parameters()
        self.stopped, self.seconds, self.steps_taken = False, 0.0, 0
        self.broken_off = False
        self._tiles: Tiles | None = None
        self._round: Round | None = None
        self._rounds: list[int] = []
        self._now = [0.0] * len(self.crews)  # of each worker: tiles of its group, by the share of their steps
        self._last_told = 0.0

    @property
    def target_error(self) -> float | None:
        """The mean squared error that is asked for, if one is."""
        target = self.network.config.target_psnr
        return None if target is None else float(10.0 ** (-target / 10.0))

    def fit(
        self,
        pixels: Host,
        steps: int,
        shares: Host | None = None,
        weights: Host | None = None,
        *,
        going_on: UnderWay | None = None,
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
        going_on : UnderWay, optional
            Where an earlier run left these tiles.
        """
        start = time.perf_counter()
        self._tiles = self._round = None
        tiles = self._begin(pixels, shares, weights)
        self._rounds = [steps] if self.target_error is None else [steps * 2**k // 2 for k in range(_ROUNDS)]
        if going_on is not None:
            tiles.parameters[...], tiles.error[...] = going_on.parameters, going_on.error
            self._round, self.diverged = going_on.round, self.diverged + going_on.diverged
        self._tiles = tiles
        while not self.stopped and (following := self._next_round(tiles, self._round)) is not None:
            self._round = following
            self._train(tiles, following)
        if self._round is not None:
            self.steps_taken += self._steps_up_to(self._round)
        self.seconds += time.perf_counter() - start
        if not self.broken_off:
            self._tiles = self._round = None
            self._take_the_scale_back(tiles.parameters, tiles.mean, tiles.spread)
        return tiles.parameters, tiles.error

    def break_off(self) -> None:
        """End the training at once, with groups that are not finished; what is there is `under_way`."""
        self.stopped = self.broken_off = True

    def under_way(self) -> UnderWay | None:
        """Where the tiles of a `fit` stand that is at work or was broken off; None before its first group."""
        with self._lock:
            if self._tiles is None or self._round is None:
                return None
            round_ = dataclasses.replace(self._round, trained=self._round.trained.copy())
            return UnderWay(self._tiles.parameters.copy(), self._tiles.error.copy(), round_, self.diverged)

    def parameters_now(self, chosen: NDArray[np.integer]) -> Host:
        """Return the flat parameters (k, P) of some tiles of a `fit` that is at work, for colours as they are.

        A tile of which nothing is known yet is NaN.
        """
        found = np.full((len(chosen), len(self.first)), math.nan, self.network.config.dtype)
        with self._lock:
            if self._tiles is None or not len(chosen):
                return found
            inside = np.flatnonzero(chosen < len(self._tiles.error))
            inside = inside[np.isfinite(self._tiles.error[chosen[inside]])]
            numbers = chosen[inside]
            parameters = self._tiles.parameters[numbers]
            mean, spread = self._tiles.mean[numbers], self._tiles.spread[numbers]
        self._take_the_scale_back(parameters, mean, spread)
        found[inside] = parameters
        return found

    @property
    def errors(self) -> NDArray[np.floating]:
        """Of the tiles of the latest `fit` (n,), as they are now."""
        return np.empty(0) if self._tiles is None else self._tiles.error

    def _next_round(self, tiles: Tiles, last: Round | None) -> Round | None:
        """The round that comes next, or the last one where groups of it are left; None at the end."""
        if last is not None and not last.trained.all():
            return last
        number, left, taken = 0, _HOPE, 0
        if last is not None:
            number, taken = last.number + 1, self._steps_up_to(last)
            if 0.0 < last.before < math.inf:
                left = float(np.clip(tiles.error[last.chosen].sum() / last.before, _HOPE, 1.0))
        chosen = self._unfinished(tiles, left)
        if number == len(self._rounds) or not len(chosen):
            return None
        group = np.full(len(tiles.error), -1, np.int32)
        groups = self._groups(chosen)
        for k, part in enumerate(groups):
            group[part] = k
        before = float(tiles.error[chosen].sum())
        return Round(number, before, taken, group, np.zeros(len(groups), np.bool_))

    def _groups(self, chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        parts = -(-len(chosen) // self.group_size)
        parts = -(-parts // len(self.crews)) * len(self.crews)  # all workers end together
        return [part for part in np.array_split(chosen, parts) if len(part)]

    def _steps_up_to(self, round_: Round) -> int:
        """Steps of all tiles together, from the first round to what has been trained of this one."""
        return round_.steps_before + self._rounds[round_.number] * round_.tiles_trained

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

    def _train(self, tiles: Tiles, round_: Round) -> None:
        """Train what is left of a round, in groups, which the workers take one after the other."""
        groups = collections.deque(int(k) for k in np.flatnonzero(~round_.trained))
        tasks = [functools.partial(self._work, k, tiles, groups, round_) for k in range(len(self.crews))]
        with self.backend.activate():
            self.backend.run_workers(tasks, self.break_off)

    def _work(self, worker: int, tiles: Tiles, groups: collections.deque[int], round_: Round) -> None:
        crew, steps = self.crews[worker], self._rounds[round_.number]
        while not self.stopped:
            try:
                number = groups.popleft()
            except IndexError:
                return
            chosen = np.flatnonzero(round_.group == number)
            group = crew.group(len(chosen), masked=tiles.weights is not None)
            weights = None if tiles.weights is None else tiles.weights[chosen]
            told = functools.partial(self._step_taken, worker, len(chosen) / max(1, steps))
            learned = group.learn(tiles.parameters[chosen], tiles.target[chosen], steps, weights, told=told)
            if learned is None:
                return
            put = functools.partial(self._put, tiles, round_, number, chosen, *learned)
            try:
                put()
            except KeyboardInterrupt:  # in the middle of it, perhaps: the same once more makes it whole
                put()
                raise
            self._now[worker] = 0.0
            if worker == 0:
                self._tell(is_whole=True)

    def _put(
        self,
        tiles: Tiles,
        round_: Round,
        number: int,
        chosen: NDArray[np.int64],
        parameters: Host,
        squared: Host,
    ) -> None:
        """Take what a group has learned where it is better than what was there."""
        error = tiles.mean_of(squared, chosen)
        sound = np.isfinite(error) & (np.abs(parameters).max(axis=1) <= self.largest)  # NaN is not
        with self._lock:
            better = sound & (error < tiles.error[chosen])
            tiles.parameters[chosen[better]] = parameters[better]
            tiles.error[chosen[better]] = error[better]
            round_.trained[number] = True
            self.diverged += int(np.sum(~sound))

    def _step_taken(self, worker: int, tiles_a_step: float, taken: int) -> bool:
        """Note how far a worker's group is; whether it is to be broken off."""
        self._now[worker] = tiles_a_step * taken
        if worker == 0 and time.perf_counter() - self._last_told >= _TELL_SECONDS:
            self._tell(is_whole=False)
        return self.broken_off

    def _tell(self, *, is_whole: bool) -> None:
        self._last_told = time.perf_counter()
        if self._stop is not None:
            self.stopped = self._stop(self._trained(), is_whole) or self.stopped

    def _trained(self) -> float:
        """How many tiles have been trained; those with rounds to come count by their share of all steps."""
        assert self._round is not None
        number, rounds, chosen = self._round.number, self._rounds, len(self._round.chosen)
        steps = sum(rounds[:number]) * chosen + rounds[number] * (self._round.tiles_trained + sum(self._now))
        return len(self._round.group) - chosen + steps / max(1, sum(rounds))

    def _take_the_scale_back(self, parameters: Host, mean: Host, spread: Host) -> None:
        """Make networks of the scaled target networks of the colours: the last layer is linear."""
        if self.network.config.output_activation == "identity":
            W, b = list(self.network.layout.views(np, parameters))[-1]
            W *= spread
            b *= spread
            b += mean

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
