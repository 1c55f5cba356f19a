"""Every backend computes the formulas, for any memory layout and any members in the batch.

A `Call` is one primitive with its options: how to run it on a backend, and the same in float64 NumPy, written
here a second time. Each test takes a primitive with all its calls, so that a new option is one more line.
"""

import ast
import contextlib
import functools
import inspect
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from coordfit.backends.dispatch import fused, fused_bodies_of, primitive
from coordfit.backends.numpy_backend.backend import NumpyBackend
from hypothesis import given
from hypothesis import strategies as st
from support.backend_matrix import on
from support.cases import told_by

import coordfit
from coordfit.backends import Backend, FormulaError, FusedUnavailableError, base, calls
from coordfit.network.activations import ReLU, Sine, make_activation
from coordfit.network.losses import make_loss
from coordfit.network.mlp import MLP
from coordfit.network.parameters import ParameterLayout
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.optimizers.sgd import SGD

# -- the formulas, once more, in float64 and by the derivative with respect to z -------------------------

OMEGA, DELTA = 2.0, 0.4
ACTIVATIONS = {
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "relu": (lambda z: np.where(z > 0, z, 0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "tanh": (np.tanh, lambda z: np.cosh(z) ** -2.0),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + np.exp(z) + np.exp(-z))),
    "sine": (lambda z: np.sin(OMEGA * z), lambda z: OMEGA * np.cos(OMEGA * z)),
}
LOSSES = {
    "mse": (np.square, lambda r: r + r),
    "mae": (np.abs, lambda r: np.where(r > 0, 1.0, np.where(r < 0, -1.0, 0.0))),
    "huber": (
        lambda r: np.where(np.abs(r) < DELTA, r**2 / 2, DELTA * np.abs(r) - DELTA**2 / 2),
        lambda r: np.where(np.abs(r) < DELTA, r, DELTA * np.sign(r)),
    ),
}
ADAM = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-3}


def product(a, b):
    return np.einsum("...ij,...jk->...ik", a, b)


def turned(a):
    return np.moveaxis(a, -1, -2)


def adam_by_the_book(p, g, m, v, step, learning_rate):
    m = ADAM["beta1"] * m + (1 - ADAM["beta1"]) * g
    v = ADAM["beta2"] * v + (1 - ADAM["beta2"]) * g**2
    m_hat, v_hat = m / (1 - ADAM["beta1"] ** step), v / (1 - ADAM["beta2"] ** step)
    return p - learning_rate * m_hat / (np.sqrt(v_hat) + ADAM["epsilon"]), m, v


# -- the arrays of a problem, on the host ----------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Rows, widths and so on; ensemble axes E, and whether members share the arrays that they may share."""

    E: tuple[int, ...] = ()
    shared: bool = False
    N: int = 13
    n_in: int = 6
    n_out: int = 5
    m: int = 4
    P: int = 40

    def __str__(self):
        members = f"K{self.E[0]}{'-shared' * self.shared}" if self.E else "one"
        return f"{members}-N{self.N}-in{self.n_in}-out{self.n_out}"


ONE, SHARED, OWN = Sizes(), Sizes((3,), shared=True), Sizes((3,))
TYPICAL = [ONE, SHARED, OWN]
EDGES = [Sizes(N=1), Sizes((1,), N=2, n_in=1, n_out=1, m=1, P=1), Sizes((3,), shared=True, N=1, n_in=1)]


@functools.cache
def problem(sizes, dtype, seed=0):
    """Return host arrays by name; shared ones lack the ensemble axes."""
    rng = np.random.default_rng(seed)
    E, S = sizes.E, () if sizes.shared else sizes.E

    def normal(*shape):
        return rng.normal(size=shape)

    data = {
        "x": normal(*S, sizes.N, sizes.n_in),
        "W": normal(*E, sizes.n_in, sizes.n_out),
        "b": normal(*E, 1, sizes.n_out),
        "z": normal(*E, sizes.N, sizes.n_out),
        "z_below": normal(*E, sizes.N, sizes.n_in),
        "dy": normal(*E, sizes.N, sizes.n_out),
        "dW": normal(*E, sizes.n_in, sizes.n_out),
        "db": normal(*E, 1, sizes.n_out),
        "coordinates": rng.uniform(size=(*S, sizes.N, 2)),
        "B": 3 * normal(*E, sizes.m, 2),
        "prediction": normal(*E, sizes.N, 3),
        "target": normal(*S, sizes.N, 3),
        "weights": rng.integers(0, 3, size=(*S, sizes.N, 1)),
        "p": normal(*E, sizes.P),
        "g": normal(*E, sizes.P),
        "velocity": normal(*E, sizes.P),
        "m": normal(*E, sizes.P),
        "v": normal(*E, sizes.P) ** 2,
        "learning_rate": rng.uniform(0.1, 1.0, size=(*E, 1)),
    }
    return {name: array.astype(dtype) for name, array in data.items()}


def rows_of_members(sizes, data, members):
    """Return the data of some members, in this order; shared arrays as they are."""
    return {name: a if is_shared(sizes, name) else a[members] for name, a in data.items()}


def is_shared(sizes, name):
    return sizes.shared and name in ("x", "coordinates", "target", "weights")


