"""Muon: steps of equal size in all directions for the hidden layers' matrices, Adam for everything else.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). The momentum of a matrix,
`M = U S V^T`, is replaced by the nearest orthogonal matrix `U V^T`, approximated by a few products.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from ..backends import Array, Backend
from ..config import FitConfig
from ..network.parameters import ParameterLayout
from .adam import Adam
from .base import Optimizer

# Jordan's p(s) = a s + b s^3 + c s^5: five iterations take singular values from 0.002 to 1 into [0.68, 1.21].
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# Three iterations take those from 0.02 there; pictures are about as good as with five
# (docs/explanation/recipes.md).
_ITERATIONS = 3


class Muon(Optimizer):
    """Muon for the matrices between hidden layers; Adam for the first and the last layer and for biases.

    The update of a matrix is scaled by `0.2 sqrt(max(n_in, n_out))`, so that its elements are about as large as
    Adam's and one learning rate suits both: Liu et al., "Muon is Scalable for LLM Training" (2025), section
    2.2. The momentum is Nesterov's; `beta1`, `beta2` and `epsilon` are Adam's. An iteration of Newton and
    Schulz takes three products.
    """

    name = "muon"
    state_names = Adam.state
    """The momentum of a matrix is where Adam's first moment is; matrices have no second one."""

    def __init__(
        self,
        backend: Backend,
        parameters: Array,
        layout: ParameterLayout,
        *,
        dtype: str,
        momentum: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        iterations: int = _ITERATIONS,
    ) -> None:
        self.backend, self.dtype, self.layout = backend, dtype, layout
        self.momentum, self.iterations = momentum, iterations
        self.adam = Adam(beta1, beta2, epsilon)
        self.state = {name: backend.zeros(parameters.shape, dtype) for name in self.state_names}
        self._hidden = range(1, len(layout.layer_sizes) - 2)
        self._others = _gaps([layout.weight_range(layer) for layer in self._hidden], layout.size)
        self._parts: dict[tuple[int, int] | None, list[_Matrices]] = {}

    @classmethod
    def of(cls, backend: Backend, config: FitConfig, parameters: Array, layout: ParameterLayout) -> Self:
        """Return the optimizer that settings describe."""
        return cls(
            backend,
            parameters,
            layout,
            dtype=config.dtype,
            momentum=config.muon_momentum,
            beta1=config.beta1,
            beta2=config.beta2,
            epsilon=config.epsilon,
        )

    def update(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        learning_rate: float | Array,
        members: slice | None = None,
        counter: Array | None = None,
    ) -> None:
        """See `Optimizer.update`."""
        first, second = self._state_of(members)
        tasks = [
            functools.partial(part.update, parameters, gradients, first, learning_rate)
            for part in self._matrices(parameters, members)
        ]
        if len(tasks) > 1:
            self.backend.run_workers(tasks)
        elif tasks:  # perhaps in a worker, which has no workers of its own
            tasks[0]()
        self.backend.optimizer_step(
            self.adam,
            parameters,
            gradients,
            [first, second],
            step=self.steps if counter is None else counter,
            learning_rate=learning_rate,
            ranges=self._others,
        )

    def _matrices(self, parameters: Array, members: slice | None) -> list[_Matrices]:
        """Return the hidden matrices of these members, by worker; their buffers are made at first use."""
        key = None if members is None else (members.start, members.stop)
        if key not in self._parts:
            self._parts[key] = self._partition(parameters, is_in_worker=members is not None)
        return self._parts[key]

    def _partition(self, parameters: Array, *, is_in_worker: bool) -> list[_Matrices]:
        if not self._hidden:
            return []
        # `Backend.partition` gets layers as members, and rows of the matrices of all networks as rows.
        size = self.layout.layer_sizes[1]
        rows = size * math.prod(parameters.shape[:-1])
        partitions = self.backend.partition(rows, len(self._hidden), 1, self.iterations * 6 * size * size)
        slices = [partition.members for partition in partitions if partition.members is not None]
        if is_in_worker or not slices:
            slices = [slice(0, len(self._hidden))]
        return [_Matrices(self, parameters.shape[:-1], self._hidden[part]) for part in slices]


