"""Run the same fit in PyTorch, tuned as its users can: the whole step compiled, features computed once."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import grad_and_value

from coordfit.backends import get_backend
from coordfit.config import FitConfig
from coordfit.images import Picture
from coordfit.network.parameters import ParameterLayout
from coordfit.training.member import Member

ACTIVATIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda z: z}
# Newton and Schulz for Muon: Jordan et al. (2024), with coordfit's three iterations.
MUON = (3.4445, -4.7750, 2.0315)
MUON_ITERATIONS = 3

Parameters = list[torch.Tensor]


class Recipe(NamedTuple):
    """What a compiled step knows of the settings."""

    activation: str
    output: str
    omega: float
    muon: bool
    momentum: float
    beta1: float
    beta2: float
    epsilon: float


class TorchFit:
    """Frequencies and weights as coordfit draws them; batches are slices of a permutation for each epoch."""

    def __init__(self, picture: Picture, config: FitConfig) -> None:
        torch.manual_seed(config.seed)
        torch.set_flush_denormal(True)
        member = Member(get_backend("numpy"), picture, config)
        self.member, self.config, self.size = member, config, (picture.height, picture.width)
        known = config.activation in ("relu", "sine") and config.optimizer in ("adam", "muon")
        if "B" not in member.encoder_state or not known or config.loss != "mse":
            raise ValueError(
                "in PyTorch there are Fourier features, ReLU and sine, Adam and Muon, and MSE here"
            )
        self.recipe = Recipe(
            config.activation,
            config.output_activation,
            config.omega,
            config.optimizer == "muon",
            config.muon_momentum,
            config.beta1,
            config.beta2,
            config.epsilon,
        )
        layout: ParameterLayout = member.model.mlp.layout
        flat = np.asarray(member.model.mlp.parameters)
        self.parameters = [torch.from_numpy(np.array(a)) for pair in layout.views(np, flat) for a in pair]
        self.first, self.second = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
        grid = member.model.picture.grid
        coordinates = torch.from_numpy(grid.coordinates(np.arange(len(member.target))).astype(np.float32))
        phase = 2.0 * torch.pi * (coordinates @ torch.from_numpy(member.encoder_state["B"]).T)
        self.features = torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)
        self.target = torch.from_numpy(np.array(member.target, np.float32))
        self.t = torch.zeros(())
        self.step = 0
        self.order = torch.empty(0, dtype=torch.int64)

    @torch.no_grad()
    def take_steps(self, count: int) -> None:
        """See `curves.Fitter`."""
        state = (self.parameters, self.first, self.second, self.t)
        for _ in range(count):
            rate = torch.tensor(self.member.learning_rate(self.step))
            take_step(self.recipe, *state, rate, self.features, self.target, self._batch())
            self.step += 1

    def _batch(self) -> torch.Tensor | None:
        if self.config.batch_size is None:
            return None
        if len(self.order) < self.config.batch_size:
            self.order = torch.randperm(len(self.target))
        rows, self.order = self.order.split([self.config.batch_size, len(self.order) - self.config.batch_size])
        return rows

    @torch.inference_mode()
    def picture(self) -> NDArray[Any]:
        """See `curves.Fitter`."""
        colours: NDArray[Any] = forward(self.recipe, self.parameters, self.features).numpy()
        return colours.reshape(*self.size, -1)

    def close(self) -> None:
        """Nothing to give back."""


def choose_threads(picture: Picture, config: FitConfig) -> None:
    """Compile the step and time it with all threads and with one; keep the faster."""
    seconds = {}
    for threads in dict.fromkeys((torch.get_num_threads(), 1)):
        torch.set_num_threads(threads)
        fit = TorchFit(picture, config)
        fit.take_steps(3)
        fit.picture()
        start = time.perf_counter()
        fit.take_steps(3 if config.batch_size is None else 30)
        seconds[threads] = time.perf_counter() - start
    torch.set_num_threads(min(seconds, key=lambda threads: seconds[threads]))


def forward(recipe: Recipe, parameters: Parameters, x: torch.Tensor) -> torch.Tensor:
    """Return colours (n, C) of features (n, F), or (K, n, C) of (K, n, F) by K networks."""
    product = torch.addmm if x.ndim == 2 else torch.baddbmm
    *hidden, (W, b) = zip(parameters[::2], parameters[1::2], strict=True)
    for V, c in hidden:
        z = product(c, x, V)
        x = torch.sin(recipe.omega * z) if recipe.activation == "sine" else torch.relu(z)
    return ACTIVATIONS[recipe.output](product(b, x, W))


@torch.compile
def take_step(recipe, parameters, first, second, t, rate, features, target, rows):  # type: ignore[no-untyped-def]
    """Take a step of Adam, or of Muon for hidden matrices and of Adam for the rest; K networks may share rows.

    The learning rate is a number's tensor, or one (K, 1, 1).
    """
    if rows is not None:
        features, target = features.index_select(-2, rows), target.index_select(0, rows)

    def loss(parameters):  # type: ignore[no-untyped-def]
        return torch.square(forward(recipe, parameters, features) - target).mean(dim=(-2, -1)).sum()

    gradients, _ = grad_and_value(loss)(parameters)
    t += 1.0
    c1, c2 = 1.0 / (1.0 - recipe.beta1**t), 1.0 / (1.0 - recipe.beta2**t)
    hidden = range(2, len(parameters) - 2, 2) if recipe.muon else ()
    for i, (p, m, v, g) in enumerate(zip(parameters, first, second, gradients, strict=True)):
        if i in hidden:
            m.mul_(recipe.momentum).add_(g)
            direction = _orthogonalized(torch.add(g, m, alpha=recipe.momentum))
            p.sub_(rate * (0.2 * math.sqrt(p.shape[-1])) * direction)
        else:
            m.lerp_(g, 1.0 - recipe.beta1)
            v.mul_(recipe.beta2).addcmul_(g, g, value=1.0 - recipe.beta2)
            p.sub_(rate * c1 * m / (torch.sqrt(v * c2) + recipe.epsilon))


def _orthogonalized(X: torch.Tensor) -> torch.Tensor:
    a, b, c = MUON
    X = X / torch.linalg.vector_norm(X)
    X = X / torch.sqrt(torch.linalg.vector_norm(X.mT @ X))
    for _ in range(MUON_ITERATIONS):
        A = X.mT @ X
        X = a * X + X @ torch.addmm(A, A, A, beta=b, alpha=c)
    return X
