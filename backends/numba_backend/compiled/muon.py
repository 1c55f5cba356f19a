"""`Backend.muon_step` on one matrix of each member, compiled, with the Newton-Schulz iteration."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...protocols import Array
from .addresses import jit, vector
from .blas import AS_IT_IS, TRANSPOSED, call_gemm
from .elementwise import summed

_TINY = 1e-20
_REAL = np.float64(0)


@jit
def muon_step(op: Any, gemm: Any, like: Array) -> None:
    """Compute `M <- momentum M + G` and `W <- W - rate scale orthogonal(G + momentum M)`.

    Matrices are (rows, rows), with `units` numbers from one member to the next. x holds the direction; y, dz
    and dx are temporaries of one matrix each.
    """
    item, number, n = like.itemsize, like.dtype.type, op.rows
    size, momentum = n * n, number(op.momentum)
    rates = vector(op.rates, op.num_rates, _REAL)
    for e in range(op.members):
        there = e * op.units * item
        g = summed(op.gradients, op.num_gradients, there, size, number(0))
        m = vector(op.momenta + there, size, number(0))
        x = vector(op.x, size, number(0))
        for i in range(size):
            m[i] = momentum * m[i] + g[i]
            x[i] = g[i] + momentum * m[i]
        step = vector(_orthogonal(op, gemm, like), size, number(0))
        rate = number(rates[e % op.num_rates] * op.scale)
        w = vector(op.parameters + there, size, number(0))
        for i in range(size):
            w[i] -= rate * step[i]


@jit
def _orthogonal(op: Any, gemm: Any, like: Array) -> int:
    """Return the address of the nearly orthogonal matrix after `iterations` rounds from the direction."""
    number, n = like.dtype.type, op.rows
    zero, size = number(0), n * n
    x, other = op.x, op.y
    _scale(vector(x, size, zero), 1.0 / (_length(vector(x, size, zero)) + _TINY))
    half = op.cubic / (2.0 * op.quintic)
    for iteration in range(op.iterations):
        gram, polynomial = vector(op.dz, size, zero), vector(op.dx, size, zero)
        call_gemm(gemm, TRANSPOSED, AS_IT_IS, n, n, n, x, n, x, n, zero, op.dz, n)
        if iteration == 0:  # see coordfit.optimizers.muon
            norm = _length(gram) + _TINY
            _scale(gram, 1.0 / norm)
            _scale(vector(x, size, zero), 1.0 / np.sqrt(norm))
        _add_to_diagonal(gram, n, half)
        call_gemm(gemm, AS_IT_IS, AS_IT_IS, n, n, n, op.dz, n, op.dz, n, zero, op.dx, n)
        _add_to_diagonal(polynomial, n, op.linear / op.quintic - half * half)
        _scale(polynomial, op.quintic)
        call_gemm(gemm, AS_IT_IS, AS_IT_IS, n, n, n, x, n, op.dx, n, zero, other, n)
        x, other = other, x
    return int(x)


@jit
def _length(x: Array) -> float:
    """Return the Frobenius norm, by four independent sums for speed."""
    a = b = c = d = 0.0
    whole = x.size // 4 * 4
    for i in range(0, whole, 4):
        a += np.float64(x[i]) * np.float64(x[i])
        b += np.float64(x[i + 1]) * np.float64(x[i + 1])
        c += np.float64(x[i + 2]) * np.float64(x[i + 2])
        d += np.float64(x[i + 3]) * np.float64(x[i + 3])
    for i in range(whole, x.size):
        a += np.float64(x[i]) * np.float64(x[i])
    return float(np.sqrt((a + b) + (c + d)))


@jit
def _scale(x: Array, factor: float) -> None:
    by = x.dtype.type(factor)
    for i in range(x.size):
        x[i] *= by


@jit
def _add_to_diagonal(x: Array, n: int, value: float) -> None:
    more = x.dtype.type(value)
    for i in range(n):
        x[i * (n + 1)] += more
