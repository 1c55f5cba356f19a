"""Gauss-Newton with Levenberg's damping, solved in the space of residuals: for small pictures and batches.

With the residuals r = sqrt(weights) (target - prediction) and their Jacobian J, one step goes

    delta = J^T alpha,    (J J^T + mu I) alpha = r,

which is (J^T J + mu I)^-1 J^T r by the push-through identity, but with a system of N C residuals instead of P
parameters. The system is solved by conjugate gradients: J^T u is one backward pass and J v one forward pass of
tangents, so J is never built. What makes that quick is the preconditioner: the blocks of the tangent kernel
J J^T, pixel against pixel, of each channel with itself, in a basis of colours in which the others nearly vanish
(`principal_colours`). A block is built layer by layer, since the gradient of an output with respect to a
layer's weights is the outer product of the layer's input a and of the output's derivative d by the layer's z:

    (J J^T)_nm = sum over layers of (a_n . a_m + 1) (d_n . d_m),

and the whole is a handful of products and a Cholesky factorisation of N x N for each channel. About five
iterations are enough. For one channel the block is J J^T itself.

Levenberg (1944), Marquardt (1963); gain ratios after Nielsen, "Damping Parameter in Marquardt's Method"
(1999); in residual space for networks: Jnini et al., "Gauss-Newton Natural Gradient Descent for
Physics-Informed Computational Fluid Dynamics" (2024), Guzman-Cordero et al., "Improving Energy Natural
Gradient Descent through Woodbury, Momentum, and Randomization" (2025).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from ..config import FitConfig
from ..encoders.base import Encoder
from ..errors import ConfigError
from ..network.cost import item_size
from ..network.mlp import MLP
from ..network.parameters import ParameterLayout
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from .last_layer import solve_last_layer

MOST_ROWS = 4096
"""Pixels of a batch: ten kernels of this size take 670 MB in float32, and a step seconds of one core."""

# Damping is relative to the mean diagonal of the kernel, between the rounding of the arithmetic and a step so
# short that it is one of gradient descent.
_LEAST_DAMPING = {"float32": 1e-7, "float64": 1e-12}
_MOST_DAMPING = 1e6
_MOST_TRIALS = 8
_STEP_LENGTHS = (1.0, 0.5, 0.25)
# The linear system is solved until what is left of the residuals is this share, within so many iterations.
_TOLERANCE, _MOST_ITERATIONS = 0.03, 25
_PANEL = 64
# Matrices of rows by rows that a step on a colour picture holds: inner products, kernels, factors.
_KERNELS = 10
# The first step begins at the last layer's ridge solution; a large ridge, for small weights.
_FIRST_RIDGE = 1e-2


class Jacobian:
    """J of the outputs by the parameters at the point of the last `forward` of an MLP, as products with it.

    Parameters
    ----------
    mlp : MLP
        One network; its layers' inputs and outputs are looked at, so it must not run forward meanwhile.
    scale : array, shape (N, 1), optional
        A factor on every row of J: the square root of the pixels' weights.
    """

    def __init__(self, mlp: MLP, scale: Array | None = None) -> None:
        self.backend: Backend = mlp.backend
        self.mlp, self.xp = mlp, mlp.backend.xp
        numbers = mlp.backend.as_numbers
        self.inputs = [numbers(layer.x) for layer in mlp.layers]
        self.slopes = [
            layer.activation.backward(self.xp, self.xp.ones_like(saved), saved)
            for layer, saved in ((layer, numbers(layer.saved)) for layer in mlp.layers)
        ]
        if scale is not None:
            self.slopes[-1] = self.slopes[-1] * scale

    def times(self, direction: Array) -> Array:
        """J v of shape (N, C) for a flat direction v (P,): tangents go forward beside the layers."""
        matmul, tangent = self.backend.matmul, None
        for x, slope, layer, (dW, db) in zip(
            self.inputs, self.slopes, self.mlp.layers, self._views(direction), strict=True
        ):
            dz = matmul(x, dW) + db
            if tangent is not None:
                dz = dz + matmul(tangent, layer.W)
            tangent = slope * dz
        return tangent

    def transposed_times(self, dy: Array) -> Array:
        """J^T u of shape (P,) for u (N, C): the backward pass, with what it needs left as it is."""
        xp, matmul = self.xp, self.backend.matmul
        flat = self.backend.zeros(self.mlp.parameters.shape, self.mlp.dtype)
        dz = dy * self.slopes[-1]
        for i, (dW, db) in reversed(list(enumerate(self._views(flat)))):
            dW[...] = matmul(self.inputs[i], dz, transpose_a=True)
            db[...] = xp.sum(dz, axis=-2, keepdims=True)
            if i:
                dz = matmul(dz, self.mlp.layers[i].W, transpose_b=True) * self.slopes[i - 1]
        return flat

    def inner_products(self) -> list[Array]:
        """a_n . a_m + 1 of each layer's inputs, (N, N) each: what the kernels of all colours share."""
        products = []
        for x in self.inputs:
            product = self.backend.matmul(x, x, transpose_b=True)
            product += 1.0
            products.append(product)
        return products

    def kernel(self, colour: Array, inner_products: list[Array]) -> Array:
        """The block (N, N) of J J^T between the residuals u . r_n of all pixels, for a colour u (1, C)."""
        total = None
        for inner, d in zip(inner_products, self._derivatives(colour), strict=True):
            part = self.backend.matmul(d, d, transpose_b=True)
            part *= inner
            if total is None:
                total = part
            else:
                total += part
        return total

    def _derivatives(self, colour: Array) -> list[Array]:
        """d(u . y) / dz of each layer, (N, n_out), from the first to the last, for u (1, C)."""
        dz = self.slopes[-1] * colour
        found = [dz]
        for layer, slope in zip(self.mlp.layers[:0:-1], self.slopes[-2::-1], strict=True):
            dz = self.backend.matmul(dz, layer.W, transpose_b=True) * slope
            found.append(dz)
        return found[::-1]

    def _views(self, flat: Array) -> Iterator[tuple[Array, Array]]:
        return self.mlp.layout.views(self.xp, flat)


