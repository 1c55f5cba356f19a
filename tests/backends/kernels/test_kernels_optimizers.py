"""Optimizer steps over several steps, against the generic bodies of the backend in float64."""

import numpy as np
import pytest
from coordfit.backends.lowering.cuda_text import cuda_rule
from coordfit.backends.numpy_backend.backend import NumpyBackend
from simt import DTYPES, assert_close, decode, encode
from support.cases import over

from coordfit.optimizers.adam import Adam
from coordfit.optimizers.sgd import SGD

NUMPY = NumpyBackend(fused="never", threads=1)
TYPES = [("float", "float"), ("float", "bf16"), ("float", "half"), ("double", "double")]
ADAM = Adam()
SIZES = [1, 31, 257]


def buffers(memory, rng, types, K, count, gap):
    """Return parameters and three gradients of K members with gaps, and the 16-bit copy or None."""
    dtype = DTYPES[types[0]]
    parameters = rng.standard_normal((K, count + gap)).astype(dtype)
    gradients = rng.standard_normal((3, K, count + gap)).astype(dtype)
    has_copy = types[0] != types[1]
    compute_copy = memory.room(parameters.shape, DTYPES[types[1]]) if has_copy else None
    return parameters, gradients, compute_copy


def check(found, expected, start, compute_copy, types, count):
    assert_close(found[:, :count], expected[:, :count], types[0])
    np.testing.assert_array_equal(found[:, count:], start[:, count:])  # the gap is nobody's
    if compute_copy is not None:
        np.testing.assert_array_equal(
            decode(compute_copy[:, :count], types[1]), decode(encode(found[:, :count], types[1]), types[1])
        )


@pytest.mark.parametrize("types", TYPES, ids=" and ".join)
@over("count", SIZES)
@over("K", [1, 3])
@over("loss_scale", [1.0, 1024.0])
def test_adam(launch, memory, rng, types, count, K, loss_scale):
    gap = 5
    start, gradients, compute_copy = buffers(memory, rng, types, K, count, gap)
    rates = np.array([0.1, 0.01, 0.0])[:K]  # a member at rate 0 stands still
    put, m, v = memory.put(start), memory.put(0 * start), memory.put(0 * start)
    step, put_rates = memory.put(np.array([0])), memory.put(rates)
    expected = [array.astype(float) for array in (start, 0 * start, 0 * start)]
    for t, gradient in enumerate(gradients, 1):
        launch("advance", (), (1, 1), step)
        launch(
            "optimizer_step", types, (2, K), put, memory.put(gradient * loss_scale), m, v, None, None,
            compute_copy, count + gap, count, None, 0, step, put_rates, 1, cuda_rule(ADAM), loss_scale,
            block=32,
        )  # fmt: skip
        p, *moments = expected
        NUMPY.optimizer_step(ADAM, p, [gradient.astype(float)], moments, step=t, learning_rate=rates[:, None])
    assert step[0] == 3
    check(put, expected[0], start, compute_copy, types, count)
    for found, moment in zip((m, v), expected[1:], strict=True):
        assert_close(found[:, :count], moment[:, :count], types[0])


@over("ranges", [[(3, 40)], [(0, 1), (7, 7), (30, 95)], [(0, 31), (31, 64), (90, 100)]])
def test_only_ranges_are_updated(launch, memory, rng, ranges):
    K, stride, rate = 2, 100, np.array([0.3])
    p, g = (rng.standard_normal((K, stride)) for _ in range(2))
    put, table = memory.put(p), memory.put(np.array(ranges))
    count = sum(stop - start for start, stop in ranges)
    launch(
        "optimizer_step", ("double", "double"), (2, K), put, memory.put(g), None, None, None, None, None,
        stride, count, table, len(ranges), memory.put(np.array([1])), memory.put(rate), 0, cuda_rule(SGD()),
        1.0, block=32,
    )  # fmt: skip
    inside = np.zeros(stride, bool)
    for start, stop in ranges:
        inside[start:stop] = True
    np.testing.assert_allclose(put, np.where(inside, p - 0.3 * g, p), rtol=1e-15)


@pytest.mark.parametrize("types", [("float", "float"), ("double", "double")], ids=" and ".join)
def test_adam_late_in_a_run(launch, memory, rng, types):
    """The bias correction of float32 would be off by 1e-4 at step 1; at a late one it is 1."""
    for t in (1, 2, 1000, 3_000_000):
        p, m = (rng.standard_normal(33).astype(DTYPES[types[0]]) for _ in range(2))
        v, g = np.abs(m), np.full_like(m, 0.5)
        put = [memory.put(array) for array in (p, g, m, v)]
        launch(
            "optimizer_step", types, (1, 1), *put, None, None, None, 0, 33, None, 0, memory.put(np.array([t])),
            memory.put(np.array([0.01])), 0, cuda_rule(ADAM), 1.0, block=32,
        )  # fmt: skip
        p, m, v, g = (array.astype(float) for array in (p, m, v, g))
        NUMPY.optimizer_step(ADAM, p, [g], [m, v], step=t, learning_rate=0.01)
        assert_close(put[0], p, types[0])


@pytest.mark.parametrize("types", TYPES, ids=" and ".join)
@over("count", SIZES)
@over("momentum", [0.0, 0.9])
@over("nesterov", [False, True])
def test_sgd(launch, memory, rng, types, count, momentum, nesterov):
    K, gap, loss_scale = 3, 5, 64.0
    start, gradients, compute_copy = buffers(memory, rng, types, K, count, gap)
    rule = SGD(momentum, nesterov)
    put, velocity = memory.put(start), memory.put(0 * start) if momentum else None
    rate = memory.put(np.array([0.3]))  # one for all members
    expected = start.astype(float)
    expected_velocity = 0 * expected
    state = [expected_velocity] if momentum else []
    for gradient in gradients:
        launch(
            "optimizer_step", types, (2, K), put, memory.put(gradient * loss_scale), velocity, None, None, None,
            compute_copy, count + gap, count, None, 0, memory.put(np.array([1])), rate, 0, cuda_rule(rule),
            loss_scale, block=32,
        )  # fmt: skip
        NUMPY.optimizer_step(rule, expected, [gradient.astype(float)], state, step=1, learning_rate=0.3)
    check(put, expected, start, compute_copy, types, count)
    if velocity is not None:
        assert_close(velocity[:, :count], expected_velocity[:, :count], types[0])


def test_a_nan_gradient_reaches_its_own_parameter_alone(launch, memory):
    p, m, v = memory.put(np.ones(4, np.float32)), *(memory.put(np.zeros(4, np.float32)) for _ in range(2))
    g = memory.put(np.array([1, np.nan, 1, 1], np.float32))
    step, rate = memory.put(np.array([1])), memory.put(np.array([0.5]))
    launch(
        "optimizer_step", ("float", "float"), (1, 1), p, g, m, v, None, None, None, 0, 4, None, 0, step, rate,
        0, cuda_rule(ADAM), 1.0, block=32,
    )  # fmt: skip
    np.testing.assert_allclose(p, [0.5, np.nan, 0.5, 0.5])