# -- memory: ways to lay out an array, and to offer a buffer ---------------------------------------------


def contiguous(backend, host):
    return backend.asarray(host.copy())


def every_second(backend, host):
    """Return a view of every second element of a wider array, with NaN between."""
    wide = backend.zeros((*host.shape[:-1], 2 * host.shape[-1]), str(host.dtype))
    wide[...] = 99.0
    view = wide[..., ::2]
    view[...] = backend.asarray(host.copy())
    return view


def column_major(backend, host):
    return backend.xp.matrix_transpose(backend.asarray(np.swapaxes(host, -1, -2).copy()))


LAYOUTS = {"contiguous": contiguous, "every-second": every_second, "column-major": column_major}


class Memory:
    """Puts a problem's arrays on a backend, and checks afterwards that the inputs are unchanged."""

    def __init__(self, backend, data, layout=contiguous, offers=False):
        self.backend, self.data, self.layout, self.offers = backend, data, layout, offers
        self._inputs = []

    def input(self, name):
        """Return an array that must not change: a read-only one if the library has these."""
        array = self.writable(self.data[name])
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
        self._inputs.append((name, array))
        return array

    def writable(self, host):
        return self.layout(self.backend, host) if host.ndim > 1 else contiguous(self.backend, host)

    def out(self, *shape):
        """Return an offered buffer full of NaN, or None."""
        if not self.offers:
            return None
        buffer = self.backend.zeros(shape, str(self.data["x"].dtype))
        buffer[...] = float("nan")
        return buffer

    def assert_inputs_unchanged(self):
        for name, array in self._inputs:
            np.testing.assert_array_equal(self.backend.to_numpy(array), self.data[name], err_msg=name)


# -- the calls -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A primitive with options, on a backend and in float64 on the host; both return {name: array}."""

    primitive: str
    run: Callable
    oracle: Callable


def matmul(transpose_a, transpose_b):
    # x W, with each of them handed over transposed as the flags say.
    def run(backend, memory):
        x, W = memory.input("x"), memory.input("W")
        xp = backend.xp
        a = xp.matrix_transpose(x) if transpose_a else x
        b = xp.matrix_transpose(W) if transpose_b else W
        out = memory.out(*W.shape[:-2], x.shape[-2], W.shape[-1])
        return {"c": backend.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b, out=out)}

    return Call("matmul", run, lambda d: {"c": product(d["x"], d["W"])})


def linear(name):
    activation, f = make_activation(name, omega=OMEGA), ACTIVATIONS[name][0]

    def run(backend, memory):
        x, W, b = (memory.input(key) for key in ("x", "W", "b"))
        shape = (*W.shape[:-2], x.shape[-2], W.shape[-1])
        out, out_saved = memory.out(*shape), memory.out(*shape)
        y, saved = backend.linear(x, W, b, activation, out=out, out_saved=out_saved)
        return {"y": y, "kept": saved}

    def oracle(d):
        z = product(d["x"], d["W"]) + d["b"]
        return {"y": f(z), "kept": z if name == "sine" else f(z)}

    return Call("linear", run, oracle)


def kept_of(name, z, dtype):
    """Return the array that `linear` saves, from z in float64."""
    return (z if name == "sine" else ACTIVATIONS[name][0](z)).astype(dtype)


def activation_backward(name):
    activation, slope = make_activation(name, omega=OMEGA), ACTIVATIONS[name][1]

    def run(backend, memory):
        d = memory.data
        saved = memory.writable(kept_of(name, d["z"].astype(float), d["z"].dtype))
        return {"dz": backend.activation_backward(activation, memory.writable(d["dy"]), saved)}

    return Call("activation_backward", run, lambda d: {"dz": d["dy"] * slope(d["z"])})


def linear_backward(name=None, accumulate=False):
    """Return the call for a layer after one with this activation, or for the first layer."""
    activation = None if name is None else make_activation(name, omega=OMEGA)

    def run(backend, memory):
        dz, x, W = (memory.input(key) for key in ("dy", "x", "W"))
        d = memory.data
        dW, db = (memory.writable(d[key]) for key in ("dW", "db"))
        options = {"dW": dW, "db": db, "accumulate": accumulate}
        if name is not None:
            saved = memory.writable(kept_of(name, d["z_below"].astype(float), d["x"].dtype))
            options |= {"previous": (activation, saved), "out": memory.out(*W.shape[:-2], *x.shape[-2:])}
        dz_previous = backend.linear_backward(dz, x, W, **options)
        assert (dz_previous is None) == (name is None)
        return {"dW": dW, "db": db} | ({} if name is None else {"dz": dz_previous})

    def oracle(d):
        dz = d["dy"]
        dW, db = product(turned(d["x"]), dz), np.einsum("...no->...o", dz)[..., None, :]
        gradients = {"dW": dW + accumulate * d["dW"], "db": db + accumulate * d["db"]}
        if name is None:
            return gradients
        return gradients | {"dz": product(dz, turned(d["W"])) * ACTIVATIONS[name][1](d["z_below"])}

    return Call("linear_backward", run, oracle)


