"""Muon's own kernels on matrices that lie in flat buffers with gaps, against NumPy in float64."""

import numpy as np
from simt import DTYPES, assert_close, decode, encode
from support.cases import over

K, LAYERS, N, FIRST, STEP, STRIDE = 2, 3, 9, 5, 90, 300


def matrices(flat):
    """Return the matrices (K, LAYERS, N, N) in flat buffers (K, STRIDE)."""
    starts = FIRST + STEP * np.arange(LAYERS)
    return np.stack([flat[:, start : start + N * N].reshape(K, N, N) for start in starts], axis=1)


def elsewhere(flat):
    """Return the numbers of flat buffers that belong to no matrix."""
    inside = np.add.outer(FIRST + STEP * np.arange(LAYERS), np.arange(N * N)).ravel()
    return np.delete(flat, inside, axis=1)


@over("stored", ["float", "double"])
def test_the_direction_is_nesterov_s_momentum(launch, memory, rng, stored):
    M, G = (rng.standard_normal((K, STRIDE)).astype(DTYPES[stored]) for _ in range(2))
    put, X = memory.put(M), memory.room((K, LAYERS, N, N), M.dtype)
    arguments = (put, memory.put(G), STRIDE, FIRST, STEP, LAYERS, X, N * N, 0.9, 64.0)
    launch("muon_direction", (stored,), (2, K * LAYERS), *arguments, block=32)
    momentum = 0.9 * matrices(M).astype(float) + matrices(G)
    assert_close(matrices(put), momentum, stored)
    assert_close(X, 64 * (matrices(G) + 0.9 * momentum), stored)
    np.testing.assert_array_equal(elsewhere(put), elsewhere(M))


@over("stored", ["float", "double"])
@over("block", [32, 64])
def test_the_norm_of_the_gram_matrix_becomes_1(launch, memory, rng, stored, block):
    X = rng.standard_normal((4, N, N)).astype(DTYPES[stored])
    X[1] = 0.0
    X[2, 3, 4] = np.nan
    A = np.swapaxes(X, 1, 2) @ X
    put_A, put_X = memory.put(A), memory.put(X)
    launch("muon_normalize", (stored,), (1, 4), put_A, put_X, N, -1.5, 1e-30, block=block)
    norms = np.linalg.norm(A.astype(float), axis=(1, 2), keepdims=True)
    with np.errstate(invalid="ignore"):
        expected_A, expected_X = A / norms, X / np.sqrt(norms)
    expected_A[1] = expected_X[1] = 0.0
    assert_close(put_A, expected_A - 1.5 * np.eye(N), stored)
    assert_close(put_X, expected_X, stored)
    assert np.isnan(put_X[2]).all()


@over("types", [("float", "float"), ("float", "bf16"), ("float", "half"), ("double", "double")])
@over("own_rates", [False, True])
def test_parameters_and_their_copy_take_the_step(launch, memory, rng, types, own_rates):
    W = rng.standard_normal((K, STRIDE)).astype(DTYPES[types[0]])
    X = rng.standard_normal((K, LAYERS, N, N)).astype(W.dtype)
    rates = np.array([0.5, 0.25]) if own_rates else np.array([0.5])
    put, has_copy = memory.put(W), types[0] != types[1]
    compute_copy = memory.room(W.shape, DTYPES[types[1]]) if has_copy else None
    launch(
        "muon_update", types, (2, K * LAYERS), put, compute_copy, STRIDE, FIRST, STEP, LAYERS, memory.put(X),
        N * N, memory.put(rates), int(own_rates), 3.0, block=32,
    )  # fmt: skip
    assert_close(matrices(put), matrices(W) - 3.0 * rates[:, None, None, None] * X, types[0])
    np.testing.assert_array_equal(elsewhere(put), elsewhere(W))
    if has_copy:
        written = decode(matrices(compute_copy), types[1])
        np.testing.assert_array_equal(written, decode(encode(matrices(put), types[1]), types[1]))
