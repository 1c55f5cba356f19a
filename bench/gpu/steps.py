"""Make networks to be measured, and the tiers on which their products are taken."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from coordfit.backends.base import Backend
from coordfit.backends.cupy_backend.checks import first_line
from coordfit.backends.cupy_backend.cublaslt.autotune import Autotuner
from coordfit.backends.cupy_backend.cublaslt.plans import Planner, RefusedError
from coordfit.backends.cupy_backend.cublaslt.products import Epilogue

from coordfit.encoders.fourier import FourierEncoder
from coordfit.network.activations import make_activation
from coordfit.network.losses import make_loss
from coordfit.network.mlp import MLP, initial_parameters
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.pixels.batch_order import BatchOrder
from coordfit.pixels.step_inputs import StepInputs
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.training.step import TrainingStep

LEARNING_RATE = 1e-3
_FRAMES = 6
Row = dict[str, Any]
Rows = Iterator[Row]
"""The rows of a table, one by one: what has been measured is kept when a later one fails."""


@dataclass(frozen=True)
class Case:
    """A training step: a square picture, a batch (None for all pixels), a width, and K networks."""

    side: int = 128
    batch: int | None = None
    width: int = 256
    members: int = 1
    frequencies: int = 256
    depth: int = 5
    activation: str = "relu"

    @property
    def rows(self) -> int:
        """Return the pixels of a step."""
        return self.batch or self.side**2

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return widths from features to channels."""
        return (2 * self.frequencies, *[self.width] * (self.depth - 1), 3)

    @property
    def flops(self) -> float:
        """Return the operations of the products of a step: forward, dW, and dX but for the first layer."""
        products = [a * b for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True)]
        return float((6 * sum(products) - 2 * products[0]) * self.rows * self.members)

    def __str__(self) -> str:
        return f"width {self.width}, {self.rows} rows, K = {self.members}"


class Reference(Backend):
    """NumPy with the generic bodies: the reference, in float64, wherever NumPy is."""

    name, device, xp = "reference", "cpu", np


def make_step(backend: Backend, case: Case, dtype: str = "float32") -> TrainingStep:
    """Return a step of that case from seed 0: the same numbers on every backend, rounded to `dtype`."""
    rng = np.random.default_rng(0)
    B = rng.normal(0.0, 10.0, (case.frequencies, 2)).astype(np.float32)
    encoder = FourierEncoder(backend, backend.asarray(B, dtype))
    drawn = [initial_parameters(case.sizes, "he", omega=30.0, rng=rng) for _ in range(case.members)]
    flat = np.stack(drawn) if case.members > 1 else drawn[0]
    parameters = backend.asarray(flat.astype(np.float32), dtype)
    hidden, sigmoid = make_activation(case.activation), make_activation("sigmoid")
    mlp = MLP(backend, case.sizes, parameters, hidden, sigmoid, rows=1, dtype=dtype)
    adam = ElementwiseOptimizer(backend, parameters, Adam(), dtype=dtype)
    size = case.side**2
    coordinates = backend.asarray(rng.uniform(size=(size, 2)).astype(np.float32), dtype)
    target = backend.asarray(rng.uniform(size=(size, 3)).astype(np.float32), dtype)
    orders = () if case.batch is None else (BatchOrder(size, case.batch, seed=0),)
    step_inputs = StepInputs(lambda step: (LEARNING_RATE,), orders)
    pixels = TrainingPixels(backend, coordinates, target)
    return TrainingStep(backend, encoder, mlp, make_loss("mse"), adam, pixels, case.rows, step_inputs)


def fault_of(error: BaseException) -> Row:
    """Return an error as a row has it: its type, its first telling line, and where it was raised."""
    frames = "".join(traceback.format_tb(error.__traceback__)[-_FRAMES:])
    return {"fault": f"{type(error).__name__}: {first_line(error)}", "traceback": frames}


class _PlainPlanner(Planner):
    """Refuses every epilogue and addend, so that products are plain and kernels follow."""

    def plan(self, product: Any, *arguments: Any) -> Any:
        if product.epilogue != Epilogue.NONE or product.beta:
            raise RefusedError("left out on purpose")
        return super().plan(product, *arguments)


TIERS = ("graph", "two streams", "epilogues", "plain", "eager", "library", "generic")
"""What is fastest in a graph, as users have it; that with dW beside dX; epilogues wherever there are, and plain
products with kernels, in graphs; step by step; CuPy's products and kernels; generic bodies."""


def on_rung(make: Any, tier: str, **options: Any) -> Any:
    """Return a backend whose steps are taken on a tier; `make` makes one with these options."""
    more = {"two_streams": True} if tier == "two streams" else {}
    more |= {"autotune": False} if tier == "epilogues" else {}
    backend = make(fused="never" if tier == "generic" else "auto", **options, **more)
    if tier == "library":
        backend.gpu.autotuner = Autotuner(None, "auto", "left out on purpose")
    elif tier == "plain":
        with backend.gpu.here:
            backend.gpu.autotuner = Autotuner(_PlainPlanner(backend.gpu.load_cublaslt()))
    if tier in ("eager", "library"):
        backend.gpu.why_not_recorded = "left out on purpose"
    return backend
