"""The last layer in closed form: the weights that are best for what the hidden units say now.

With an output layer without activation and the mean squared error, the last layer's weights and biases are a
linear least-squares problem, small enough to be solved for each of many networks: the normal equations with a
ridge, (H^T H + r I) W = H^T Y. The pair of a trained hidden layer and a solved last one is what variable
projection makes of it: Golub and Pereyra (1973).
"""

from __future__ import annotations

from .._backends import Array, Backend

# Ridge as a share of the mean diagonal of H^T H. Less fits the pixels sooner, but the picture is restless
# between them: with 1e-5 a rendering at twice the size loses 0.7 dB.
RIDGE = 1e-3


def solve_last_layer(backend: Backend, hidden: Array, target: Array) -> tuple[Array, Array]:
    """W (K, H, C) and b (K, 1, C) that fit targets (K, N, C) best.

    Parameters
    ----------
    hidden : array, shape (N, H) shared by the members, or (K, N, H)
        What the last layer sees.
    """
    xp = backend.xp
    H, Y = (backend.asarray(array, "float64") for array in (hidden, target))
    H = xp.concat([H, xp.ones((*H.shape[:-1], 1), dtype=H.dtype)], axis=-1)
    H_T = xp.matrix_transpose(H)
    normal = H_T @ H
    units = normal.shape[-1]
    identity = xp.eye(units, dtype=H.dtype)
    trace = xp.sum(normal * identity, axis=(-2, -1), keepdims=True)
    normal = normal + (RIDGE / units) * trace * identity
    # Where one matrix serves all members, it is factorised once.
    W = xp.linalg.solve(normal, H_T) @ Y if hidden.ndim == 2 else xp.linalg.solve(normal, H_T @ Y)
    return W[..., :-1, :], W[..., -1:, :]
