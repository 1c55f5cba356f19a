"""The gradient check passes on the code as it is, covers all of it, and catches planted errors."""

import itertools

import numpy as np
import pytest
from coordfit.backends.dispatch import fused, fused_bodies_of
from coordfit.backends.numpy_backend.backend import NumpyBackend
from coordfit.backends.primitives import Primitives
from support.cases import very_slow

import coordfit
from coordfit import gradcheck
from coordfit.backends import get_backend
from coordfit.config import FitConfig
from coordfit.gradcheck import TOLERANCE, check_gradients, iterate_checks, relative_error
from coordfit.network import activations, losses


def choices(name):
    return FitConfig.__dataclass_fields__[name].metadata["choices"]


@pytest.fixture(scope="module", params=["never", *very_slow("auto")])
def table(request):
    return check_gradients("cpu", fused=request.param)


def test_every_gradient_is_right(table):
    assert [case for case in table if not case.passed] == []
    assert max(case.error for case in table) <= TOLERANCE


def test_everything_that_can_be_chosen_is_checked(table):
    wanted = itertools.product(
        ("element", "direction"),
        choices("loss"),
        choices("activation"),
        choices("encoding"),
        (None, 3),
    )
    cases = [(case.method, case.loss, case.activation, case.encoding, case.members) for case in table]
    assert sorted(cases, key=str) == sorted(wanted, key=str)


def test_element_by_element_means_all_parameters(table):
    # Features and nodes: m is 2, and the grid has 2x3 and 3x4 nodes. The pyramid has
    # 2x2 cells of 2 numbers and 3x4 of 1. There are 5 hidden units and 3 channels.
    sizes = {"none": (2, 0), "basic": (4, 0), "positional": (4, 0), "gaussian": (4, 0), "grid": (2, 18)}
    sizes["pyramid"] = (3, 20)
    for case in table:
        if case.method == "element" and case.encoding in sizes:
            features, nodes = sizes[case.encoding]
            assert case.checked == (features * 5 + 5 + 5 * 3 + 3 + nodes) * (case.members or 1)


def test_another_seed_is_another_check():
    def errors(seed):
        return [case.error for case in itertools.islice(iterate_checks(NumpyBackend(), seed=seed), 5)]

    assert errors(0) == errors(0)
    assert errors(0) != errors(1)


def some_cases(monkeypatch, fused, **only):
    """The cases of the table with only some losses and activations."""
    for name, values in only.items():
        monkeypatch.setattr(gradcheck, name, values)
    return check_gradients("cpu", fused=fused)


@pytest.mark.parametrize(
    "activation", [activations.ReLU, activations.Tanh, activations.Sigmoid, activations.Sine]
)
def test_a_wrong_derivative_of_an_activation_is_found(monkeypatch, activation):
    right = activation.backward
    monkeypatch.setattr(activation, "backward", lambda self, xp, dy, saved: right(self, xp, dy, saved) * 1.001)
    cases = some_cases(monkeypatch, "never", LOSSES=("mse",), ENCODINGS=("none", "gaussian"))
    for case in cases:
        assert case.passed == (case.activation != activation.name), case


@pytest.mark.parametrize("loss", [losses.MSE, losses.MAE, losses.Huber])
def test_a_wrong_gradient_of_a_loss_is_found(monkeypatch, loss):
    right = loss.gradient
    monkeypatch.setattr(loss, "gradient", lambda self, xp, residual: right(self, xp, residual) * 0.999)
    cases = some_cases(monkeypatch, "never", ACTIVATIONS=("tanh",), ENCODINGS=("none", "basic"))
    for case in cases:
        assert case.passed == (case.loss != loss.name), case


def planted_in_fused(monkeypatch, plant):
    """The table with `plant(dW, db, dx)` applied after the fused backward of the CPU's backend."""
    backend_class = type(get_backend("cpu"))
    right = fused_bodies_of(backend_class)["linear_backward"]

    @fused(Primitives.linear_backward)
    def wrong(context, call):
        return plant(call.dW, call.db, right(context, call))

    monkeypatch.setattr(backend_class, "fused_bodies", (*backend_class.fused_bodies, wrong))
    return some_cases(
        monkeypatch, "always", LOSSES=("mse",), ACTIVATIONS=("tanh", "sine"), ENCODINGS=("gaussian",)
    )


def wrong_weights(dW, db, dx):
    dW *= 1.001
    return dx


def wrong_biases(dW, db, dx):
    db[..., 0] *= 1.001
    return dx


def wrong_input(dW, db, dx):
    return None if dx is None else dx * 1.001


@pytest.mark.parametrize("plant", [wrong_weights, wrong_biases, wrong_input])
def test_an_error_in_the_fused_backward_is_found(monkeypatch, plant):
    cases = planted_in_fused(monkeypatch, plant)
    assert len(cases) == 8
    assert not any(case.passed for case in cases if case.method == "element")
    if plant is not wrong_biases:  # one direction sees little of a single bias
        assert not any(case.passed for case in cases)


def test_the_plant_itself_does_no_harm(monkeypatch):
    assert all(case.passed for case in planted_in_fused(monkeypatch, lambda dW, db, dx: dx))


def test_a_gradient_that_is_not_a_number_does_not_pass():
    nan = np.array([1.0, np.nan])
    case = gradcheck.GradientCheck("element", "mse", "relu", "none", None, 2, relative_error(nan, np.ones(2)))
    assert not case.passed


def test_the_check_is_part_of_the_package():
    assert coordfit.check_gradients is check_gradients
    assert tuple(gradcheck.ENCODINGS) == choices("encoding")