class _Matrices:
    """The matrices of some hidden layers: one worker's part of a step."""

    def __init__(self, muon: Muon, ensemble: tuple[int, ...], layers: Sequence[int]) -> None:
        self.muon = muon
        self.starts = [muon.layout.weight_range(layer)[0] for layer in layers]
        size = muon.layout.layer_sizes[1]
        self.scale = 0.2 * math.sqrt(size)
        self.orthogonalize = Orthogonalizer(muon.backend, (*ensemble, size, size), muon.dtype, muon.iterations)
        self.direction = muon.backend.zeros((*ensemble, size * size), muon.dtype)

    def update(
        self, parameters: Array, gradients: Sequence[Array], momenta: Array, learning_rate: float | Array
    ) -> None:
        """Do `M <- momentum M + G`, `W <- W - learning_rate scale orthogonalized(G + momentum M)`."""
        self.muon.backend.muon_step(
            parameters,
            gradients,
            momenta,
            orthogonalize=self.orthogonalize,
            learning_rate=learning_rate,
            momentum=self.muon.momentum,
            scale=self.scale,
            out=self.direction,
            starts=self.starts,
        )


class Orthogonalizer:
    """The iteration of Newton and Schulz on matrices (*E, m, n), in its own buffers.

    With `A = X^T X` an iteration is `X <- X (a I + b A + c A^2)`, which maps each singular value s to
    `a s + b s^3 + c s^5` and keeps the singular vectors. The polynomial is computed as
    `c ((A + b / 2c I)^2 + (a / c - b^2 / 4c^2) I)`, which saves a sum of matrices.
    """

    def __init__(self, backend: Backend, shape: tuple[int, ...], dtype: str, iterations: int) -> None:
        self.backend, self.iterations, self.shape = backend, iterations, tuple(shape[-2:])
        self.coefficients = a, b, self.c = _COEFFICIENTS
        identity = backend.asarray(np.eye(shape[-1]), dtype)
        self.shift = b / (2 * self.c)
        self.inner = identity * self.shift
        self.outer = identity * (a / self.c - self.shift**2)
        square = (*shape[:-2], shape[-1], shape[-1])
        self.gram, self.polynomial, self.other = (backend.zeros(s, dtype) for s in (square, square, shape))
        self.buffers = self.gram, self.polynomial, self.other

    def __call__(self, X: Array) -> Array:
        """Return about `U V^T` for `X = U S V^T` (*E, m, n), which is overwritten; 0 for 0."""
        matmul, other = self.backend.matmul, self.other
        X *= 1.0 / (self._length(X) + 1e-20)
        for i in range(self.iterations):
            A = matmul(X, X, transpose_a=True, out=self.gram)
            if i == 0:
                # Singular values whose fourth powers sum to 1 are larger than those whose squares do.
                norm = self._length(A) + 1e-20
                A *= 1.0 / norm
                X *= 1.0 / self.backend.xp.sqrt(norm)
            A += self.inner
            D = matmul(A, A, out=self.polynomial)
            D += self.outer
            D *= self.c
            X, other = matmul(X, D, out=other), X
        return X

    def _length(self, X: Array) -> Array:
        """Return the Frobenius norm (*E, 1, 1)."""
        xp = self.backend.xp
        size = X.shape[-1] * X.shape[-2]
        row = xp.reshape(X, (*X.shape[:-2], 1, size))
        column = xp.reshape(X, (*X.shape[:-2], size, 1))
        return xp.sqrt(self.backend.matmul(row, column))


def _gaps(ranges: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return the rest of [0, size) without these ranges, which are in order."""
    edges = [0, *itertools.chain.from_iterable(ranges), size]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]
