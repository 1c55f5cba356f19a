"""Gauss-Newton with Levenberg's damping, solved in the space of residuals: for small pictures and batches.

With the residuals `r = sqrt(weights) (target - prediction)` and their Jacobian J, one step is

    delta = J^T alpha,    (J J^T + mu I) alpha = r,

which equals `(J^T J + mu I)^-1 J^T r` by the push-through identity, but is a system of N C residuals instead of
P parameters. It is solved by conjugate gradients without building J: `J^T u` is one backward pass and `J v` one
forward pass of tangents. The preconditioner is the block of the tangent kernel `J J^T` of each channel with
itself, in a basis of colours in which the other blocks nearly vanish (`principal_colours`). A block takes a few
products and a Cholesky factorisation of N x N; then about five iterations are enough. For one channel the block
is `J J^T` itself.

Levenberg (1944), Marquardt (1963); gain ratios after Nielsen, "Damping Parameter in Marquardt's Method"
(1999); in residual space for networks: Jnini et al., "Gauss-Newton Natural Gradient Descent for
Physics-Informed Computational Fluid Dynamics" (2024), Guzman-Cordero et al., "Improving Energy Natural
Gradient Descent through Woodbury, Momentum, and Randomization" (2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend
from ..config import FitConfig
from ..encoders.base import Encoder
from ..errors import ConfigError
from ..network.cost import item_size
from ..network.mlp import MLP
from ..network.parameters import ParameterLayout
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from .last_layer import solve_last_layer
from .tangent_kernel import Jacobian, Preconditioner, conjugate_gradients, dot, principal_colours

MOST_ROWS = 4096
"""Pixels of a batch: ten kernels of this size take 670 MB in float32, and a step seconds of one core."""

# Damping is relative to the mean diagonal of the kernel. Its limits are the rounding of the arithmetic, and
# steps as short as those of gradient descent.
_LEAST_DAMPING = {"float32": 1e-7, "float64": 1e-12}
_MOST_DAMPING = 1e6
_MOST_TRIALS = 8
_STEP_LENGTHS = (1.0, 0.5, 0.25)
# Matrices of rows by rows that a step on a colour picture holds: inner products, kernels, factors.
_KERNELS = 10
# The first step starts from the last layer's ridge solution, with a large ridge for small weights.
_FIRST_RIDGE = 1e-2


class Damping:
    """The state of `GaussNewtonStep`: the number of steps, and the damping.

    The damping fills a buffer in the shape of the parameters, so that checkpoints treat all optimizers alike.
    """

    name = "gauss-newton"
    state_names = ("damping",)
    steps = 0

    def __init__(self, backend: Backend, parameters: Array, *, dtype: str, initial: float = 1e-4) -> None:
        self.state = {name: backend.zeros(parameters.shape, dtype) for name in self.state_names}
        self.value = initial

    @classmethod
    def of(cls, backend: Backend, config: FitConfig, parameters: Array, layout: ParameterLayout) -> Self:
        """Return the state at the start of a run."""
        return cls(backend, parameters, dtype=config.dtype)

    @property
    def value(self) -> float:
        """The damping, as a share of the mean diagonal of J J^T."""
        return float(self.state["damping"][0])

    @value.setter
    def value(self, damping: float) -> None:
        self.state["damping"][...] = damping


@dataclass(frozen=True)
class _Proposal:
    """A step, and the sum of squared residuals that the linear model predicts after it."""

    delta: Array
    predicted: float


class GaussNewtonStep:
    """Steps of one network on batches of rows; takes the place of `TrainingStep` in a run.

    A step raises the damping until the sum of squared residuals of its batch falls; if it never does, the
    parameters stay. The damping limits a step, and not a learning rate. Batches above `MOST_ROWS` rows are a
    ConfigError.
    """

    steps_at_once = 1

    def __init__(
        self,
        backend: Backend,
        encoder: Encoder,
        mlp: MLP,
        damping: Damping,
        pixels: TrainingPixels,
        batch_rows: int,
        step_inputs: StepInputs,
    ) -> None:
        check_rows(batch_rows, mlp.dtype)
        self.backend, self.encoder, self.mlp, self.damping = backend, encoder, mlp, damping
        self.pixels, self.rows, self.step_inputs = pixels, slice(0, batch_rows), step_inputs
        self.mlp_now, self.mlp_tried = mlp.replica(batch_rows), mlp.replica(batch_rows)
        self.table = pixels.feature_table(encoder, mlp.dtype)
        self._values: list[float] = []

    def advance(self, step: int, count: int = 1) -> None:
        """Take `count` steps after the first `step` ones, with batches of `step_inputs`."""
        for taken in range(step, step + count):
            batch = self.step_inputs.batch(taken)
            self(None if batch is None else self.backend.asarray(batch))

    def new_losses(self, wait: bool = False) -> NDArray[np.floating]:
        """Return the losses (n,) of the steps since the last call, each of its batch before the step."""
        found, self._values = np.array(self._values, self.mlp.dtype), []
        return found

    def __call__(self, batch: Array | None) -> float:
        """Take one step on the pixels `batch` (B,), None for all; return the batch's loss after it."""
        if self.damping.steps == 0:
            solve_last_layer(self.mlp, self.encoder, self.pixels, _FIRST_RIDGE)
        problem = _Problem(self, batch)
        self._values.append(problem.value)
        jacobian = Jacobian(self.mlp_now, problem.scale)
        preconditioner = Preconditioner(jacobian, principal_colours(self.mlp))
        scale = preconditioner.mean_diagonal
        damping, before = self.damping.value, self.mlp.parameters + 0.0
        least = _LEAST_DAMPING[self.mlp.dtype]
        self.damping.steps += 1
        for _ in range(_MOST_TRIALS):
            proposal = _propose(jacobian, preconditioner, damping * scale, problem.residual)
            ratio = 0.0 if proposal is None else self._try(problem, proposal, before)
            if ratio > 0.0:
                factor = 0.2 if ratio > 0.75 else 1.0 if ratio > 0.25 else 4.0
                self.damping.value = max(damping * factor, least)
                return problem.value
            damping = min(10.0 * damping, _MOST_DAMPING)
        self._move_to(before)
        self.damping.value = damping
        return problem.value

    def _try(self, problem: _Problem, proposal: _Proposal, before: Array) -> float:
        """Try the step and shorter ones; return the ratio of actual and predicted gain, 0 if none is better."""
        for length in _STEP_LENGTHS:
            self._move_to(before + length * proposal.delta)
            squares = problem.squares_at(self.mlp_tried)
            if squares < problem.squares:  # False for NaN
                predicted = max(problem.squares - proposal.predicted, 1e-30)
                ratio = (problem.squares - squares) / predicted if length == 1.0 else 1e-3
                problem.squares = squares
                return max(ratio, 1e-3)
        return 0.0

    def _move_to(self, parameters: Array) -> None:
        self.mlp.parameters[...] = parameters
        self.backend.parameters_changed(self.mlp.parameters)


