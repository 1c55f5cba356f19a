"""Every lowered form of every formula against its array form: NumPy passes, Numba, and CUDA text by g++."""

import contextlib
import ctypes
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support import components, needs
from support.cases import over

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
import simt
from coordfit.backends.cupy_backend.bodies.sums import NO_COLUMNS
from coordfit.backends.lowering import FUNCTIONS
from coordfit.backends.lowering.cuda_text import cuda_activation, cuda_loss, cuda_rule
from coordfit.backends.numpy_backend.passes import backward_passes, forward_passes, loss_passes, update_passes

from coordfit.backends import FormulaError
from coordfit.network.activations import Identity, ReLU, Sigmoid, Sine, Tanh
from coordfit.network.losses import MAE, MSE, Huber
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.sgd import SGD

ACTIVATIONS = [Identity(), ReLU(), Tanh(), Sigmoid(), Sine(3.0), *components.ACTIVATIONS]
LOSSES = [MSE(), MAE(), Huber(0.3), *components.LOSSES]
RULES = [Adam(), SGD(), SGD(0.9), SGD(0.9, True), *components.RULES]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30]
# Of a few operations of float32, some of them functions right to two of its last bits.
TOLERANCES = {"float32": 2e-6, "float64": 1e-14}
STEP, RATE = 3, 0.05


def numbers(dtype, seed, size=301):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(0.0, 1.5, size), SPECIAL, SPECIAL[::-1]]).astype(dtype)


class Passes:
    """NumPy's passes, with NaN in all buffers that they must not read."""

    def __init__(self):
        self.made = {}

    def reuse(self, purpose, shape, dtype):
        fill = 0 if purpose in ("zeros",) or not np.issubdtype(dtype, np.floating) else np.nan
        return self.made.setdefault((purpose, shape, dtype), np.full(shape, fill, dtype))

    def forward(self, f, z):
        passes, k = forward_passes(f)
        if not f.saves_input:
            y = z.copy()
            passes(self.reuse, k, y)
            return y
        y, saved = np.empty_like(z), z.copy()
        passes(self.reuse, k, saved, y)
        np.testing.assert_array_equal(saved, z)
        return y

    def backward(self, f, dy, saved):
        passes, k = backward_passes(f)
        dz = dy.copy()
        passes(self.reuse, k, dz, saved.copy())
        return dz

    def loss(self, f, residual, weights):
        passes, k = loss_passes(f, True)
        value, dy = passes(self.reuse, (*k, 0.5), residual.copy(), weights)
        return value, dy

    def update(self, f, p, g, state):
        formula, passes = update_passes(f)
        p, state = p.copy(), [s.copy() for s in state]
        given = g.copy()
        passes(self.reuse, formula.values(f, step=STEP, learning_rate=RATE), p, given, *state)
        np.testing.assert_array_equal(given, g)
        return p, *state


class Kernels:
    """Numba's kernels, called from Python by address."""

    def __init__(self):
        from coordfit.backends.numba_backend.compiled import kernels

        self.k = kernels

    @staticmethod
    def call(kernel, *arguments):
        words = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in (*arguments, kernel.coefficients)]
        if kernel.address:
            ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(words))(kernel.address)(*words)

    def forward(self, f, z):
        z, y = z.copy(), np.empty_like(z)
        self.call(self.k.forward_kernel(f, z.dtype), z, np.zeros_like(z), y, 1, z.size, 0)
        return y if f.saves_input else z

    def backward(self, f, dy, saved):
        dz = dy.copy()
        self.call(self.k.backward_kernel(f, dy.dtype), dz, saved, 1, dy.size, 0)
        return dz

    def loss(self, f, residual, weights):
        # The kernel sums: rows of one number, one after the other.
        values, dy, zero = np.empty_like(residual), np.empty_like(residual), np.zeros(1, residual.dtype)
        for i in range(residual.size):
            parts = (a[i : i + 1] for a in (residual, weights, dy, values))
            r, w, d, v = parts
            self.call(self.k.loss_kernel(f, residual.dtype, 0.5), r, zero, w, d, v, 1, 1)
        return values / np.asarray(0.5, residual.dtype), dy

    def update(self, f, p, g, state):
        p, g, state = p.copy(), g.copy(), [s.copy() for s in state]
        table, states = np.array([g.ctypes.data]), np.array([s.ctypes.data for s in state] or [0])
        place = (0, 1, 0, p.size, p.size)
        rates, step = np.array([RATE]), np.array([STEP])
        self.call(self.k.update_kernel(f, p.dtype), p, table, 1, states, *place, rates, 1, step)
        return p, *state


