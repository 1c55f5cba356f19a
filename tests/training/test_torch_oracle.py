"""Training steps against PyTorch: the same gradients at the start, the same losses for 100 steps."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support import needs
from support.backend_matrix import on

from coordfit.encoders.fourier import FourierEncoder
from coordfit.network.activations import Sigmoid, make_activation
from coordfit.network.losses import make_loss
from coordfit.network.mlp import MLP
from coordfit.network.parameters import ParameterLayout
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.optimizers.sgd import SGD
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.training.step import TrainingStep

SCRIPT = Path(__file__).parents[1] / "support" / "torch_trajectory.py"


def imported(path):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = imported(SCRIPT)


@pytest.fixture(scope="module")
def stored():
    return json.loads(oracle.FILE.read_text(encoding="utf-8"))["cases"]


def step_of(backend, case):
    """The case's `TrainingStep`, its network at the oracle's weights."""
    layout = ParameterLayout(oracle.SIZES)
    flat = np.zeros(layout.size)
    for (W, b), (W_start, b_start) in zip(layout.views(np, flat), oracle.initial_weights(), strict=True):
        W[...], b[...] = W_start, b_start
    parameters = backend.asarray(flat, "float64")
    mlp = MLP(
        backend,
        oracle.SIZES,
        parameters,
        make_activation(case.get("activation", "relu"), omega=oracle.OMEGA),
        Sigmoid(),
        rows=oracle.BATCH,
        dtype="float64",
    )
    if case["optimizer"] == "adam":
        optimizer = ElementwiseOptimizer(backend, parameters, Adam(), dtype="float64")
    else:
        optimizer = ElementwiseOptimizer(
            backend, parameters, SGD(momentum=case["momentum"], nesterov=True), dtype="float64"
        )
    coordinates, target, weights = (backend.asarray(array, "float64") for array in oracle.pixels())
    return TrainingStep(
        backend,
        FourierEncoder(backend, backend.asarray(oracle.frequencies(), "float64")),
        mlp,
        make_loss(case["loss"], delta=oracle.DELTA),
        optimizer,
        TrainingPixels(backend, coordinates, target, weights if case.get("weighted") else None),
        oracle.BATCH,
    )


@on("numpy", "numba", "numba-without-blas", "strict", "cupy-on-host", "torch")
@pytest.mark.parametrize("name", oracle.CASES)
def test_gradients_and_losses_are_torch_s(backend, stored, name):
    case, expected = oracle.CASES[name], stored[name]
    step = step_of(backend, case)
    losses = []
    for t in range(oracle.STEPS):
        value = step(backend.asarray(oracle.batch(t)), case["learning_rate"])
        losses.append(float(backend.to_numpy(value)))
        if t == 0:
            tensors = ParameterLayout(oracle.SIZES).to_tensors(backend.to_numpy(step.gradient))
            for tensor, wanted in zip(tensors.values(), expected["gradient"], strict=True):
                found = oracle.sampled(tensor)
                assert found["norm"] == pytest.approx(wanted["norm"], rel=1e-12)
                size = {"rtol": 1e-9, "atol": 1e-12 * wanted["norm"]}
                np.testing.assert_allclose(found["elements"], wanted["elements"], **size)
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-9)


def test_the_cases_are_no_trifles(stored):
    """Figures that could not tell right from wrong would be agreed on by anybody."""
    assert stored.keys() == oracle.CASES.keys()
    for case in stored.values():
        assert len(case["losses"]) == oracle.STEPS
        assert np.mean(case["losses"][-8:]) < 0.7 * np.mean(case["losses"][:8])
        assert all(gradient["norm"] > 1e-4 for gradient in case["gradient"])
    _, _, weights = oracle.pixels()
    assert weights.mean() == pytest.approx(1.0)
    assert np.sort(np.concatenate([oracle.batch(t) for t in range(8)])).tolist() == list(range(256))
    assert oracle.FILE.stat().st_size < 60_000


def test_the_script_needs_torch_to_run_alone():
    assert "torch" not in vars(oracle)


def test_torch_still_says_so(stored):
    needs.library("torch")
    for name, found in oracle.all_trajectories().items():
        np.testing.assert_allclose(found["losses"], stored[name]["losses"], rtol=1e-10)
        for gradient, wanted in zip(found["gradient"], stored[name]["gradient"], strict=True):
            assert gradient["norm"] == pytest.approx(wanted["norm"], rel=1e-12)
    assert "torch" in sys.modules