class CholeskySolver:
    """Solves (A + mu I) x = b for a positive definite A + mu I (n, n), by panels of its factor L.

    Panel by panel nearly all the work is in products, which a BLAS does at four times the speed at which LAPACK
    factors a matrix of this size. There is no triangular solve in NumPy, nor in the array API standard: the
    blocks on the diagonal are inverted instead.
    """

    def __init__(self, backend: Backend, matrix: Array, mu: float) -> None:
        xp, n = backend.xp, matrix.shape[-1]
        self.backend, self.factor = backend, matrix + 0.0
        xp.reshape(self.factor, (-1,))[:: n + 1] += mu
        self.panels = [slice(start, min(start + _PANEL, n)) for start in range(0, n, _PANEL)]
        self.inverses = [self._factor_panel(panel) for panel in self.panels]

    def _factor_panel(self, panel: slice) -> Array:
        """Put a panel of L in its place, and return the inverse of its block on the diagonal."""
        L, matmul, linalg = self.factor, self.backend.matmul, self.backend.xp.linalg
        previous = slice(panel.start, None)
        rest = L[previous, panel]
        if panel.start:
            done = slice(0, panel.start)
            rest = rest - matmul(L[previous, done], L[panel, done], transpose_b=True)
        size = panel.stop - panel.start
        diagonal = linalg.cholesky(rest[:size, :])
        inverse = linalg.inv(diagonal)
        L[panel, panel] = diagonal
        if panel.stop < L.shape[-1]:
            L[panel.stop :, panel] = matmul(rest[size:, :], inverse, transpose_b=True)
        return inverse

    def __call__(self, b: Array) -> Array:
        """x of shape (n, k) for b of the same shape."""
        matmul, factor = self.backend.matmul, self.factor
        x = b + 0.0
        for panel, inverse in zip(self.panels, self.inverses, strict=True):
            known = slice(0, panel.start)
            rest = x[panel, :] - matmul(factor[panel, known], x[known, :]) if panel.start else x[panel, :]
            x[panel, :] = matmul(inverse, rest)
        n = x.shape[-2]
        for panel, inverse in zip(self.panels[::-1], self.inverses[::-1], strict=True):
            known = slice(panel.stop, n)
            rest = x[panel, :]
            if panel.stop < n:
                rest = rest - matmul(factor[known, panel], x[known, :], transpose_a=True)
            x[panel, :] = matmul(inverse, rest, transpose_a=True)
        return x


@dataclass(frozen=True)
class _Proposal:
    """A step, and the sum of squared residuals that the linear model promises after it."""

    delta: Array
    promised: float


