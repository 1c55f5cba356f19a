"""Compiled layers whose products are cut, or are loops of ours, against their formulas."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed")

from coordfit.backends.numba_backend.backend import NumbaBackend

from coordfit.network.activations import make_activation

RELU = make_activation("relu")


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("inputs", [5, 16, 48, 71])  # less than a vector, whole vectors, and with a rest
@pytest.mark.parametrize("members", [(), (3,)])
@pytest.mark.parametrize("accumulate", [False, True])
def test_three_colours_go_backward_as_the_formulas_say(dtype, rtol, inputs, members, accumulate):
    rng = np.random.default_rng(0)
    h, dz, W, dW, db = (
        rng.normal(size=(*members, *shape)).astype(dtype)
        for shape in ((11, inputs), (11, 3), (inputs, 3), (inputs, 3), (1, 3))
    )
    h = np.maximum(h, 0)
    keep = float(accumulate)
    wanted = (
        np.swapaxes(h, -1, -2).astype(float) @ dz + keep * dW,
        dz.sum(axis=-2, keepdims=True, dtype=float) + keep * db,
        (dz.astype(float) @ np.swapaxes(W, -1, -2)) * (h > 0),
    )
    dx = NumbaBackend(threads=1, fused="always").linear_backward(
        dz, h, W, dW=dW, db=db, accumulate=accumulate, previous=(RELU, h)
    )
    for name, found, expected in zip(("dW", "db", "dx"), (dW, db, dx), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol, rtol * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("small_products", [False, True])  # whatever BLAS is here, pieces give the same
@pytest.mark.parametrize("shape", [(32, 300, 130), (40, 131, 259), (64, 64, 40), (16, 70, 900)])
def test_products_in_pieces_are_those_of_the_formulas(shape, small_products):
    rows, inputs, units = shape
    rng = np.random.default_rng(0)
    sizes = ((rows, inputs), (rows, units), (inputs, units), (inputs, units), (1, units))
    x, dz, W, dW, db = (rng.normal(size=size).astype(np.float32) for size in sizes)
    x = np.maximum(x, 0)
    backend = NumbaBackend(threads=1, fused="always")
    backend.host.has_small_products = small_products
    y, _ = backend.linear(x, W, db, RELU)
    exact = np.maximum(x.astype(float) @ W + db, 0)
    np.testing.assert_allclose(y, exact, 1e-5, 1e-5 * exact.max())
    dx = backend.linear_backward(dz, x, W, dW=dW, db=db, accumulate=False, previous=(RELU, x))
    for found, expected in ((dW, x.T.astype(float) @ dz), (dx, (dz.astype(float) @ W.T) * (x > 0))):
        np.testing.assert_allclose(found, expected, 1e-5, 1e-5 * np.abs(expected).max())
