"""Training of the tiles: rounds of groups of K tiles, side by side in workers.

A tile starts from the closed-form last layer over hidden units that all tiles share, takes some steps of the
optimizer, and ends with its last layer solved again. Tiles that reach the target leave; the others go on in new
groups, with more steps. Pixels may be hidden, in each tile others: they have no weight in steps, closed forms
and errors.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..backends import Backend
from ..network.cost import cost_of_a_row
from ..optimizers.last_layer import least_squares
from ..training.state import CALLBACK_SECONDS
from .group import RIDGE, GroupWorker, Host
from .layout import TileLayout
from .network import TileNetwork
from .scaled import ScaledTiles, unscale
from .unfinished import Round, UnfinishedTiles

# With a target, the first round has half of the steps; each later one has twice the steps of the one before.
_ROUNDS = 4
# The share of a tile's error that the first round is expected to leave.
_EXPECTED_REMAINING = 0.2


@dataclass(frozen=True)
class TileRules:
    """What ends the training of a tile."""

    every_tile: bool = False
    """Whether each tile has to reach the target, and not their mean alone."""
    largest: float = math.inf
    """A tile with a larger number has diverged, and keeps its old values."""
    ridge: float = RIDGE
    """That of last layers in closed form."""


@dataclass(frozen=True)
class Tally:
    """What the training of some tiles took."""

    steps: int
    diverged: int
    routes: dict[str, dict[str, int]]
    """Calls of each primitive by route."""


class TileTrainer:
    """Trains the tiles of a picture, as many at a time as it is given.

    `stop` is called a few times a second, and after each group, with the number of trained tiles (those in
    training count by their share of steps) and whether a group has just ended; True ends the training after the
    groups in training.
    """

    def __init__(
        self,
        backend: Backend,
        network: TileNetwork,
        layout: TileLayout,
        rules: TileRules | None = None,
        *,
        stop: Callable[[float, bool], bool] | None = None,
    ) -> None:
        self.backend, self.network, self.layout = backend, network, layout
        self.rules, self._stop = rules or TileRules(), stop
        self._counted: list[Tally] = []
        self._lock, self.diverged = threading.Lock(), 0
        backends, ridge = backend.per_worker_backends(), self.rules.ridge
        self.workers = [GroupWorker(own, network, layout, ridge) for own in backends]
        rows, (row_bytes, _) = len(layout.grid), cost_of_a_row(network.layout.layer_sizes, network.config.dtype)
        self.group_size = max(4, backend.group_bytes // (row_bytes * rows))
        self.stopped = self.aborted = False
        self.seconds, self.steps_taken = 0.0, 0
        self._tiles: ScaledTiles | None = None
        self._round: Round | None = None
        self._rounds: list[int] = []
        self._last_call = 0.0

    @property
    def target_error(self) -> float | None:
        """The mean squared error of `target_psnr`, if there is one."""
        target = self.network.config.target_psnr
        return None if target is None else float(10.0 ** (-target / 10.0))

    def fit(
        self,
        pixels: Host,
        steps: int,
        blend_weights: Host | None = None,
        weights: Host | None = None,
        *,
        start: UnfinishedTiles | None = None,
    ) -> tuple[Host, Host]:
        """Return flat parameters (n, P) of tiles with pixels (n, N, C), and their mean squared errors (n,).

        Without a target each tile takes `steps` steps; with one, rounds have half of them, all, twice and four
        times that. Pixels have `weights` (n, N) above 0. Errors are weighted by `blend_weights` (n, N) too: the
        blended picture then has at most their mean, since a squared mean is at most the mean of the squares.
        """
        began = time.perf_counter()
        self._tiles = self._round = None
        tiles = ScaledTiles.of(self.network, pixels, blend_weights, weights)
        if self.network.has_closed_form:
            self._solve_first_layers(tiles)
        self._rounds = [steps] if self.target_error is None else [steps * 2**k // 2 for k in range(_ROUNDS)]
        if start is not None:
            tiles.parameters[...], tiles.error[...] = start.parameters, start.error
            self._round, self.diverged = start.round, self.diverged + start.diverged
        self._tiles = tiles
        while not self.stopped and (following := self._next_round(tiles, self._round)) is not None:
            self._round = following
            self._train(tiles, following)
        if self._round is not None:
            self.steps_taken += self._steps_up_to(self._round)
        self.seconds += time.perf_counter() - began
        if not self.aborted:
            self._tiles = self._round = None
            unscale(self.network, tiles.parameters, tiles.mean, tiles.spread)
        return tiles.parameters, tiles.error

    def abort(self) -> None:
        """End the training at once, within groups too; what is left is `unfinished`."""
        self.stopped = self.aborted = True

    def unfinished(self) -> UnfinishedTiles | None:
        """Return the state of the tiles of a `fit` that runs or was aborted; None before its first group."""
        with self._lock:
            if self._tiles is None or self._round is None:
                return None
            round_ = dataclasses.replace(self._round, trained=self._round.trained.copy())
            return UnfinishedTiles(
                self._tiles.parameters.copy(), self._tiles.error.copy(), round_, self.diverged
            )

    def parameters_now(self, chosen: NDArray[np.integer]) -> Host:
        """Return the unscaled flat parameters (k, P) of some tiles of a `fit` that runs; NaN if unknown yet."""
        found = np.full((len(chosen), self.network.layout.size), math.nan, self.network.config.dtype)
        with self._lock:
            if self._tiles is None or not len(chosen):
                return found
            inside = np.flatnonzero(chosen < len(self._tiles.error))
            inside = inside[np.isfinite(self._tiles.error[chosen[inside]])]
            numbers = chosen[inside]
            parameters = self._tiles.parameters[numbers]
            mean, spread = self._tiles.mean[numbers], self._tiles.spread[numbers]
        unscale(self.network, parameters, mean, spread)
        found[inside] = parameters
        return found

    @property
    def errors(self) -> NDArray[np.floating]:
        """The present errors (n,) of the tiles of the latest `fit`."""
        return np.empty(0) if self._tiles is None else self._tiles.error

    def tally(self) -> Tally:
        """Return what the training took so far."""
        return Tally(self.steps_taken, self.diverged, self.routes())

    def count(self, tally: Tally) -> None:
        """Add what the training of other tiles took elsewhere."""
        self._counted.append(tally)
        self.steps_taken += tally.steps
        self.diverged += tally.diverged

    def routes(self) -> dict[str, dict[str, int]]:
        """Return the calls of each primitive by route, of all workers."""
        total: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        here = [worker.backend.routes() for worker in self.workers]
        for routes in (*here, *(tally.routes for tally in self._counted)):
            for name, counts in routes.items():
                total[name].update(counts)
        return {name: dict(counts) for name, counts in total.items()}

    def _solve_first_layers(self, tiles: ScaledTiles) -> None:
        """Solve the last layers over the hidden units of the first parameters, which all tiles share."""
        group = self.workers[0].group_of_one
        backend = group.backend
        group.parameters[...] = backend.asarray(self.network.first_parameters())
        group.mlp.forward(group.features)
        hidden, target = group.hidden_units[0, ...], backend.asarray(tiles.target)
        weights = None if tiles.weights is None else backend.asarray(tiles.weights[..., None])
        solved = least_squares(backend, hidden, target, group.ridge, weights)
        W, b = list(self.network.layout.views(np, tiles.parameters))[-1]
        W[...], b[...] = map(backend.to_numpy, solved)
        residual = backend.to_numpy(hidden) @ W + b - tiles.target
        tiles.error[:] = tiles.mean_error(np.square(residual).mean(axis=-1), slice(None))

    # -- rounds --------------------------------------------------------------------------------------

    def _next_round(self, tiles: ScaledTiles, last: Round | None) -> Round | None:
        """Return the next round, or the last one if groups of it are left; None at the end."""
        if last is not None and not last.trained.all():
            return last
        number, remaining, taken = 0, _EXPECTED_REMAINING, 0
        if last is not None:
            number, taken = last.number + 1, self._steps_up_to(last)
            if 0.0 < last.before < math.inf:
                share = tiles.error[last.chosen].sum() / last.before
                remaining = float(np.clip(share, _EXPECTED_REMAINING, 1.0))
        chosen = self._tiles_to_train(tiles, remaining)
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
        parts = -(-parts // len(self.workers)) * len(self.workers)  # all workers end together
        return [part for part in np.array_split(chosen, parts) if len(part)]

    def _steps_up_to(self, round_: Round) -> int:
        """Return the steps of all tiles together, from the first round to the trained part of this one."""
        return round_.steps_before + self._rounds[round_.number] * round_.tiles_trained

    def _tiles_to_train(self, tiles: ScaledTiles, remaining: float) -> NDArray[np.int64]:
        """Return the tiles of the next round: all, those above the target, or the worst ones.

        `remaining` is the share of a tile's error that another round is expected to leave.
        """
        target, error = self.target_error, tiles.error
        if target is None:
            return np.arange(len(error))
        if self.rules.every_tile or not np.isfinite(error).all():
            return np.flatnonzero(~(error <= target))
        total = error * tiles.error_weights.sum(axis=1, dtype=np.float64)
        allowed = target * float(tiles.error_weights.sum(dtype=np.float64))
        if total.sum() <= allowed:
            return np.empty(0, np.int64)
        worst = np.argsort(-total, kind="stable")
        expected = total.sum() - (1.0 - remaining) * np.cumsum(total[worst])
        enough = np.flatnonzero(expected <= allowed)
        return np.sort(worst[: 1 + enough[0]] if len(enough) else worst)

    def _train(self, tiles: ScaledTiles, round_: Round) -> None:
        """Train the groups that are left of a round; workers take one after the other."""
        numbers = collections.deque(int(k) for k in np.flatnonzero(~round_.trained))
        tasks = [functools.partial(self._work, worker, tiles, numbers, round_) for worker in self.workers]
        with self.backend.activate():
            self.backend.run_workers(tasks, self.abort)

    def _work(
        self, worker: GroupWorker, tiles: ScaledTiles, numbers: collections.deque[int], round_: Round
    ) -> None:
        steps = self._rounds[round_.number]
        while not self.stopped:
            try:
                number = numbers.popleft()
            except IndexError:
                return
            chosen = np.flatnonzero(round_.group == number)
            group = worker.group(len(chosen), masked=tiles.weights is not None)
            weights = None if tiles.weights is None else tiles.weights[chosen]
            on_step = functools.partial(self._on_step, worker, len(chosen) / max(1, steps))
            learned = group.learn(
                tiles.parameters[chosen], tiles.target[chosen], steps, weights, on_step=on_step
            )
            if learned is None:
                return
            accept = functools.partial(self._accept, tiles, round_, number, *learned)
            try:
                accept()
            except KeyboardInterrupt:  # perhaps in the middle; a second call completes it
                accept()
                raise
            worker.tiles_now = 0.0
            if worker is self.workers[0]:
                self._call_stop(is_whole=True)

    def _accept(self, tiles: ScaledTiles, round_: Round, number: int, parameters: Host, squared: Host) -> None:
        """Store what a group has learned for each tile whose error is lower now."""
        chosen = np.flatnonzero(round_.group == number)
        error = tiles.mean_error(squared, chosen)
        finite = np.isfinite(error) & (np.abs(parameters).max(axis=1) <= self.rules.largest)  # False for NaN
        with self._lock:
            better = finite & (error < tiles.error[chosen])
            tiles.parameters[chosen[better]] = parameters[better]
            tiles.error[chosen[better]] = error[better]
            round_.trained[number] = True
            self.diverged += int(np.sum(~finite))

    # -- progress ------------------------------------------------------------------------------------

    def _on_step(self, worker: GroupWorker, tiles_per_step: float, taken: int) -> bool:
        """Note the progress of a worker's group; return whether to abort it."""
        worker.tiles_now = tiles_per_step * taken
        if worker is self.workers[0] and time.perf_counter() - self._last_call >= CALLBACK_SECONDS:
            self._call_stop(is_whole=False)
        return self.aborted

    def _call_stop(self, *, is_whole: bool) -> None:
        self._last_call = time.perf_counter()
        if self._stop is not None:
            self.stopped = self._stop(self._num_trained(), is_whole) or self.stopped

    def _num_trained(self) -> float:
        """Return the number of trained tiles; those with rounds to come count by their share of all steps."""
        assert self._round is not None
        number, rounds, chosen = self._round.number, self._rounds, len(self._round.chosen)
        tiles_now = sum(worker.tiles_now for worker in self.workers)
        steps = sum(rounds[:number]) * chosen + rounds[number] * (self._round.tiles_trained + tiles_now)
        return len(self._round.group) - chosen + steps / max(1, sum(rounds))