class GaussNewtonStep:
    """Steps of one network on batches of rows; takes the place of `TrainingStep` in a run.

    A step tries damping after damping until the sum of squared residuals of its batch falls; where none does
    it, the parameters stay. Learning rates are not looked at: the damping is what limits a step.

    Parameters
    ----------
    mlp : MLP
        One network, whose parameters are updated in place.
    damping : Damping
        The state that goes from step to step.
    batch_rows : int
        Rows of every batch; ConfigError above `MOST_ROWS`.
    course : Course
        Batches by the step's number.
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
        self._here, self._there = mlp.replica(batch_rows), mlp.replica(batch_rows)
        self._table = pixels.feature_table(encoder, mlp.dtype)
        self._values: list[float] = []

    def advance(self, step: int, count: int = 1) -> None:
        """Take `count` steps of the course, after the `step` that have been taken."""
        for taken in range(step, step + count):
            batch = self.step_inputs.batch(taken)
            self(None if batch is None else self.backend.asarray(batch))

    def new_losses(self, wait: bool = False) -> NDArray[np.floating]:
        """Losses (n,) of the steps since the last call, each of its batch before the step."""
        found, self._values = np.array(self._values, self.mlp.dtype), []
        return found

    def __call__(self, batch: Array | None) -> float:
        """Take one step on the pixels `batch` (B,), None for all; the batch's loss after it."""
        if self.damping.steps == 0:
            solve_last_layer(self.mlp, self.encoder, self.pixels, _FIRST_RIDGE)
        problem = _Problem(self, batch)
        self._values.append(problem.value)
        jacobian = Jacobian(self._here, problem.scale)
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
        """Go the whole step or a part of it; the gain as a share of what was promised, 0 if there was none."""
        for length in _STEP_LENGTHS:
            self._move_to(before + length * proposal.delta)
            squares = problem.squares_at(self._there)
            if squares < problem.squares:  # NaN is not
                promised = max(problem.squares - proposal.promised, 1e-30)
                ratio = (problem.squares - squares) / promised if length == 1.0 else 1e-3
                problem.squares = squares
                return max(ratio, 1e-3)
        return 0.0

    def _move_to(self, parameters: Array) -> None:
        self.mlp.parameters[...] = parameters
        self.backend.parameters_changed(self.mlp.parameters)

    def features_and_target(self, batch: Array | None) -> tuple[Array, Array, Array | None]:
        """Features (B, F), targets (B, C) and weights (B, 1) of a batch."""

        def of(data: Any) -> Array:
            return data.rows(self.rows) if batch is None else data.take(batch)

        pixels = self.pixels
        x = self.encoder(of(pixels.coordinates)) if self._table is None else of(self._table)
        return x, of(pixels.target), None if pixels.weights is None else of(pixels.weights)


class _Problem:
    """The residuals of one batch, here and at other parameters."""

    residual: Array
    squares: float

    def __init__(self, step: GaussNewtonStep, batch: Array | None) -> None:
        self.xp = step.backend.xp
        self.x, self.target, weights = step.features_and_target(batch)
        self.scale = None if weights is None else self.xp.sqrt(weights)
        self.residual = self._residual(step._here)
        self.squares = _dot(self.xp, self.residual, self.residual)
        """Sum of squared residuals at the parameters that are kept."""

    def _residual(self, mlp: MLP) -> Array:
        difference = self.target - mlp.forward(self.x)
        return difference if self.scale is None else self.scale * difference

    def squares_at(self, mlp: MLP) -> float:
        """The sum of squared residuals at the present parameters."""
        residual = self._residual(mlp)
        return _dot(self.xp, residual, residual)

    @property
    def value(self) -> float:
        """The mean squared error."""
        rows, channels = self.residual.shape
        return self.squares / float(rows * channels)


class Preconditioner:
    """J J^T + mu I without what lies between different colours: a factor (N, N) for each, side by side.

    Parameters
    ----------
    colours : array, shape (C, C)
        Orthogonal directions in the space of colours, as rows.
    """

    def __init__(self, jacobian: Jacobian, colours: Array) -> None:
        self.backend, self.colours = jacobian.backend, colours
        inner = jacobian.inner_products()
        self.kernels: list[Array] = [None] * colours.shape[0]
        self.solvers: list[CholeskySolver] = []

        def build(c: int) -> None:
            self.kernels[c] = jacobian.kernel(colours[c : c + 1, :], inner)

        self._for_each(build)
        diagonals = [_mean_diagonal(self.backend.xp, kernel) for kernel in self.kernels]
        self.mean_diagonal = sum(diagonals) / len(diagonals)

    def factor(self, mu: float) -> bool:
        """Make ready for this mu; False where rounding leaves a kernel that is not positive definite."""
        solvers: list[CholeskySolver] = [None] * len(self.kernels)  # type: ignore[list-item]

        def build(c: int) -> None:
            solvers[c] = CholeskySolver(self.backend, self.kernels[c], mu)

        try:
            self._for_each(build)
        except np.linalg.LinAlgError:
            return False
        self.solvers = solvers
        return True

    def _for_each(self, work: Callable[[int], None]) -> None:
        self.backend.run_workers([functools.partial(work, c) for c in range(len(self.kernels))])

    def __call__(self, v: Array) -> Array:
        """The solution of the simplified system for v (N, C)."""
        matmul = self.backend.matmul
        turned = matmul(v, self.colours, transpose_b=True)
        solved: list[Array] = [None] * len(self.solvers)

        def solve(c: int) -> None:
            solved[c] = self.solvers[c](turned[:, c : c + 1])

        self._for_each(solve)
        return matmul(self.backend.xp.concat(solved, axis=-1), self.colours)


