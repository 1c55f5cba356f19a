"""Muon against singular value decompositions, against Adam, and beside PyTorch's own."""

import itertools

import numpy as np
import pytest
from support import needs
from support.backend_matrix import on

from coordfit.backends import get_backend
from coordfit.config import make_config
from coordfit.network.parameters import ParameterLayout
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.optimizers.muon import Muon, Orthogonalizer

LAYOUT = ParameterLayout((10, 12, 12, 12, 3))
ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
HIDDEN = (1, 2)


def make(backend, parameters, **options):
    settings = {"momentum": 0.9, "iterations": 5, **ADAM} | options
    return Muon(backend, parameters, LAYOUT, dtype="float64", **settings)


def matrices(*shape, smallest=1e-2, seed=0):
    """Matrices (..., n, n) with singular values from `smallest` to 1."""
    rng = np.random.default_rng(seed)
    n = shape[-1]
    U, V = (np.linalg.qr(rng.normal(size=shape))[0] for _ in range(2))
    return U * np.geomspace(1.0, smallest, n) @ V


def orthogonalized(backend, X, dtype, iterations=5):
    orthogonalize = Orthogonalizer(backend, X.shape, dtype, iterations)
    return backend.to_numpy(orthogonalize(backend.asarray(X.copy(), dtype)))


