"""Functions of float32 in compiled code, of whole rows, against NumPy's in float64."""

import ctypes

import numba
import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed")

from coordfit.backends.numba_backend.compiled.functions import exponential, hyperbolic_tangent
from coordfit.backends.numba_backend.compiled.kernels import backward_kernel, forward_kernel

from coordfit.network.activations import Sine

OMEGAS = [1.0, 5.0, 30.0]


def rows_of(dtype, scale, size=20_001):
    rng = np.random.default_rng(0)
    return tuple(rng.normal(0.0, scale, size).astype(dtype) for _ in range(2))


def call(kernel, *arguments):
    """Call a kernel from Python with addresses and sizes."""
    words = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in (*arguments, kernel.coefficients)]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(words))(kernel.address)(*words)


def forward(z, b, omega):
    z, y = z.copy(), np.empty_like(z)
    call(forward_kernel(Sine(omega), z.dtype), z, b, y, 1, z.size, 0)
    return z, y


@pytest.mark.parametrize("omega", OMEGAS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-7), ("float64", 1e-15)])
def test_sines_and_their_slopes_are_right_to_the_last_digits(dtype, tolerance, scale, omega):
    z, b = rows_of(dtype, scale)
    saved, y = forward(z, b, omega)
    np.testing.assert_array_equal(saved, z + b)
    phase = (np.dtype(dtype).type(omega) * saved).astype(np.float64)  # the product is rounded, as NumPy's is
    np.testing.assert_allclose(y, np.sin(phase), rtol=0, atol=tolerance)
    dy = b.copy()
    call(backward_kernel(Sine(omega), dy.dtype), dy, saved, 1, dy.size, 0)
    bound = tolerance * omega * float(np.abs(b).max())
    np.testing.assert_allclose(dy, b * omega * np.cos(phase), rtol=0, atol=2 * bound)


def test_small_sines_keep_their_relative_precision():
    z = np.geomspace(1e-30, 1e-2, 500).astype(np.float32)
    _, y = forward(z, np.zeros_like(z), 1.0)
    np.testing.assert_allclose(y, np.sin(z.astype(np.float64)), rtol=3e-7)


def test_sines_of_anything_stay_within_one_and_nan_stays_nan():
    z = np.array([1e5, -1e7, 3e9, -1e30, np.inf, -np.inf, np.nan], np.float32)
    _, y = forward(z, np.zeros_like(z), 5.0)
    assert np.all(np.abs(y[:3]) <= 1.0)
    assert np.all(np.isnan(y[4:]))
    assert np.all((np.abs(y) <= 1.0) | np.isnan(y))


EVERY_SCALE = np.concatenate([sign * np.geomspace(1e-38, 120.0, 40_000) for sign in (1, -1)]).astype(np.float32)


@pytest.mark.parametrize(
    ("function", "right"), [(exponential, np.exp), (hyperbolic_tangent, np.tanh)], ids=["exp", "tanh"]
)
def test_exp_and_tanh_are_right_to_the_last_bits_at_every_scale(function, right):
    with np.errstate(over="ignore"):
        expected = right(EVERY_SCALE.astype(np.float64)).astype(np.float32)
        found = numba.vectorize(["float32(float32)"])(function.py_func)(EVERY_SCALE)
    np.testing.assert_array_max_ulp(found, expected, 2)


@pytest.mark.parametrize(
    ("function", "right"), [(exponential, np.exp), (hyperbolic_tangent, np.tanh)], ids=["exp", "tanh"]
)
def test_exp_and_tanh_of_zeros_infinities_and_nan(function, right):
    z = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30], np.float32)
    with np.errstate(all="ignore"):
        expected = right(z)
        found = numba.vectorize(["float32(float32)"])(function.py_func)(z)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found[:2]), np.signbit(expected[:2]))
