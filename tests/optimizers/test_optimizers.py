"""Optimizers against the recurrences that PyTorch documents, written out number by number; and schedules."""

import itertools
import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.backend_matrix import on

from coordfit.fit_options import OptimizerName, ScheduleName
from coordfit.optimizers import make
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.optimizers.schedules import schedule_factor
from coordfit.optimizers.sgd import SGD

STEPS = 25


def test_the_classes_of_all_files_are_what_can_be_chosen():
    assert set(make.OPTIMIZERS) == set(get_args(OptimizerName))


def sgd_as_documented(p, gradients, rates, *, momentum, nesterov):
    """torch.optim.SGD with dampening 0 and no weight decay, for one parameter."""
    buffer = None
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        if momentum != 0:
            buffer = g if t == 1 else momentum * buffer + g
            g = g + momentum * buffer if nesterov else buffer
        p = p - rate * g
    return p


def adam_as_documented(p, gradients, rates, *, beta1, beta2, epsilon):
    """torch.optim.Adam without weight decay and amsgrad, for one parameter."""
    m = v = 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p = p - rate * m_hat / (math.sqrt(v_hat) + epsilon)
    return p


OPTIMIZERS = {
    "sgd": (SGD, sgd_as_documented, {"momentum": 0.0, "nesterov": False}),
    "momentum": (SGD, sgd_as_documented, {"momentum": 0.9, "nesterov": False}),
    "nesterov": (SGD, sgd_as_documented, {"momentum": 0.7, "nesterov": True}),
    "adam": (Adam, adam_as_documented, {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}),
    "adam, other settings": (Adam, adam_as_documented, {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-2}),
    "adam, no momentum": (Adam, adam_as_documented, {"beta1": 0.0, "beta2": 0.99, "epsilon": 1e-8}),
}


every_optimizer = pytest.mark.parametrize(
    ("maker", "documented", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS
)


def run(backend, maker, options, start, gradients, rates):
    """The parameters on the host after a step with each gradient and learning rate."""
    parameters = backend.asarray(start.copy(), "float64")
    optimizer = ElementwiseOptimizer(backend, parameters, maker(**options), dtype="float64")
    for gradient, rate in zip(gradients, rates, strict=True):
        rate = backend.asarray(rate, "float64") if isinstance(rate, np.ndarray) else rate
        optimizer.step(parameters, [backend.asarray(gradient.copy(), "float64")], rate)
    assert optimizer.steps == len(gradients)
    assert all(array.shape == start.shape for array in optimizer.state.values())
    return np.array(backend.to_numpy(parameters))


def random_run(shape, steps=STEPS, seed=0):
    """Start, gradients of very different sizes (some of them zero), and falling learning rates."""
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(steps, *shape)) * 10.0 ** rng.integers(-6, 3, shape)
    gradients[rng.random(gradients.shape) < 0.1] = 0.0
    return rng.normal(size=shape), gradients, np.geomspace(0.1, 0.01, steps)


def test_steps_are_those_that_torch_documents(backend):
    for name, (maker, documented, options) in OPTIMIZERS.items():
        start, gradients, rates = random_run((7,))
        end = run(backend, maker, options, start, gradients, rates.tolist())
        expected = [documented(start[i], gradients[:, i], rates, **options) for i in range(7)]
        np.testing.assert_allclose(end, expected, rtol=1e-12, err_msg=name)
        assert np.all(np.abs(end - start) > 0)


@on("numba", "strict")
@every_optimizer
def test_every_member_may_have_its_own_learning_rate(backend, maker, documented, options):
    start, gradients, rates = random_run((3, 5))
    factors = np.array([[1.0], [0.1], [0.0]])
    end = run(backend, maker, options, start, gradients, [rate * factors for rate in rates])
    for k in range(3):
        expected = [
            documented(start[k, i], gradients[:, k, i], rates * factors[k, 0], **options) for i in range(5)
        ]
        np.testing.assert_allclose(end[k], expected, rtol=1e-12)
    np.testing.assert_array_equal(end[2], start[2])


@on("numpy-2-threads", "numba-2-threads", "cupy-on-host")
def test_members_of_long_buffers_have_their_own_learning_rates(backend):
    start, gradients, rates = random_run((3, 100_001), steps=2)
    rates = [rate * np.array([[1.0], [0.1], [0.0]]) for rate in rates]
    end = run(backend, Adam, {}, start, gradients, rates)
    for piece in (slice(0, 9), slice(99_992, 100_001)):
        short = run(backend, Adam, {}, start[:, piece], gradients[..., piece], rates)
        np.testing.assert_allclose(end[:, piece], short, rtol=1e-13)


@on("numpy-2-threads", "numba-2-threads", "cupy-on-host")
@every_optimizer
def test_long_buffers_take_the_same_steps_as_short_ones(backend, maker, documented, options):
    start, gradients, rates = random_run((40_001,), steps=4)
    end = run(backend, maker, options, start, gradients, rates.tolist())
    for piece in (slice(0, 50), slice(16_370, 16_400), slice(39_990, 40_001)):
        short = run(backend, maker, options, start[piece], gradients[:, piece], rates.tolist())
        np.testing.assert_allclose(end[piece], short, rtol=1e-13)


