"""A pyramid's optimizer takes PyTorch's steps of Adam, and orthogonal ones for matrices."""

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support import needs

from coordfit.codec.pyramid.optimizers import PyramidOptimizer


def test_adam_takes_the_steps_of_pytorch():
    torch = needs.library("torch")
    rng = np.random.default_rng(0)
    parameters, gradient = rng.normal(size=10), np.zeros(10)
    leaves = [torch.tensor(parameters[part]) for part in (slice(0, 7), slice(7, 10))]
    theirs = torch.optim.Adam(
        [{"params": leaf, "lr": rate} for leaf, rate in zip(leaves, (0.1, 0.02), strict=True)],
        betas=(0.9, 0.99),
    )
    rates = [(slice(0, 7), 0.2), (slice(7, 10), 0.04)]
    ours = PyramidOptimizer(NumpyBackend(threads=1), parameters, gradient, rates, [], 0.1)
    for _ in range(4):
        gradient[:] = rng.normal(size=10)
        leaves[0].grad, leaves[1].grad = torch.tensor(gradient[:7]), torch.tensor(gradient[7:])
        theirs.step()
        ours.step(0.5)
    np.testing.assert_allclose(parameters, torch.cat(leaves), atol=1e-7)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_a_step_of_a_matrix_keeps_the_singular_vectors_of_its_gradient(shape):
    """Its rows end in a bias, which Adam trains; the first momentum is the gradient itself."""
    rows, columns = shape
    parameters, gradient = np.zeros(rows * (columns + 1)), np.zeros(rows * (columns + 1))
    w, dw = (flat.reshape(rows, columns + 1) for flat in (parameters, gradient))
    dw[...] = np.random.default_rng(0).normal(size=dw.shape)
    u, s, vt = np.linalg.svd(dw[:, :-1], full_matrices=False)
    s = s / np.sum(s**4) ** 0.25
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5  # Jordan's iteration, to about 1
    everything = [(slice(0, parameters.size), 0.01)]
    optimizer = PyramidOptimizer(
        NumpyBackend(threads=1), parameters, gradient, everything, [(w[:, :-1], dw[:, :-1])], 0.1
    )
    optimizer.step(0.5)
    inner = -(u.T @ w[:, :-1] @ vt.T) / (0.05 * max(1.0, rows / columns) ** 0.5)
    assert abs(inner - np.diag(np.diag(inner))).max() < 1e-9
    np.testing.assert_allclose(np.diag(inner), s, rtol=1e-6)
    np.testing.assert_allclose(w[:, -1], -0.005 * np.sign(dw[:, -1]), rtol=1e-5)
