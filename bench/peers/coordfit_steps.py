"""Train in coordfit itself: its compiled path, and others of its paths for comparison."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordfit.backends import Backend, get_backend
from coordfit.config import make_config
from coordfit.models.model import Model
from coordfit.network.losses import make_loss
from coordfit.network.parameters import ParameterLayout
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.pixels.step_inputs import StepInputs
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.signals.facts import SignalFacts
from coordfit.tiles.group import TileGroup
from coordfit.tiles.layout import TileLayout
from coordfit.tiles.network import TileNetwork
from coordfit.tiles.trainer import TileTrainer
from coordfit.training.step import TrainingStep

from .cases import LEARNING_RATE, Case, Problem


def model_of(backend: Backend, problem: Problem) -> Model:
    """Return the problem's network on the backend."""
    case = problem.case
    layout = ParameterLayout(case.layer_sizes)
    ensemble = () if case.members is None else (case.members,)
    flat = np.zeros((*ensemble, layout.size), np.float32)
    for (W, b), (W0, b0) in zip(layout.views(np, flat), problem.weights, strict=True):
        W[...], b[...] = W0, b0
    settings = {"hidden_size": case.hidden, "num_frequencies": case.num_frequencies}
    return Model(backend, make_config(settings), SignalFacts((case.size, case.size), 3), {"B": problem.B}, flat)


class Peer:
    """What both kinds of cases share.

    `variant` is a backend and a mode: "numba-always" is the engine, which raises where it would fall back or
    leave steps to the host; "numpy-never" the generic bodies.
    """

    stride = 1

    def __init__(self, variant: str) -> None:
        device, fused = variant.split("-")
        self.backend = get_backend(device, fused=fused)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(self.backend.activate())

    def settings(self, case: Case, cores: int) -> dict[str, list[Any]]:
        """See `worker.Peer`: the library chooses for itself, as for its users."""
        return {}


class Steps(Peer):
    """The step of the library, or the groups of tiles of a fit."""

    def prepare(self, problem: Problem, setting: dict[str, Any]) -> None:
        """See `worker.Peer`."""
        case, backend = problem.case, self.backend
        self.problem, self.t = problem, 0
        if case.tiles:
            self.tiles = _Tiles(backend, problem)
            return
        model = model_of(backend, problem)
        optimizer = ElementwiseOptimizer(backend, model.mlp.parameters, Adam(), dtype="float32")
        pixels = TrainingPixels(
            backend, backend.asarray(problem.coordinates, "float32"), backend.asarray(problem.target, "float32")
        )
        orders = [] if problem.order is None else [problem.order]
        step_inputs = StepInputs(lambda step: [LEARNING_RATE], orders)
        self.step = TrainingStep(
            backend, model.encoder, model.mlp, make_loss("mse"), optimizer, pixels, case.rows, step_inputs
        )
        if self.backend.name == "numba" and not self.step.is_recorded:
            raise RuntimeError(f"{case.name}: the step was not recorded")

    def run(self, steps: int) -> list[float]:
        """See `worker.Peer`."""
        if self.problem.case.tiles:
            return self.tiles.run(steps)
        self.step.advance(self.t, steps)
        self.t += steps
        return [float(np.mean(value)) for value in self.step.new_losses(wait=True)]


class _Tiles:
    """Tiles as a fit trains them: each worker has groups, and takes all steps of one before the next."""

    def __init__(self, backend: Backend, problem: Problem) -> None:
        case, self.backend = problem.case, backend
        settings = {"num_frequencies": case.num_frequencies, "hidden_size": case.hidden, "depth": 2}
        fixed = {"batch_size": None, "output_activation": "identity", "learning_rate": LEARNING_RATE}
        config = make_config(settings, fixed, {"schedule": "constant"})
        network = TileNetwork(config, 3, {"B": problem.B})
        # A tile's coordinates are those of a picture of its size.
        layout = TileLayout((case.size, case.size), case.size - 2, 2)
        crews = backend.per_worker_backends()
        size = TileTrainer(backend, network, layout).group_size
        members = case.members or 1
        parts = -(-members // (size * len(crews))) * len(crews)
        self.groups: list[list[TileGroup]] = [[] for _ in crews]
        for k, part in enumerate(np.array_split(np.arange(members), parts)):
            group = TileGroup(crews[k % len(crews)], network, layout, len(part))
            for (W, b), (W0, b0) in zip(
                network.layout.views(np, group.parameters), problem.weights, strict=True
            ):
                W[...], b[...] = W0[part], b0[part]
            group.target[...] = problem.target[part]
            self.groups[k % len(crews)].append(group)

    def run(self, steps: int) -> list[float]:
        """Return the mean loss of each step."""
        losses: list[NDArray[Any]] = []

        def work(groups: list[TileGroup]) -> None:
            for group in groups:
                group.training_step.advance(group.optimizer.steps, steps)
                losses.append(group.training_step.new_losses(wait=True))

        self.backend.run_workers([functools.partial(work, groups) for groups in self.groups])
        return [float(value) for value in np.concatenate(losses, axis=1).mean(axis=1)]