def by_decomposition(X, iterations=5):
    """The same polynomial on singular values that NumPy has found."""
    U, s, Vh = np.linalg.svd(X)
    s = s / np.sum(s**4, axis=-1, keepdims=True) ** 0.25
    for _ in range(iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return U * s[..., None, :] @ Vh


def test_the_iteration_is_its_polynomial_of_the_singular_values(backend):
    for X, scale in itertools.product((matrices(9, 9), matrices(3, 16, 16)), (1.0, 1e-12, 1e6)):
        found = orthogonalized(backend, scale * X, "float64")
        np.testing.assert_allclose(found, by_decomposition(X), atol=1e-9, err_msg=f"{X.shape}, {scale}")


@on("numba", "cupy-on-host")
def test_the_result_is_near_the_nearest_orthogonal_matrix(backend, dtype):
    X = matrices(4, 32, 32)
    U, _, Vh = np.linalg.svd(X)
    found = orthogonalized(backend, X.astype(dtype), dtype)
    inner = np.swapaxes(U, -1, -2) @ found @ np.swapaxes(Vh, -1, -2)
    s = np.diagonal(inner, axis1=-2, axis2=-1)
    assert s.min() > 0.6
    assert s.max() < 1.3
    np.testing.assert_allclose(inner, s[..., None] * np.eye(32), atol=1e-3 if dtype == "float32" else 1e-10)


@on("numba", "strict")
def test_no_gradient_is_no_step(backend):
    start = np.random.default_rng(0).normal(size=LAYOUT.size)
    parameters = backend.asarray(start.copy(), "float64")
    muon = make(backend, parameters)
    muon.step(parameters, [backend.zeros(start.shape, "float64")], 0.1)
    np.testing.assert_array_equal(backend.to_numpy(parameters), start)


def muon_as_written(W, gradients, rates, *, momentum):
    """Jordan's recurrence with Nesterov's momentum and Liu's scale, by decompositions."""
    M = np.zeros_like(W)
    for G, rate in zip(gradients, rates, strict=True):
        M = momentum * M + G
        W = W - rate * 0.2 * np.sqrt(max(W.shape)) * by_decomposition(G + momentum * M)
    return W


@on("numpy", "numba", "strict", "cupy-on-host")
@pytest.mark.gpu_smoke
@pytest.mark.parametrize(("members", "parts"), [(None, 2), (3, 1)])
def test_hidden_matrices_follow_muon_and_all_else_adam(backend, members, parts):
    rng = np.random.default_rng(1)
    shape = (LAYOUT.size,) if members is None else (members, LAYOUT.size)
    start, gradients = rng.normal(size=shape), rng.normal(size=(6, *shape))
    rates = np.geomspace(0.1, 0.02, 6)
    if members is not None:
        rates = rates[:, None, None] * np.array([[1.0], [0.5], [0.0]])
    own = backend.asarray(start.copy(), "float64")
    adams = backend.asarray(start.copy(), "float64")
    muon, adam = make(backend, own), ElementwiseOptimizer(backend, adams, Adam(**ADAM), dtype="float64")
    for G, rate in zip(gradients, rates, strict=True):
        rate = float(rate) if members is None else backend.asarray(rate, "float64")
        muon.step(own, [backend.asarray(G / parts, "float64") for _ in range(parts)], rate)
        adam.step(adams, [backend.asarray(G, "float64")], rate)
    found, by_adam = (list(LAYOUT.views(np, backend.to_numpy(flat))) for flat in (own, adams))
    starts = list(LAYOUT.views(np, start))
    grads = [list(LAYOUT.views(np, G)) for G in gradients]
    for layer, ((W, b), (W_adam, b_adam)) in enumerate(zip(found, by_adam, strict=True)):
        np.testing.assert_allclose(b, b_adam, rtol=1e-12, atol=1e-14)
        if layer not in HIDDEN:
            np.testing.assert_allclose(W, W_adam, rtol=1e-12, atol=1e-14)
            continue
        for k in range(members or 1):
            one = (lambda a: a) if members is None else (lambda a, k=k: a[k])
            expected = muon_as_written(
                one(starts[layer][0]),
                [one(G[layer][0]) for G in grads],
                rates if members is None else rates[:, k, 0],
                momentum=0.9,
            )
            np.testing.assert_allclose(one(W), expected, rtol=0, atol=1e-8)


def test_unless_told_otherwise_there_are_three_iterations():
    backend, ends = get_backend("numpy"), []
    config = make_config({"optimizer": "muon", "dtype": "float64"})
    start, G = np.random.default_rng(0).normal(size=(2, LAYOUT.size))
    settings = {"momentum": config.muon_momentum, "iterations": 3}
    for maker in (
        lambda flat: Muon.of(backend, config, flat, LAYOUT),
        lambda flat: make(backend, flat, **settings),
    ):
        flat = start.copy()
        maker(flat).step(flat, [G.copy()], 0.1)
        ends.append(flat)
    np.testing.assert_array_equal(*ends)


def test_a_network_without_hidden_matrices_is_adam_s():
    backend, layout = get_backend("numpy"), ParameterLayout((5, 8, 2))
    rng = np.random.default_rng(0)
    start, G = rng.normal(size=(2, layout.size))
    ours, adams = start.copy(), start.copy()
    Muon(backend, ours, layout, dtype="float64", momentum=0.9, iterations=5, **ADAM).step(ours, [G.copy()], 0.1)
    ElementwiseOptimizer(backend, adams, Adam(**ADAM), dtype="float64").step(adams, [G.copy()], 0.1)
    np.testing.assert_array_equal(ours, adams)


def weight(flat, layer):
    return list(LAYOUT.views(np, flat))[layer][0]


def test_torch_s_muon_goes_the_same_way():
    """Its products are in bfloat16 and its first scaling is another, so the ways agree to some percent."""
    torch = needs.library("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    rng = np.random.default_rng(2)
    start, gradients = rng.normal(size=LAYOUT.size), rng.normal(size=(8, LAYOUT.size))
    ours, backend = start.copy(), get_backend("numpy")
    muon = make(backend, ours, momentum=0.95)
    (W0, _), (W1, _) = [pair for i, pair in enumerate(LAYOUT.views(np, start)) if i in HIDDEN]
    theirs = [torch.nn.Parameter(torch.tensor(W.copy())) for W in (W0, W1)]
    optimizer = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for G in gradients:
        muon.step(ours, [G.copy()], 0.1)
        for layer, W in zip(HIDDEN, theirs, strict=True):
            W.grad = torch.tensor(weight(G, layer).copy())
        optimizer.step()
    for layer, W in zip(HIDDEN, theirs, strict=True):
        begun = weight(start, layer)
        way, other = weight(ours, layer) - begun, W.detach().numpy() - begun
        assert np.sum(way * other) > 0.98 * np.linalg.norm(way) * np.linalg.norm(other)
        assert np.linalg.norm(way) == pytest.approx(np.linalg.norm(other), rel=0.1)


def test_layers_are_dealt_out_to_workers(monkeypatch):
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_WORKER_FLOPS", 1)
    rng = np.random.default_rng(4)
    start, gradients = rng.normal(size=LAYOUT.size), rng.normal(size=(3, LAYOUT.size))
    ends = []
    for threads in (1, 2):
        backend, parameters, shares = get_backend("numpy", threads=threads), start.copy(), []
        monkeypatch.setattr(backend, "run_workers", spy_on(backend.run_workers, shares))
        muon = make(backend, parameters)
        with backend.activate():
            for G in gradients:
                muon.step(parameters, [G.copy()], 0.1)
        assert shares == [2] * 3 * (threads - 1)
        ends.append(parameters)
    np.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=1e-12)


def spy_on(run, counts):
    def run_and_count(tasks):
        counts.append(len(tasks))
        run(tasks)

    return run_and_count
