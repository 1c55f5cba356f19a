"""Derivatives of fitted functions, against JAX where it is installed, and against finite differences."""

import dataclasses
import importlib.util
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import needs
from support.jax_derivatives import CASES, ENCODINGS, SHAPES, model_of, points_of

import coordfit
from coordfit.encoders.interpolation import CUBIC, LINEAR
from coordfit.encoders.jets import Jet
from coordfit.signals.facts import Frame

ROOT = Path(coordfit.__file__).parents[1]


# -- against JAX, in a process of its own, as JAX's threads stand in the way of a fork -------------------------


@pytest.fixture(scope="module")
def differences_from_jax():
    """The largest relative differences of gradient, hessian and laplacian, by case."""
    if importlib.util.find_spec("jax") is None:
        needs.skip("jax", "JAX is not installed")
    script = [sys.executable, "-m", "support.jax_derivatives"]
    done = subprocess.run(script, cwd=ROOT / "tests", capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_are_those_of_jax(differences_from_jax, case):
    assert max(differences_from_jax[str(case)].values()) < 1e-6


# -- against finite differences ----------------------------------------------------------------------------


def differences(function, points, h):
    """First derivatives (..., C, D) by central differences of fourth order."""
    columns = []
    for k in range(points.shape[-1]):
        e = h * np.eye(points.shape[-1])[k]
        near, far = (function(points + s * e) - function(points - s * e) for s in (1, 2))
        columns.append((8.0 * near - far) / (12.0 * h))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize(("dimensions", "encoding"), [*itertools.product(SHAPES, ENCODINGS)])
def test_derivatives_are_differences(dimensions, encoding):
    model = model_of(dimensions, encoding=encoding, activation="tanh")
    points = np.random.default_rng(6).uniform(0.0, 0.9, (30, dimensions))
    points = np.round(points * 8.0) / 8.0 + 0.03  # within a cell, since a grid has kinks between cells
    first, second = differences(model, points, 1e-4), differences(model.gradient, points, 1e-4)
    np.testing.assert_allclose(model.gradient(points), first, rtol=1e-5, atol=1e-8 * np.abs(first).max())
    np.testing.assert_allclose(model.hessian(points), second, rtol=1e-4, atol=1e-7 * np.abs(second).max())


@pytest.mark.parametrize("dimensions", SHAPES)
def test_tiles_are_differentiated_through_their_blend(dimensions):
    shape = {1: (60,), 2: (21, 26), 3: (14, 15, 16)}[dimensions]
    values = np.random.default_rng(0).random((*shape, 2))
    options = {"tiles": 8, "steps": 5, "activation": "tanh", "hidden_size": 8, "dtype": "float64"}
    model = coordfit.fit_array(values, "zyx"[-dimensions:], **options).model
    points = np.random.default_rng(4).uniform(1.0, np.array(shape)[::-1] - 2.0, (60, dimensions))
    expected = differences(model, points, 1e-4)
    np.testing.assert_allclose(model.gradient(points), expected, rtol=1e-5, atol=1e-8 * np.abs(expected).max())
    expected = differences(model.gradient, points, 1e-4)
    np.testing.assert_allclose(model.hessian(points), expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    laplacian = np.trace(model.hessian(points), axis1=-2, axis2=-1)
    np.testing.assert_allclose(model.laplacian(points), laplacian, rtol=1e-9, atol=1e-9)


def test_units_are_those_of_the_points_or_samples():
    frame = Frame(("y", "x"), (3.0, -1.0), (0.5, 2.0), (10.0, 0.0), (30.0, 1.0))
    model = model_of(frame=frame, activation="tanh")
    points = np.random.default_rng(5).uniform(0.0, 6.0, (20, 2))
    expected = differences(model, points, 1e-3)
    np.testing.assert_allclose(model.gradient(points), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        model.gradient(points, per="sample"), expected * [2.0, 0.5], rtol=1e-6, atol=1e-8
    )
    second = differences(model.gradient, points, 1e-3)
    np.testing.assert_allclose(model.hessian(points), second, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="unit or sample, not 'pixel'"):
        model.gradient(points, per="pixel")


def test_drawn_derivatives_are_those_at_the_centres_of_pixels():
    model = model_of(channels=3, activation="sine")
    centres = model.picture.grid.resized(18, 26).coordinates(np.arange(18 * 26)).reshape(18, 26, 2)
    gradient = model.gradient(centres, per="sample")
    np.testing.assert_allclose(model.render_derivative("x", (18, 26)), gradient[..., 0])
    np.testing.assert_allclose(model.render_derivative("y", (18, 26)), gradient[..., 1])
    norm = np.linalg.norm(gradient, axis=-1)
    np.testing.assert_allclose(model.render_derivative("gradient-norm", (18, 26)), norm)
    window = model.render_derivative("laplacian", (18, 26), crop=(4, 5, 7, 6))
    np.testing.assert_allclose(window, model.laplacian(centres, per="sample")[5:11, 4:11])
    with pytest.raises(ValueError, match="one of x, y, gradient-norm, laplacian, not 'z'"):
        model.render_derivative("z")


def test_a_float32_model_is_differentiated_in_float64():
    exact, single = (model_of(activation="tanh", dtype=dtype) for dtype in ("float64", "float32"))
    points = points_of(2)
    np.testing.assert_allclose(single.hessian(points), exact.hessian(points), rtol=1e-3, atol=1e-4)
    assert single.gradient(points).dtype == np.float64


def test_an_activation_from_outside_needs_its_curvature_for_second_derivatives_alone():
    @dataclasses.dataclass(frozen=True)
    class Square:
        saves_input = True

        def forward(self, xp, z):
            return z * z

        def backward(self, xp, dy, saved):
            return 2.0 * dy * saved

    model, points = model_of(activation=Square()), points_of(2)
    np.testing.assert_allclose(model.gradient(points), differences(model, points, 1e-4), rtol=1e-5, atol=1e-7)
    with pytest.raises(coordfit.ConfigError, match="give it a method `curvature"):
        model.laplacian(points)


@pytest.mark.parametrize("kernel", [LINEAR, CUBIC], ids=["linear", "cubic"])
def test_slopes_of_kernels_are_their_derivatives(kernel):
    places, h = np.linspace(0.01, 3.99, 50)[:, None], 1e-4
    jets = kernel.jets_along(np, Jet.of_points(np, places, [(0, 0)]), 5)
    near = [[w for _, w in kernel.along(np, places + s * h, 5)] for s in (-1, 0, 1)]
    for (_, jet), before, here, after in zip(jets, *near, strict=True):
        np.testing.assert_allclose(jet.first[0], (after - before) / (2 * h), atol=1e-6)
        np.testing.assert_allclose(jet.second[0, 0], (after - 2 * here + before) / h**2, atol=1e-6)
    jets = kernel.jets_along(np, Jet.of_points(np, np.array([[-3.0], [7.0]])), 5)
    assert all((jet.first[0] == 0.0).all() for _, jet in jets), "beyond the ends nothing changes"


@pytest.mark.very_slow
def test_a_picture_comes_back_from_its_gradients(capsys):
    """The example of docs/how_to/sounds_and_volumes.md, as it stands."""
    page = ROOT / "docs" / "how_to" / "sounds_and_volumes.md"
    *_, program = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    exec(program, {"__name__": "example"})
    told = re.fullmatch(r"(\d+) dB from gradients alone\n", capsys.readouterr().out)
    assert told is not None
    assert float(told[1]) > 60.0