@dataclass
class Cuda:
    """The CUDA kernels, compiled by g++."""

    launch: object

    def forward(self, f, z):
        (c,), z = simt_type(z), z.copy()
        y = np.empty_like(z) if f.saves_input else z
        bias = np.zeros_like(z)
        self.launch(
            "bias_activation", (c,), (1, 1), z, 0, bias, 0, y, 0, 1, z.size, cuda_activation(f), block=32
        )
        return y

    def backward(self, f, dy, saved):
        dz = np.empty_like(dy)
        sums = np.empty(dy.size, dy.dtype)
        arguments = (dy, 0, saved, 0, dz, 0, sums, 0, 1, dy.size, 1, *NO_COLUMNS, cuda_activation(f))
        self.launch("activation_backward", simt_type(dy), (1, 1), *arguments, block=32)
        return dz

    def loss(self, f, residual, weights):
        dy, values = np.empty_like(residual), np.empty(residual.size)
        zero, one = np.zeros_like(residual), residual.size
        arguments = (residual, 1, zero, 0, weights, 1, dy, 1, values, 1, 1, 1, 0.5, cuda_loss(f))
        self.launch("loss_and_gradient", simt_type(residual), (1, one), *arguments, block=32)
        return values.astype(residual.dtype), dy

    def update(self, f, p, g, state):
        p, state = p.copy(), [s.copy() for s in state]
        buffers = (p, g, *state, *[None] * (4 - len(state)), None)
        arguments = (*buffers, 0, p.size, None, 0, np.array([STEP]), np.array([RATE]), 0, cuda_rule(f), 1.0)
        self.launch("optimizer_step", simt_type(p) * 2, (1, 1), *arguments, block=32)
        return p, *state


def simt_type(array):
    return ({"float32": "float", "float64": "double"}[array.dtype.name],)


@pytest.fixture(params=["numpy", "numba", "cuda"])
def form(request):
    if request.param == "numpy":
        return Passes()
    if request.param == "numba":
        if importlib.util.find_spec("numba") is None:
            pytest.skip("Numba is not installed")
        return Kernels()
    if reason := simt.why_no_compiler():
        needs.skip("kernels", reason)
    from support import fake_cupy

    return Cuda(simt.launcher(fake_cupy.shim()))


def same(found, expected):
    """Assert equality to rounding, infinities and NaNs included."""
    tolerance = TOLERANCES[expected.dtype.name]
    scale = max(1.0, np.max(np.abs(expected[np.isfinite(expected)])))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


@contextlib.contextmanager
def quiet():
    with np.errstate(all="ignore"):
        yield


def named(op):
    return repr(op)


@over("f", ACTIVATIONS)
def test_an_activation_is_its_array_form(form, f, dtype):
    z, dy = numbers(dtype, 1), np.roll(numbers(dtype, 2), 3)
    with quiet():
        y = f.forward(np, z)
        saved = z if f.saves_input else y
        same(form.forward(f, z), y)
        same(form.backward(f, dy, saved), f.backward(np, dy, saved))


@dataclass(frozen=True)
class Corners:
    """Zeros of both signs, and the larger of two numbers."""

    saves_input = True

    def forward(self, xp, z):
        return xp.where(z > 0, 0.0 * z, -0.0 * z)

    def backward(self, xp, dy, saved):
        return xp.maximum(dy, saved)


