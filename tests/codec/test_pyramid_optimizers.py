"""Adam against PyTorch, and Muon's orthogonal steps."""

import numpy as np
import pytest

from coordfit.codec.pyramid.optimizers import Adam, Muon, orthogonalized


def test_adam_takes_the_steps_of_pytorch(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("coordfit.codec.pyramid.optimizers._BLOCK", 3)
    rng = np.random.default_rng(0)
    parameters, gradient = rng.normal(size=10), np.zeros(10)
    leaves = [torch.tensor(parameters[part]) for part in (slice(0, 7), slice(7, 10))]
    theirs = torch.optim.Adam(
        [{"params": leaf, "lr": rate} for leaf, rate in zip(leaves, (0.1, 0.02), strict=True)],
        betas=(0.9, 0.99),
    )
    ours = Adam(parameters, gradient, [(slice(0, 7), 0.2), (slice(7, 10), 0.04)])
    for _ in range(4):
        gradient[:] = rng.normal(size=10)
        leaves[0].grad, leaves[1].grad = torch.tensor(gradient[:7]), torch.tensor(gradient[7:])
        theirs.step()
        ours.step(0.5)
    np.testing.assert_allclose(parameters, torch.cat(leaves), atol=1e-7)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_an_orthogonalized_matrix_keeps_its_singular_vectors(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalized(matrix) @ vt.T
    assert abs(inner - np.diag(np.diag(inner))).max() < 1e-9
    assert np.diag(inner).min() > 0.3
    assert np.diag(inner).max() < 1.3


def test_muon_leaves_no_gradient_to_adam():
    weights, gradient = np.zeros((4, 3)), np.ones((4, 3))
    Muon([(weights, gradient)], 0.1).step(0.5)
    assert not gradient.any()
    assert weights.max() < 0
