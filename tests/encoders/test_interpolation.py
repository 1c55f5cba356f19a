"""Interpolation between nodes, held to PyTorch's, and sums of values by node."""

import numpy as np
import pytest

from coordfit.encoders.interpolation import CUBIC, LINEAR
from coordfit.encoders.node_sums import node_sums


@pytest.mark.parametrize("kernel", [LINEAR, CUBIC], ids=["linear", "cubic"])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_weights_sum_to_1_and_a_node_has_its_own_value(kernel, count):
    A = kernel.matrix(np.random.default_rng(0).uniform(-3.0, count + 2.0, 200), count)
    np.testing.assert_allclose(A.sum(axis=1), 1.0, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(kernel.matrix(np.arange(float(count)), count), np.eye(count))
    far = kernel.matrix(np.array([-9.0, count + 9.0]), count)
    np.testing.assert_array_equal(far, np.eye(count)[[0, -1]])


@pytest.mark.parametrize("kernel", [LINEAR, CUBIC], ids=["linear", "cubic"])
def test_polynomials_of_the_kernels_order_come_back(kernel):
    """Straight lines by two taps, parabolas by Catmull-Rom's four (Keys 1981), away from the ends."""
    places, nodes = np.random.default_rng(1).uniform(2.0, 6.0, 50), np.arange(9.0)
    degree = kernel.taps // 2
    np.testing.assert_allclose(kernel.matrix(places, 9) @ nodes**degree, places**degree, rtol=1e-13)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_enlarging_is_that_of_pillow(scale):
    """Its bicubic filter is Keys' with a = -1/2; it treats the ends otherwise."""
    image = pytest.importorskip("PIL.Image")
    values = np.random.default_rng(2).normal(size=(7, 9)).astype(np.float32)
    larger = image.fromarray(values).resize((9 * scale, 7 * scale), image.Resampling.BICUBIC)
    A_y, A_x = (CUBIC.matrix((np.arange(n * scale) + 0.5) / scale - 0.5, n) for n in values.shape)
    inner = (slice(2 * scale, -2 * scale),) * 2
    np.testing.assert_allclose((A_y @ values @ A_x.T)[inner], np.asarray(larger)[inner], atol=1e-5)


def test_sums_of_nodes_are_numpys(backend):
    rng = np.random.default_rng(3)
    values, nodes = rng.normal(size=(2, 40, 3)), rng.integers(0, 12, (2, 40))
    nodes[nodes == 5] = 4  # a node without values
    expected = np.zeros((2, 12, 3))
    for k in range(2):
        np.add.at(expected[k], nodes[k], values[k])
    own = node_sums(backend, backend.asarray(values), backend.asarray(nodes), 12)
    np.testing.assert_allclose(backend.to_numpy(own).reshape(2, 12, 3), expected, rtol=0, atol=1e-13)
    shared = node_sums(backend, backend.asarray(values[0]), backend.asarray(nodes[0]), 12)
    np.testing.assert_allclose(backend.to_numpy(shared), expected[0], rtol=0, atol=1e-13)
