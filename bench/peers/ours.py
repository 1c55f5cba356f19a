"""Run coordfit itself: its compiled path, and its generic path for comparison."""

from __future__ import annotations

import contextlib
import functools
import threading
import time

import numpy as np
import threadpoolctl

from coordfit._backends import Backend, get_backend
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

from .cases import LEARNING_RATE, Problem


class Coordfit:
    """The step of the library itself.

    `variant` is a backend and a mode: "numba-always" is the engine, which raises where it would fall back or
    leave steps to the host; "numpy-never" the generic bodies.
    """

    def __init__(self, variant: str) -> None:
        device, fused = variant.split("-")
        self.backend = get_backend(device, fused=fused)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(self.backend.activate())

    def prepare(self, problem: Problem) -> None:
        """Build network, optimizer and step from the problem's numbers."""
        case, backend = problem.case, self.backend
        self.problem, self.t = problem, 0
        if case.tiles:
            self.tiles = _Tiles(backend, problem)
            return
        layout = ParameterLayout(case.layer_sizes)
        ensemble = () if case.members is None else (case.members,)
        flat = np.zeros((*ensemble, layout.size), np.float32)
        for (W, b), (W0, b0) in zip(layout.views(np, flat), problem.weights, strict=True):
            W[...], b[...] = W0, b0
        settings = {"hidden_size": case.hidden, "num_frequencies": case.num_frequencies}
        facts = SignalFacts((case.size, case.size), 3)
        self.model = Model(backend, make_config(settings), facts, {"B": problem.B}, flat)
        if case.render:
            return
        mlp = self.model.mlp
        optimizer = ElementwiseOptimizer(backend, mlp.parameters, Adam(), dtype="float32")
        pixels = TrainingPixels(
            backend, backend.asarray(problem.coordinates, "float32"), backend.asarray(problem.target, "float32")
        )
        loss = make_loss("mse")
        orders = [] if problem.order is None else [problem.order]
        step_inputs = StepInputs(lambda step: [LEARNING_RATE], orders)
        self.step = TrainingStep(
            backend, self.model.encoder, mlp, loss, optimizer, pixels, case.rows, step_inputs
        )
        if self.backend.name == "numba" and not self.step.is_recorded:
            raise RuntimeError(f"{case.name}: the step was not recorded")

    def run(self, steps: int) -> list[float]:
        """Take steps (or render), and return what says that the work was right."""
        if self.problem.case.render:
            size = self.problem.case.render
            return [float(self.model.render(size, size).mean()) for _ in range(steps)]
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
        losses: list[np.ndarray] = []

        def work(groups: list[TileGroup]) -> None:
            for group in groups:
                group.training_step.advance(group.optimizer.steps, steps)
                losses.append(group.training_step.new_losses(wait=True))

        self.backend.run_workers([functools.partial(work, groups) for groups in self.groups])
        return [float(value) for value in np.concatenate(losses, axis=1).mean(axis=1)]


def gemm_rate(seconds: float = 0.4) -> float:
    """Return operations per second of float32 products on all cores, at the better of two sizes."""
    return max(_gemm_rate(seconds / 2, size) for size in (512, 1024))


def _gemm_rate(seconds: float, size: int) -> float:
    # One BLAS thread and one product for each core: what a program could reach that did nothing else.
    backend = get_backend("numpy")
    done = [0] * backend.threads

    def multiply(k: int) -> None:
        a, b, c = (np.ones((size, size), np.float32) for _ in range(3))
        np.matmul(a, b, out=c)
        barrier.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            np.matmul(a, b, out=c)
            done[k] += 1

    barrier = threading.Barrier(backend.threads)
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        start = time.perf_counter()
        threads = [threading.Thread(target=multiply, args=(k,)) for k in range(backend.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(done) * 2.0 * size**3 / max(time.perf_counter() - start, 1e-9)