def fourier_features():
    def run(backend, memory):
        v, B = memory.input("coordinates"), memory.input("B")
        out = memory.out(*B.shape[:-2], v.shape[-2], 2 * B.shape[-2])
        return {"features": backend.fourier_features(v, B, out=out)}

    def oracle(d):
        phase = 2 * np.pi * np.einsum("...nd,...md->...nm", d["coordinates"], d["B"])
        return {"features": np.concatenate([np.cos(phase), np.sin(phase)], axis=-1)}

    return Call("fourier_features", run, oracle)


def loss_and_gradient(name, weighted=False, count=120):
    loss, (value, slope) = make_loss(name, delta=DELTA), LOSSES[name]

    def run(backend, memory):
        prediction, target = memory.input("prediction"), memory.input("target")
        weights = memory.input("weights") if weighted else None
        out = memory.out(*prediction.shape)
        result = backend.loss_and_gradient(loss, prediction, target, divisor=count, weights=weights, out=out)
        return dict(zip(("value", "dy"), result, strict=True))

    def oracle(d):
        w, r = d["weights"] if weighted else 1.0, d["prediction"] - d["target"]
        return {"value": np.einsum("...nc->...", w * value(r)) / count, "dy": w * slope(r) / count}

    return Call("loss_and_gradient", run, oracle)


def gradients(memory, workers):
    """Return the gradient alone, or parts whose sum it is; the first of several may be overwritten."""
    if workers == 1:
        return [memory.input("g")]
    partition = memory.data["g"] / workers
    return [memory.writable(partition) for _ in range(workers)]


def sgd_step(momentum=0.0, nesterov=False, by_member=False, workers=1):
    rule = SGD(momentum, nesterov)

    def run(backend, memory):
        p, g = memory.writable(memory.data["p"]), gradients(memory, workers)
        state = [memory.writable(memory.data["velocity"])] if momentum else []
        rate = memory.input("learning_rate") if by_member else 0.3
        result = backend.optimizer_step(rule, p, g, state, step=1, learning_rate=rate)
        assert result is None
        return {"p": p} | ({"velocity": state[0]} if momentum else {})

    def oracle(d):
        v = momentum * d["velocity"] + d["g"]
        direction = d["g"] + momentum * v if nesterov else v
        p = d["p"] - (d["learning_rate"] if by_member else 0.3) * (direction if momentum else d["g"])
        return {"p": p} | ({"velocity": v} if momentum else {})

    return Call("optimizer_step", run, oracle)