@on("numba", "cupy-on-host")
@every_optimizer
def test_an_optimizer_goes_on_from_its_state(backend, maker, documented, options):
    start, gradients, rates = random_run((6,))
    parameters = backend.asarray(start.copy(), "float64")
    first = ElementwiseOptimizer(backend, parameters, maker(**options), dtype="float64")
    for g, rate in zip(gradients[:10], rates, strict=False):
        first.step(parameters, [backend.asarray(g)], float(rate))
    second = ElementwiseOptimizer(backend, parameters, maker(**options), dtype="float64")
    second.steps = first.steps
    for name, array in second.state.items():
        array[...] = first.state[name]
    for g, rate in zip(gradients[10:], rates[10:], strict=True):
        second.step(parameters, [backend.asarray(g)], float(rate))
    unbroken = run(backend, maker, options, start, gradients, rates.tolist())
    np.testing.assert_array_equal(backend.to_numpy(parameters), unbroken)


@on("numba", "strict")
def test_the_first_step_of_adam_has_the_length_of_the_learning_rate(backend):
    options = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    gradients = np.array([[1e-3, -1.0, 5e4]])
    end = run(backend, Adam, options, np.zeros(3), gradients, [0.01])
    np.testing.assert_allclose(end, [-0.01, 0.01, -0.01], rtol=1e-4)


@on("numpy")
def test_plain_descent_keeps_no_state(backend):
    parameters = backend.zeros((3,), "float64")
    assert ElementwiseOptimizer(backend, parameters, SGD(), dtype="float64").state == {}


# --- schedules ----------------------------------------------------------------------------------------------

schedules = st.sampled_from(get_args(ScheduleName))
budgets = st.integers(1, 5000)
fractions = st.floats(0.0, 1.0)


@given(schedules, budgets, st.integers(0, 6000), fractions)
def test_factors_rise_in_warm_up_and_never_after(schedule, steps, warmup, final):
    options = {"warmup_steps": warmup, "final_factor": final}
    grid = sorted({0, 1, 2, warmup - 1, warmup, warmup + 1, steps // 2, steps - 1, steps, 2 * steps} - {-1})
    factors = [schedule_factor(schedule, t, steps, **options) for t in grid]
    assert all(0.0 <= factor <= 1.0 for factor in factors)
    rising = [factor for t, factor in zip(grid, factors, strict=True) if t < warmup]
    falling = [factor for t, factor in zip(grid, factors, strict=True) if t >= warmup]
    assert all(a < b for a, b in itertools.pairwise(rising))
    assert all(a >= b - 1e-15 for a, b in itertools.pairwise(falling))


@given(schedules, budgets, st.integers(0, 100), fractions)
def test_factors_start_at_one_and_end_at_their_end(schedule, steps, warmup, final):
    assume(warmup < steps)
    options = {"warmup_steps": warmup, "final_factor": final}
    assert schedule_factor(schedule, warmup, steps, **options) == pytest.approx(1.0)
    end = {"constant": 1.0, "exponential": max(final, 1e-4)}.get(schedule, final)
    for t in (steps, steps + 1, 10 * steps):
        assert schedule_factor(schedule, t, steps, **options) == pytest.approx(end, abs=1e-15)


@given(schedules, budgets, st.integers(1, 1000), fractions)
def test_warm_up_is_a_straight_line(schedule, steps, warmup, final):
    factors = [
        schedule_factor(schedule, t, steps, warmup_steps=warmup, final_factor=final) for t in range(warmup)
    ]
    assert factors == pytest.approx([(t + 1) / (warmup + 1) for t in range(warmup)])


def test_the_cosine_is_half_way_in_the_middle():
    assert schedule_factor("cosine", 50, 100, final_factor=0.2) == pytest.approx(0.6)
    assert schedule_factor("cosine", 25, 100) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert schedule_factor("cosine", 60, 110, warmup_steps=10) == pytest.approx(0.5)


@given(st.integers(3, 1000), fractions)
def test_the_straight_line_falls_by_the_same_amount_at_every_step(steps, final):
    factors = [schedule_factor("linear", t, steps, final_factor=final) for t in (0, 1, 2, 3)]
    differences = [a - b for a, b in itertools.pairwise(factors)]
    assert differences == pytest.approx([(1.0 - final) / steps] * 3, abs=1e-12)


@given(st.integers(3, 1000), st.floats(1e-4, 1.0))
def test_the_exponential_falls_by_the_same_ratio_at_every_step(steps, final):
    factors = [schedule_factor("exponential", t, steps, final_factor=final) for t in (0, 1, 2, 3)]
    ratios = [b / a for a, b in itertools.pairwise(factors)]
    assert ratios == pytest.approx([final ** (1 / steps)] * 3)