def test_zeros_keep_their_signs_and_nan_of_either_number_stays(form, dtype):
    f, z, dy = Corners(), numbers(dtype, 1), np.roll(numbers(dtype, 2), 3)
    with quiet():
        y, expected = form.forward(f, z), f.forward(np, z)
        same(y, expected)
        told = np.isfinite(z) & (z != 0.0)  # a bias may have made 0 of -0
        np.testing.assert_array_equal(np.signbit(y[told]), np.signbit(expected[told]))
        same(form.backward(f, dy, z), f.backward(np, dy, z))


@over("f", LOSSES)
def test_a_loss_is_its_array_form(form, f, dtype):
    residual = numbers(dtype, 3)
    weights = np.random.default_rng(0).integers(0, 3, residual.size).astype(dtype)
    with quiet():
        value, dy = form.loss(f, residual, weights)
        same(value, f.value(np, residual) * weights)
        same(dy, f.gradient(np, residual) * weights * np.asarray(0.5, dtype))


@over("f", RULES)
def test_an_update_is_its_array_form(form, f, dtype):
    p, g = numbers(dtype, 4), np.roll(numbers(dtype, 5), 2)
    state = [np.abs(np.roll(numbers(dtype, 6 + i), i)) for i, _ in enumerate(f.state)]
    with quiet():
        parameter, new_state = f.update(np, p, g, tuple(state), STEP, RATE)
        for found, expected in zip(form.update(f, p, g, state), (parameter, *new_state), strict=True):
            same(found, expected)


@over("f", ACTIVATIONS)
def test_a_derivative_is_a_difference_quotient(f):
    z, h = np.random.default_rng(0).normal(size=500), 1e-6
    z = z[np.abs(z) > 1e-3]
    saved = z if f.saves_input else f.forward(np, z)
    slope = (f.forward(np, z + h) - f.forward(np, z - h)) / (2 * h)
    np.testing.assert_allclose(f.backward(np, np.ones_like(z), saved), slope, rtol=1e-6, atol=1e-7)


@over("f", LOSSES)
def test_a_gradient_is_a_difference_quotient(f):
    r, h = np.random.default_rng(0).normal(size=500), 1e-6
    kinks = np.array([0.0, 0.3, -0.3])
    r = r[np.abs(r[:, None] - kinks).min(axis=1) > 1e-3]
    slope = (f.value(np, r + h) - f.value(np, r - h)) / (2 * h)
    np.testing.assert_allclose(f.gradient(np, r), slope, rtol=1e-6, atol=1e-7)


# -- what a formula may not do ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """An activation with a function of the test's choice."""

    body: object
    saves_input = True

    def forward(self, xp, z):
        return self.body(xp, z)

    def backward(self, xp, dy, saved):
        return dy


WRONG = {
    "an unknown function": (lambda xp, z: xp.arctan(z), "Wrong calls xp.arctan; a formula may call abs, exp,"),
    "an if": (lambda xp, z: z if z > 0 else -z, "Wrong asks whether an element is true"),
    "Python's max": (lambda xp, z: max(z, 0.0), "Wrong asks whether an element is true"),
    "a function of math": (lambda xp, z: __import__("math").exp(z), "Wrong makes a number of an element"),
    "an index": (
        lambda xp, z: z[0],
        "the formula of Wrong cannot be lowered: 'Expr' object is not subscriptable",
    ),
    "a function of NumPy": (
        lambda xp, z: np.logaddexp(z, 0.0),
        "the formula of Wrong cannot be lowered: it calls a function of NumPy itself; call those of xp: abs",
    ),
    "an argument too many": (lambda xp, z: xp.clip(z, 0.0), "Wrong calls xp.clip with other than 3 arguments"),
    "an infinity": (lambda xp, z: z * float("inf"), "Wrong computes with inf; a formula's numbers are finite"),
    "a word": (lambda xp, z: z * "a", "Wrong computes with 'a', which is not a number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_formula_may_not_do_is_told_in_one_line(case):
    body, line = WRONG[case]
    with pytest.raises(FormulaError) as raised:
        forward_passes(Wrong(body))
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_the_functions_of_formulas_are_numpys():
    assert all(hasattr(np, name) for name in FUNCTIONS)
    assert len(FUNCTIONS) < 20