def two_ranges(P):
    return ((0, 1),) if P < 4 else ((1, P // 2), (P // 2 + 1, P))


def inside(ranges, P):
    """Return which of P numbers are in some ranges; all are if there are none."""
    found = np.full(P, not ranges)
    for start, stop in ranges:
        found[start:stop] = True
    return found


def adam_step(step, by_member=False, workers=1, ranges_of=lambda P: ()):
    def run(backend, memory):
        p, m, v = (memory.writable(memory.data[key]) for key in ("p", "m", "v"))
        rate = memory.input("learning_rate") if by_member else 0.3
        g = gradients(memory, workers)
        ranges, before = ranges_of(p.shape[-1]), backend.to_numpy(g[0]).copy()
        result = backend.optimizer_step(
            Adam(**ADAM), p, g, [m, v], step=step, learning_rate=rate, ranges=ranges
        )
        assert result is None
        changed = backend.to_numpy(g[0]) != before
        assert not changed[..., ~inside(ranges, p.shape[-1])].any(), "a gradient changed outside of the ranges"
        return {"p": p, "m": m, "v": v}

    def oracle(d):
        rate = d["learning_rate"] if by_member else 0.3
        # The backends keep the moments as sums, without the book's factors 1 - beta.
        one, two = 1.0 - ADAM["beta1"], 1.0 - ADAM["beta2"]
        p, m, v = adam_by_the_book(d["p"], d["g"], one * d["m"], two * d["v"], step, rate)
        found = {"p": p, "m": m / one, "v": v / two}
        P = d["p"].shape[-1]
        return {name: np.where(inside(ranges_of(P), P), array, d[name]) for name, array in found.items()}

    return Call("optimizer_step", run, oracle)


def take_rows():
    def run(backend, memory):
        x = memory.input("x")
        index = backend.asarray(np.arange(x.shape[-2])[::-2].copy())
        out = memory.out(*x.shape[:-2], index.shape[0], x.shape[-1])
        return {"rows": backend.take_rows(x, index, out=out)}

    return Call("take_rows", run, lambda d: {"rows": d["x"][..., ::-1, :][..., ::2, :]})


def grid_fourier_features(start, stop, width, height):
    # Pixels of a grid, from the middle of a row to the middle of another.
    position = (np.arange(max(width, height)) + 0.5)[:, None] / max(width, height)
    B = np.array([[3.0, -1.0], [0.25, 7.0], [-2.0, 0.5]])

    def table(memory, count, axis):
        phase = 2 * np.pi * position[:count] * B[:, axis]
        features = np.concatenate([np.cos(phase), np.sin(phase)], axis=-1)
        return memory.backend.asarray(features.astype(memory.data["x"].dtype))

    def run(backend, memory):
        x_table, y_table = table(memory, width, 0), table(memory, height, 1)
        out = memory.out(stop - start, 2 * len(B))
        rows = slice(start, stop)
        return {"features": backend.grid_fourier_features(x_table, y_table, rows, out=out)}

    def oracle(d):
        row, column = np.divmod(np.arange(start, stop), width)
        v = np.concatenate([position[column], position[row]], axis=-1)
        phase = 2 * np.pi * v @ B.T
        return {"features": np.concatenate([np.cos(phase), np.sin(phase)], axis=-1)}

    return Call("grid_fourier_features", run, oracle)


FLAGS = (False, True)
CALLS = (
    {f"matmul-{'NT'[a]}{'NT'[b]}": matmul(a, b) for a in FLAGS for b in FLAGS}
    | {f"linear-{name}": linear(name) for name in ACTIVATIONS}
    | {f"derivative-{name}": activation_backward(name) for name in ACTIVATIONS}
    | {f"backward-{name}": linear_backward(name) for name in ACTIVATIONS}
    | {
        "backward-accumulate": linear_backward("tanh", accumulate=True),
        "backward-first": linear_backward(),
        "backward-first-accumulate": linear_backward(accumulate=True),
        "fourier": fourier_features(),
        "take-rows": take_rows(),
        "grid-part": grid_fourier_features(5, 17, width=7, height=3),
        "grid-whole": grid_fourier_features(0, 12, width=3, height=4),
    }
    | {f"loss-{name}{'-weighted' * w}": loss_and_gradient(name, w) for name in LOSSES for w in FLAGS}
    | {
        "sgd": sgd_step(),
        "sgd-by-member": sgd_step(by_member=True),
        "sgd-momentum": sgd_step(momentum=0.8),
        "sgd-nesterov": sgd_step(momentum=0.8, nesterov=True, by_member=True),
        "adam-first": adam_step(1),
        "adam-later": adam_step(9),
        "adam-by-member": adam_step(3, by_member=True),
        "adam-of-three-workers": adam_step(5, by_member=True, workers=3),
        "adam-on-ranges": adam_step(5, ranges_of=two_ranges),
        "adam-on-ranges-of-two-workers": adam_step(5, by_member=True, workers=2, ranges_of=two_ranges),
        "sgd-of-two-workers": sgd_step(momentum=0.8, workers=2),
    }
)
SHARED_BY_MEMBERS = ("take_rows", "grid_fourier_features")
OF_PRIMITIVES = {
    call.primitive: {name: other for name, other in CALLS.items() if other.primitive == call.primitive}
    for call in CALLS.values()
}
BY_MEMBER = {name: variants for name, variants in OF_PRIMITIVES.items() if name not in SHARED_BY_MEMBERS}

every_primitive = pytest.mark.parametrize("variants", OF_PRIMITIVES.values(), ids=OF_PRIMITIVES)
every_primitive_by_member = pytest.mark.parametrize("variants", BY_MEMBER.values(), ids=BY_MEMBER)
in_float32 = pytest.mark.parametrize("dtype", ["float32"])


def in_float64(data):
    return {name: array.astype(np.float64) for name, array in data.items()}


def on_host(backend, results):
    return {name: backend.to_numpy(array).copy() for name, array in results.items()}


def assert_same(actual, expected, compare):
    assert actual.keys() == expected.keys()
    for name in expected:
        compare(actual[name], expected[name])


# -- the calls against the oracle ------------------------------------------------------------------------


@every_primitive
def test_calls_give_what_the_formulas_give(backend, dtype, check, variants):
    for (name, call), sizes in itertools.product(variants.items(), TYPICAL + EDGES):
        memory = Memory(backend, problem(sizes, dtype))
        with told_by(f"{name}, {sizes}"):
            assert_same(call.run(backend, memory), call.oracle(in_float64(memory.data)), check.close)
            memory.assert_inputs_unchanged()


@every_primitive
def test_calls_take_any_memory_and_any_offer(backend, check, dtype, variants):
    for (name, call), layout, offers in itertools.product(variants.items(), LAYOUTS, FLAGS):
        memory = Memory(backend, problem(SHARED, dtype), LAYOUTS[layout], offers)
        with told_by(f"{name}, {layout} memory, {'with' if offers else 'without'} out"):
            assert_same(call.run(backend, memory), call.oracle(in_float64(memory.data)), check.close)
            memory.assert_inputs_unchanged()


@on("numba", "cupy-on-host")
@every_primitive
@in_float32
def test_calls_repeat_bit_by_bit(backend, dtype, check, variants):
    for name, call in variants.items():
        first, second = (call.run(backend, Memory(backend, problem(OWN, dtype))) for _ in range(2))
        with told_by(name):
            assert_same(second, on_host(backend, first), check.equal)


@on("numba", "cupy-on-host")
@every_primitive_by_member
@in_float32
def test_members_know_neither_their_place_nor_their_company(backend, dtype, check, variants):
    for (name, call), sizes in itertools.product(variants.items(), (SHARED, OWN)):
        data, order = problem(sizes, dtype), [2, 0, 1]
        straight = on_host(backend, call.run(backend, Memory(backend, data)))
        permuted = call.run(backend, Memory(backend, rows_of_members(sizes, data, order)))
        alone = call.run(backend, Memory(backend, rows_of_members(sizes, data, 1)))
        with told_by(f"{name}, {sizes}"):
            assert_same(permuted, {name: array[order] for name, array in straight.items()}, check.close)
            assert_same(alone, {name: array[1] for name, array in straight.items()}, check.close)


@on("numba", "cupy-on-host")
@every_primitive_by_member
def test_a_changed_member_leaves_the_others_as_they_were(backend, variants):
    for (variant, call), sizes in itertools.product(variants.items(), (SHARED, OWN)):
        data, others = problem(sizes, "float32"), problem(sizes, "float32", seed=1)
        changed = {name: array.copy() for name, array in data.items()}
        for name in data:
            if not is_shared(sizes, name):
                changed[name][1] = others[name][1]
        before = on_host(backend, call.run(backend, Memory(backend, data)))
        after = on_host(backend, call.run(backend, Memory(backend, changed)))
        for name in before:
            case = f"{name} of {variant}, {sizes}"
            np.testing.assert_array_equal(after[name][[0, 2]], before[name][[0, 2]], err_msg=case)
            assert np.any(after[name][1] != before[name][1]), f"{case} does not feel the change at all"


def test_large_phases_keep_their_digits(backend, check):
    """A thousand more whole turns change no digit in float32."""
    v = np.array([[0.25], [0.5], [0.75]], np.float32)
    B = np.array([[4096.0 + 1.0], [4096.0 * 4 + 3.0]], np.float32)
    features = backend.to_numpy(backend.fourier_features(backend.asarray(v), backend.asarray(B)))
    quarter_turns = np.array([[1, 3], [2, 2], [3, 1]]) * np.pi / 2
    expected = np.concatenate([np.cos(quarter_turns), np.sin(quarter_turns)], axis=-1)
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_relu_hands_nan_on(backend, dtype):
    """Divergence must show, so no activation may turn NaN into 0."""
    if backend.name == "cupy" and backend.fused != "never" and backend.gpu.has_cublaslt:
        pytest.skip("cublasLt's ReLU turns NaN into 0: the loss tells (tests/backends/test_cupy_fused.py)")
    x, b = backend.asarray(np.full((1, 1), np.nan, dtype)), backend.zeros((1, 1), dtype)
    y, _ = backend.linear(x, backend.asarray(np.ones((1, 1), dtype)), b, ReLU())
    assert np.isnan(backend.to_numpy(y)).all()


def test_optimizers_take_long_buffers_with_tails(backend, dtype, check):
    data = problem(Sizes((2,), P=40_001), dtype)
    for call in (CALLS["adam-by-member"], CALLS["sgd-nesterov"]):
        actual = call.run(backend, Memory(backend, data))
        assert_same(actual, call.oracle(in_float64(data)), check.close)


# -- transfer --------------------------------------------------------------------------------------------


@pytest.mark.gpu_smoke
def test_arrays_travel_and_come_back(backend, dtype, check):
    host = np.arange(6, dtype=dtype).reshape(2, 3)
    there = backend.asarray(host)
    check.equal(there, host)
    back = backend.to_numpy(there)
    assert isinstance(back, np.ndarray)
    assert back.dtype == host.dtype
    check.equal(backend.asarray(there), host)
    check.equal(backend.asarray(host.astype(np.float64), dtype), host)
    check.equal(backend.asarray(host[:, ::2]), host[:, ::2])
    check.equal(backend.zeros((2, 0, 3), dtype), np.zeros((2, 0, 3), dtype))
    backend.synchronize()


@in_float32
def test_scratch_is_a_buffer_of_the_backend_or_nothing(backend, dtype, check):
    buffer = backend.scratch((3, 2), dtype)
    if buffer is not None:
        check.like(buffer, (3, 2))


def test_describe_and_memory_are_plain_data(backend):
    description = backend.describe()
    assert description["backend"] == backend.name
    assert description["device"] == backend.device
    assert all(isinstance(value, str | int | None) for value in description.values())
    assert backend.memory_in_use() is None or backend.memory_in_use() >= 0


def names_asked_of_xp(path):
    """Return NAME of every `xp.NAME` and `something.xp.NAME` in a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value
            if getattr(owner, "id", getattr(owner, "attr", None)) == "xp":
                yield node.attr


@pytest.mark.parametrize("library", ["numpy", "array_api_strict", "cupy"])
def test_every_function_of_the_generic_code_exists_in_the_library(library):
    xp = pytest.importorskip(library)
    modules = [*Path(base.__file__).parent.glob("*.py"), *Path(coordfit.__file__).parent.rglob("*.py")]
    names = set(itertools.chain.from_iterable(map(names_asked_of_xp, modules)))
    assert {"matmul", "tanh", "concat"} <= names
    assert not [name for name in sorted(names) if not name.startswith("_") and not hasattr(xp, name)]


@in_float32
def test_views_write_through_to_the_flat_buffer(backend, dtype, check):
    layout = ParameterLayout((2, 70, 3))
    # 2 x 70 = 140 numbers, a gap up to 192, 70 biases, and so on: every array starts at a multiple of 64.
    runs = [(1, 140), (0, 52), (2, 70), (0, 58), (11, 210), (0, 46), (12, 3), (0, 61)]
    expected = np.concatenate([np.full(length, value, dtype) for value, length in runs])
    for E in ((), (3,)):
        flat = backend.zeros((*E, layout.size), dtype)
        for k, (W, b) in enumerate(layout.views(backend.xp, flat)):
            W[...] = 10.0 * k + 1.0
            b += 10.0 * k + 2.0
        check.equal(flat, np.broadcast_to(expected, (*E, layout.size)))


# -- row blocks and workers ------------------------------------------------------------------------------


@functools.cache
def numpy_with(threads):
    return NumpyBackend(threads=threads)


def assert_every_member_sees_every_row(partitions, num_rows, num_members):
    seen = np.zeros((num_members, num_rows), int)
    for partition in partitions:
        for group, block in itertools.product(partition.groups, partition.blocks):
            seen[slice(None) if group is None else group, block] += 1
    assert (seen == 1).all()


@given(
    num_rows=st.integers(1, 5000),
    num_members=st.integers(1, 40),
    threads=st.integers(1, 9),
    row_bytes=st.integers(0, 1 << 22),
    row_flops=st.integers(0, 1 << 26),
)
def test_shares_hold_every_row_of_every_member_once(num_rows, num_members, threads, row_bytes, row_flops):
    partitions = numpy_with(threads).partition(num_rows, num_members, row_bytes, row_flops)
    assert 1 <= len(partitions) <= threads
    assert len({partition.members is None for partition in partitions}) == 1, (
        "either rows are dealt out or members"
    )
    assert_every_member_sees_every_row(partitions, num_rows, num_members)


def test_shares_hold_every_row_on_every_backend(backend):
    for num_rows, num_members in itertools.product([1, 2, 7, 64, 1000, 16384], [1, 3]):
        partitions = backend.partition(num_rows, num_members, 4096, 1_000_000)
        assert len(partitions) <= getattr(backend, "threads", 1)
        assert_every_member_sees_every_row(partitions, num_rows, num_members)


def test_work_is_dealt_to_all_threads_only_where_it_pays():
    four = numpy_with(4)
    assert len(four.partition(16_384, 1, 4096, 1_000_000)) == 4
    assert len(four.partition(16, 1, 4096, 1000)) == 1


def test_members_are_dealt_out_where_there_are_enough():
    four = numpy_with(4)
    assert [s.members for s in four.partition(1024, 8, 4096, 1_000_000)] == [
        slice(k, k + 2) for k in (0, 2, 4, 6)
    ]
    assert {s.members for s in four.partition(1024, 3, 4096, 1_000_000)} == {None}


class NewThreads:
    """Return the threads that were started since and are still alive."""

    def __init__(self):
        self.before = set(threading.enumerate())

    def alive(self):
        return set(threading.enumerate()) - self.before


def test_workers_run_all_tasks_and_go_home(idle_backend):
    for count in (1, 2, 3, 7):
        done, threads = [], NewThreads()
        with idle_backend.activate():
            for _ in range(2):
                idle_backend.run_workers([functools.partial(done.append, i) for i in range(count)])
        assert sorted(done) == sorted([*range(count), *range(count)])
        assert not threads.alive()


def test_workers_run_side_by_side():
    together = threading.Barrier(2, timeout=10)
    two = NumpyBackend(threads=2)
    with two.activate():
        two.run_workers([together.wait, together.wait])


@on("numpy-2-threads", "numba-2-threads", "strict")
@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_an_error_in_a_worker_comes_out_once_all_have_ended(idle_backend, culprit):
    ended, threads = [], NewThreads()

    def task(i):
        if i == culprit:
            raise ZeroDivisionError(i)
        time.sleep(0.01)
        ended.append(i)

    with idle_backend.activate():
        with pytest.raises(ZeroDivisionError):
            idle_backend.run_workers([functools.partial(task, i) for i in range(3)])
        started = len(ended)
        time.sleep(0.03)
        assert len(ended) == started, "a task was still running when the error came out"
    assert not threads.alive()


@pytest.mark.skipif(os.name == "nt", reason="timers of POSIX")
@pytest.mark.parametrize("here", [0.0, 0.2], ids=["while it waits", "while it works"])
def test_ctrl_c_comes_out_once_all_workers_have_ended_and_spoils_no_later_run(here):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    def work(seconds, i):
        time.sleep(seconds)
        ended.append(i)

    two, ended = NumpyBackend(threads=2), []
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with two.activate():
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                two.run_workers([functools.partial(work, here, 0), functools.partial(work, 0.2, 1)])
            assert 1 in ended, "a worker was still running when the error came out"
            for _ in range(20):
                ended.clear()
                two.run_workers([functools.partial(work, 0.0, 0), functools.partial(work, 0.001, 1)])
                assert sorted(ended) == [0, 1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_activate_may_be_nested_and_left_by_an_error(idle_backend):
    threads, nothing = NewThreads(), [lambda: None] * 3
    with contextlib.suppress(KeyError), idle_backend.activate():
        with idle_backend.activate():
            idle_backend.run_workers(nothing)
        idle_backend.run_workers(nothing)
        raise KeyError
    assert not threads.alive()


def test_routes_are_counted_exactly_over_threads():
    backend, one = NumpyBackend(threads=4), np.ones((1, 1))
    with backend.activate():
        backend.run_workers([lambda: [backend.matmul(one, one) for _ in range(500)]] * 4)
    assert backend.routes() == {"matmul": {"fused": 2000}}


@pytest.mark.gpu_smoke
def test_capture_repeats_the_step(backend, dtype, check):
    p, g = backend.zeros((4,), dtype), backend.asarray(np.ones(4, dtype))
    step = backend.capture(lambda: backend.optimizer_step(SGD(), p, [g], [], step=1, learning_rate=0.5))
    before = backend.to_numpy(p).copy()
    step()
    step()
    check.close(p, before - np.ones(4))


# -- fused bodies and routes -----------------------------------------------------------------------------


def twin(backend, mode):
    """Return another backend of the same class and device, in another mode."""
    names = set(inspect.signature(type(backend)).parameters) - {"fused", "context"}
    return type(backend)(fused=mode, **{name: getattr(backend, name) for name in names})


def has_fused_body(backend, call):
    return call.primitive in fused_bodies_of(type(backend))


@pytest.mark.gpu_smoke
@every_primitive
def test_fused_equals_generic_and_was_taken_or_is_refused(backend, dtype, check, variants):
    always, never = twin(backend, "always"), twin(backend, "never")
    for (name, call), sizes in itertools.product(variants.items(), TYPICAL):
        data = problem(sizes, dtype)
        reference = on_host(never, call.run(never, Memory(never, data)))
        with told_by(f"{name}, {sizes}"):
            if has_fused_body(backend, call):
                assert_same(call.run(always, Memory(always, data, offers=True)), reference, check.close)
            else:
                with pytest.raises(
                    FusedUnavailableError, match=rf"{call.primitive} on the .* has no fused body"
                ):
                    call.run(always, Memory(always, data))
    count = len(TYPICAL) * len(variants)
    assert always.routes() == ({call.primitive: {"fused": count}} if has_fused_body(backend, call) else {})
    assert never.routes()[call.primitive] == {"generic": count}
    assert all("fused" not in counts for counts in never.routes().values())


def test_auto_takes_what_there_is(idle_backend):
    """`auto` takes the fused body if there is one, else the generic one."""
    for name, call in CALLS.items():
        auto = twin(idle_backend, "auto")
        with auto.activate():
            call.run(auto, Memory(auto, problem(ONE, "float32")))
        route = "fused" if has_fused_body(auto, call) else "generic"
        assert auto.routes()[call.primitive] == {route: 1}, name


@dataclass(frozen=True)
class Odd:
    """An activation, a loss and a rule in one, with a function that formulas may not call."""

    saves_input = False
    state = ()

    def forward(self, xp, z):
        return xp.isfinite(z) * z

    def backward(self, xp, dy, saved):
        return dy

    def value(self, xp, residual):
        return xp.isfinite(residual) * residual

    def gradient(self, xp, residual):
        return residual

    def update(self, xp, parameter, gradient, state, step, learning_rate):
        return xp.isfinite(gradient) * parameter, ()


def calls_of_odd_formulas(backend):
    x = backend.asarray(np.ones((2, 2)))
    return {
        "linear": lambda: backend.linear(x, x, x[:1, :], Odd()),
        "loss_and_gradient": lambda: backend.loss_and_gradient(Odd(), x, x + x, divisor=1),
        "optimizer_step": lambda: backend.optimizer_step(Odd(), x, [x], [], step=1, learning_rate=0.1),
    }


@on("numpy", "numba", "cupy-on-host")
@pytest.mark.parametrize("name", ["linear", "loss_and_gradient", "optimizer_step"])
def test_a_formula_that_cannot_be_lowered_is_refused_by_its_name(backend, name):
    for mode in ("auto", "always"):
        with pytest.raises(FormulaError, match=r"^Odd calls xp.isfinite; a formula may call abs, exp, "):
            calls_of_odd_formulas(twin(backend, mode))[name]()


def test_known_formulas_may_be_given_by_name():
    always, one = NumpyBackend(fused="always"), np.ones((1, 1))
    y, _ = always.linear(x=one, W=one, b=one, activation=Sine(1.0))
    assert y[0, 0] == pytest.approx(np.sin(2.0))


def test_the_dispatcher_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="fused must be one of auto, always, never"):
        NumpyBackend(fused="sometimes")

    def no_such_primitive(context, call): ...

    class Stray(Backend):
        fused_bodies = (fused(no_such_primitive)(lambda context, call: None),)

    with pytest.raises(TypeError, match="no_such_primitive"):
        Stray()


def test_a_subclass_may_replace_a_primitive_and_a_fused_body():
    class Louder(NumpyBackend):
        @primitive(calls.Matmul)
        def matmul(self, call):
            return "generic"

        fused_bodies = (*NumpyBackend.fused_bodies, fused(matmul)(lambda host, call: "fused"))

    assert Louder().matmul(1, 2) == "fused"
    assert Louder(fused="never").matmul(1, 2) == "generic"


# -- a whole network -------------------------------------------------------------------------------------

# Widths that go up and down, so that no buffer of one layer fits the next.
WIDTHS = (6, 16, 4, 12, 12, 3)
RATES = (0.01, 0.02, 0.005)


@functools.cache
def network_problem(dtype, N=23):
    """Return flat parameters of three members, and shared features and targets."""
    rng = np.random.default_rng(5)
    flat = np.zeros((3, ParameterLayout(WIDTHS).size))
    for W, b in ParameterLayout(WIDTHS).views(np, flat):
        W[...] = rng.normal(0, W.shape[-2] ** -0.5, W.shape)
        b[...] = rng.normal(0, 0.1, b.shape)
    x, target = rng.normal(size=(N, WIDTHS[0])), rng.uniform(size=(N, WIDTHS[-1]))
    return flat.astype(dtype), x.astype(dtype), target.astype(dtype)


def train_by_hand(member, activation, steps, dtype="float64"):
    """Return five steps of Adam on one network in float64, by the formulas above alone."""
    flat, x, target = (array.astype(float) for array in network_problem(dtype))
    layers = [[W.copy(), b.copy()] for W, b in ParameterLayout(WIDTHS).views(np, flat[member])]
    state = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer] for layer in layers]
    names = [activation] * (len(layers) - 1) + ["sigmoid"]
    values = []
    for step in range(1, steps + 1):
        inputs, zs = [x], []
        for name, (W, b) in zip(names, layers, strict=True):
            zs.append(inputs[-1] @ W + b)
            inputs.append(ACTIVATIONS[name][0](zs[-1]))
        residual = inputs[-1] - target
        values.append(np.mean(LOSSES["mse"][0](residual)))
        dy = LOSSES["mse"][1](residual) / residual.size
        for i in reversed(range(len(layers))):
            dz = dy * ACTIVATIONS[names[i]][1](zs[i])
            dy = dz @ layers[i][0].T
            for j, g in enumerate([inputs[i].T @ dz, dz.sum(axis=0, keepdims=True)]):
                new = adam_by_the_book(layers[i][j], g, *state[i][j], step, RATES[member])
                layers[i][j], state[i][j] = new[0], new[1:]
    return np.concatenate([p.ravel() for layer in layers for p in layer]), np.array(values)


def train_on(backend, dtype, members, activation, steps, blocks=1):
    """Return the same by the library's parts, for some members (a slice: together; an int: alone)."""
    flat, x, target = network_problem(dtype)
    N, rates = x.shape[0], np.array(RATES, dtype)[:, None]
    parameters = backend.asarray(flat[members].copy())
    x, target, rates = (backend.asarray(array.copy()) for array in (x, target, rates[members]))
    hidden, last = make_activation(activation, omega=OMEGA), make_activation("sigmoid")
    # Room for more rows than come: the buffers' first rows serve.
    net = MLP(backend, WIDTHS, parameters, hidden, last, rows=N + 5, dtype=dtype)
    adam = ElementwiseOptimizer(backend, parameters, Adam(**ADAM), dtype=dtype)
    edges = [N * k // blocks for k in range(blocks + 1)]
    values = []
    for _ in range(steps):
        value = 0.0
        for k, rows in enumerate(itertools.starmap(slice, itertools.pairwise(edges))):
            y = net.forward(x[rows, :])
            part, dy = backend.loss_and_gradient(
                make_loss("mse"), y, target[rows, :], divisor=N * WIDTHS[-1], out=None
            )
            net.backward(dy, accumulate=k > 0)
            value = value + part
        adam.step(parameters, [net.gradient], rates)
        values.append(backend.to_numpy(value).copy())
    views = [*itertools.chain(*net.layout.views(backend.xp, parameters))]
    shape = parameters.shape[:-1]
    numbers = [backend.to_numpy(view).reshape(*shape, -1) for view in views]
    return np.concatenate(numbers, axis=-1), np.stack(values)


# Five steps amplify what one step rounds.
NETWORK = {"float32": {"rtol": 1e-4, "atol": 1e-5}, "float64": {"rtol": 1e-11, "atol": 1e-12}}


@pytest.mark.gpu_smoke
@pytest.mark.parametrize(("activation", "blocks"), [("relu", 3), ("tanh", 1), ("sine", 3)])
def test_five_steps_of_three_networks_are_those_of_the_formulas(backend, dtype, activation, blocks):
    parameters, values = train_on(backend, dtype, slice(None), activation, 5, blocks)
    for member in range(3):
        expected, losses = train_by_hand(member, activation, 5, dtype)
        np.testing.assert_allclose(parameters[member], expected, **NETWORK[dtype])
        np.testing.assert_allclose(values[:, member], losses, **NETWORK[dtype])
    assert np.all(values[-1] < values[0])


@pytest.mark.gpu_smoke
@in_float32
def test_three_networks_together_are_three_alone(backend, dtype):
    together, values = train_on(backend, dtype, slice(None), "tanh", 5)
    for member in range(3):
        alone, losses = train_on(backend, dtype, member, "tanh", 5)
        np.testing.assert_allclose(alone, together[member], **NETWORK[dtype])
        np.testing.assert_allclose(losses, values[:, member], **NETWORK[dtype])