class _Problem:
    """The residuals of one batch, at the present and at tried parameters."""

    residual: Array
    squares: float

    def __init__(self, step: GaussNewtonStep, batch: Array | None) -> None:
        self.xp = step.backend.xp
        self.x, self.target, weights = step.pixels.batch(step.encoder, step.rows, batch, step.table)
        self.scale = None if weights is None else self.xp.sqrt(weights)
        self.residual = self._residual(step.mlp_now)
        self.squares = dot(self.xp, self.residual, self.residual)
        """Sum of squared residuals at the present parameters."""

    def _residual(self, mlp: MLP) -> Array:
        difference = self.target - mlp.forward(self.x)
        return difference if self.scale is None else self.scale * difference

    def squares_at(self, mlp: MLP) -> float:
        """Return the sum of squared residuals at the parameters of `mlp`."""
        residual = self._residual(mlp)
        return dot(self.xp, residual, residual)

    @property
    def value(self) -> float:
        """The mean squared error at the present parameters."""
        rows, channels = self.residual.shape
        return self.squares / float(rows * channels)


def _propose(
    jacobian: Jacobian, preconditioner: Preconditioner, mu: float, residual: Array
) -> _Proposal | None:
    """Solve `(J J^T + mu I) alpha = r` by preconditioned conjugate gradients; None if rounding prevents it."""
    if not preconditioner.factor(mu):
        return None

    def product(v: Array) -> Array:
        return jacobian.times(jacobian.transposed_times(v)) + mu * v

    xp = jacobian.xp
    alpha, left = conjugate_gradients(xp, product, preconditioner, residual)
    predicted = left + mu * alpha  # r - J J^T alpha
    return _Proposal(jacobian.transposed_times(alpha), dot(xp, predicted, predicted))


def kernel_bytes(rows: int, dtype: str) -> int:
    """Return the bytes of the matrices of rows by rows in a step on a colour picture."""
    return _KERNELS * rows**2 * item_size(dtype)


def check_rows(rows: int, dtype: str) -> None:
    """Raise ConfigError if a batch has too many rows for a kernel of rows by rows."""
    if rows <= MOST_ROWS:
        return
    gigabytes, gigaflops = kernel_bytes(rows, dtype) / 2**30, rows**3 / 1e9
    raise ConfigError(
        f"gauss-newton solves a system of {rows} x {rows} for a batch of {rows} pixels ({gigabytes:.1f} GiB, "
        f"{gigaflops:,.0f} GFLOP to factor in each step); give --batch-size {MOST_ROWS} or less, "
        "or another optimizer"
    )
