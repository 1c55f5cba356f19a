"""Muon: steps of equal size in all directions for the hidden layers' matrices, Adam for everything else.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). The momentum of a matrix,
M = U S V^T, is replaced by its nearest orthogonal matrix U V^T, which a few products come near to.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from .._backends import Array, Backend
from ..config import FitConfig
from ..network.parameters import ParameterLayout
from .adam import Adam
from .base import Counted

# Of p(s) = a s + b s^3 + c s^5, which five times over takes all singular values from 0.002 to 1 to somewhere
# between 0.68 and 1.21: Jordan's own, chosen for a steep start rather than an exact end.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# Three times over takes those from 0.02 there: pictures come out about as well as with Jordan's five, for three
# fifths of the products (docs/recipes.md).
_ITERATIONS = 3


class Muon(Counted):
    """Muon for the matrices between hidden layers; Adam for the first and the last layer and for biases.

    The update of a matrix is scaled by 0.2 sqrt(max(n_in, n_out)), so that its elements are about as large as
    Adam's and one learning rate serves both: Liu et al., "Muon is Scalable for LLM Training" (2025), section
    2.2. The momentum is Nesterov's.

    Parameters
    ----------
    layout : ParameterLayout
        Where the matrices lie in the flat buffer.
    momentum : float
        Of the matrices; `beta1`, `beta2` and `epsilon` are Adam's.
    iterations : int
        Of Newton and Schulz, three products each.
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
        self.others = Adam(beta1, beta2, epsilon)
        self.state = {name: backend.zeros(parameters.shape, dtype) for name in self.state_names}
        self._hidden = range(1, len(layout.layer_sizes) - 2)
        self._others = _outside([layout.weight_range(layer) for layer in self._hidden], layout.size)
        self._dealt: dict[tuple[int, int] | None, list[_Matrices]] = {}

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
        first, second = (self._part(name, members) for name in self.state)
        tasks = [
            functools.partial(part.update, parameters, gradients, first, learning_rate)
            for part in self._matrices(parameters, members)
        ]
        self._run(tasks)
        for start, stop in self._others:
            self.backend.optimizer_step(
                self.others,
                parameters[..., start:stop],
                [gradient[..., start:stop] for gradient in gradients],
                [first[..., start:stop], second[..., start:stop]],
                step=self.steps if counter is None else counter,
                learning_rate=learning_rate,
            )

    def _run(self, tasks: Sequence[Callable[[], None]]) -> None:
        if len(tasks) > 1:
            self.backend.run_workers(tasks)
        elif tasks:  # perhaps in a worker, which has nobody below it
            tasks[0]()

    def _matrices(self, parameters: Array, members: slice | None) -> list[_Matrices]:
        """The hidden matrices of these members, dealt out to workers; their buffers are made at first use."""
        key = None if members is None else (members.start, members.stop)
        if key not in self._dealt:
            self._dealt[key] = self._deal_out(parameters, alone=members is not None)
        return self._dealt[key]

    def _deal_out(self, parameters: Array, *, alone: bool) -> list[_Matrices]:
        if not self._hidden:
            return []
        # To the backend a layer is a member here, and a row is a row of the matrices of all networks.
        size = self.layout.layer_sizes[1]
        rows = size * math.prod(parameters.shape[:-1])
        partitions = self.backend.partition(rows, len(self._hidden), 1, self.iterations * 6 * size * size)
        slices = [partition.members for partition in partitions if partition.members is not None]
        if alone or not slices:
            slices = [slice(0, len(self._hidden))]
        return [_Matrices(self, parameters.shape[:-1], self._hidden[part]) for part in slices]


class _Matrices:
    """The matrices of some hidden layers: one worker's part of a step."""

    def __init__(self, muon: Muon, ensemble: tuple[int, ...], layers: Sequence[int]) -> None:
        self.muon = muon
        self.ranges = [muon.layout.weight_range(layer) for layer in layers]
        size = muon.layout.layer_sizes[1]
        self.scale = 0.2 * math.sqrt(size)
        self.orthogonalize = Orthogonalizer(muon.backend, (*ensemble, size, size), muon.dtype, muon.iterations)
        self.direction = muon.backend.zeros((*ensemble, size * size), muon.dtype)

    def update(
        self, parameters: Array, gradients: Sequence[Array], momenta: Array, learning_rate: float | Array
    ) -> None:
        """M <- momentum M + G;  W <- W - learning_rate scale orthogonalized(G + momentum M)."""
        for start, stop in self.ranges:
            self.muon.backend.muon_step(
                parameters[..., start:stop],
                [gradient[..., start:stop] for gradient in gradients],
                momenta[..., start:stop],
                orthogonalize=self.orthogonalize,
                learning_rate=learning_rate,
                momentum=self.muon.momentum,
                scale=self.scale,
                out=self.direction,
            )


class Orthogonalizer:
    """The iteration of Newton and Schulz on square matrices (*E, n, n), in buffers of its own.

    With A = X^T X an iteration is X <- X (a I + b A + c A^2), which takes each singular value s to
    a s + b s^3 + c s^5 and leaves the singular vectors alone. The polynomial is computed as
    c ((A + b / 2c I)^2 + (a / c - b^2 / 4c^2) I): one product instead of one and a sum.
    """

    def __init__(self, backend: Backend, shape: tuple[int, ...], dtype: str, iterations: int) -> None:
        self.backend, self.iterations, self.size = backend, iterations, shape[-1]
        self.coefficients = a, b, self.c = _COEFFICIENTS
        identity = backend.asarray(np.eye(shape[-1]), dtype)
        self.inner = identity * (b / (2 * self.c))
        self.outer = identity * (a / self.c - (b / (2 * self.c)) ** 2)
        self.gram, self.polynomial, self.other = (backend.zeros(shape, dtype) for _ in range(3))
        self.buffers = self.gram, self.polynomial, self.other

    def __call__(self, X: Array) -> Array:
        """Something near U V^T for X = U S V^T (*E, n, n), which is overwritten; 0 for 0."""
        matmul, other = self.backend.matmul, self.other
        X *= 1.0 / (self._length(X) + 1e-20)
        for i in range(self.iterations):
            A = matmul(X, X, transpose_a=True, out=self.gram)
            if i == 0:
                # Singular values of sum 1 in the fourth powers are larger than of sum 1 in the squares.
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
        """The Frobenius norm, shape (*E, 1, 1)."""
        xp = self.backend.xp
        size = X.shape[-1] * X.shape[-2]
        row = xp.reshape(X, (*X.shape[:-2], 1, size))
        column = xp.reshape(X, (*X.shape[:-2], size, 1))
        return xp.sqrt(self.backend.matmul(row, column))


def _outside(ranges: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What is left of [0, size) without these ranges, which are in order."""
    edges = [0, *itertools.chain.from_iterable(ranges), size]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]