def _propose(
    jacobian: Jacobian, preconditioner: Preconditioner, mu: float, residual: Array
) -> _Proposal | None:
    """Solve (J J^T + mu I) alpha = r by preconditioned conjugate gradients; None where rounding forbids it."""
    if not preconditioner.factor(mu):
        return None

    def product(v: Array) -> Array:
        return jacobian.times(jacobian.transposed_times(v)) + mu * v

    xp = jacobian.xp
    alpha, left = conjugate_gradients(xp, product, preconditioner, residual)
    promised = left + mu * alpha  # r - J J^T alpha
    return _Proposal(jacobian.transposed_times(alpha), _dot(xp, promised, promised))


def principal_colours(mlp: MLP) -> Array:
    """Orthogonal directions in the space of colours, as rows (C, C), that share the least of the hidden layers.

    Channels of a picture go together, and so do their weights W: through the layers below the last one, the
    kernel of two channels c, d is nearly W_c . W_d times one and the same matrix. In the axes of W^T W it is
    nearly block diagonal.
    """
    W = np.asarray(mlp.backend.to_numpy(mlp.layers[-1].W), np.float64)
    return mlp.backend.asarray(np.linalg.eigh(W.T @ W)[1].T, mlp.dtype)


def conjugate_gradients(
    xp: Any, product: Callable[[Array], Array], precondition: Callable[[Array], Array], b: Array
) -> tuple[Array, Array]:
    """x with A x = b, nearly, for a positive definite A given as a product; and b - A x.

    Starts at precondition(b). Stops where |b - A x| is `_TOLERANCE` of |b|, or after `_MOST_ITERATIONS`.
    """
    enough = _TOLERANCE**2 * _dot(xp, b, b)
    x = precondition(b)
    left = b - product(x)
    towards, old = None, 1.0
    for _ in range(_MOST_ITERATIONS):
        if _dot(xp, left, left) <= enough:
            break
        z = precondition(left)
        new = _dot(xp, left, z)
        towards = z if towards is None else z + (new / old) * towards
        image = product(towards)
        curvature = _dot(xp, towards, image)
        if not curvature > 0.0:  # rounding, or NaN
            break
        x, left, old = x + (new / curvature) * towards, left - (new / curvature) * image, new
    return x, left


def kernel_bytes(rows: int, dtype: str) -> int:
    """Bytes of the matrices of rows by rows that a step on a colour picture holds."""
    return _KERNELS * rows**2 * item_size(dtype)


def check_rows(rows: int, dtype: str) -> None:
    """ConfigError with the cost and the cure where a batch has too many rows for a kernel of rows by rows."""
    if rows <= MOST_ROWS:
        return
    gigabytes, gigaflops = kernel_bytes(rows, dtype) / 2**30, rows**3 / 1e9
    raise ConfigError(
        f"gauss-newton solves a system of {rows} x {rows} for a batch of {rows} pixels ({gigabytes:.1f} GiB, "
        f"{gigaflops:,.0f} GFLOP to factor in each step); give --batch-size {MOST_ROWS} or less, "
        "or another optimizer"
    )


def _mean_diagonal(xp: Any, matrix: Array) -> float:
    n = matrix.shape[-1]
    return float(xp.sum(xp.reshape(matrix, (-1,))[:: n + 1])) / float(n)


def _dot(xp: Any, a: Array, b: Array) -> float:
    return float(xp.sum(a * b))


class Damping:
    """The state of `gauss_newton.GaussNewtonStep`: steps taken, and the damping that goes from one to the next.

    The number fills a buffer in the shape of the parameters, as the states of the other optimizers have it, so
    that a checkpoint needs no case of its own.
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
