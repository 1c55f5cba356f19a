"""The last layer in closed form: against lstsq, with weights and masks, for K as alone, and never worse."""

import dataclasses

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support.backend_matrix import on

import coordfit
from coordfit import ConfigError
from coordfit.config import make_config
from coordfit.encoders.fourier import FourierEncoder
from coordfit.images import bundled_picture, load_picture
from coordfit.network.activations import make_activation
from coordfit.network.mlp import MLP
from coordfit.network.parameters import ParameterLayout
from coordfit.optimizers import last_layer
from coordfit.optimizers.last_layer import least_squares, solve_last_layer
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.training.job import Job
from coordfit.training.trainer import fit_alone, fit_together

SIZES, ROWS = (8, 6, 3), 90


def network(backend, *, output="identity", members=None, seed=0, dtype="float64"):
    """A network (or K), coordinates and targets; the same member whether alone or among others."""
    flats = []
    for k in range(members or 1):
        rng = np.random.default_rng([seed, k])
        flat = np.zeros(ParameterLayout(SIZES).size)
        for W, b in ParameterLayout(SIZES).views(np, flat):
            W[...], b[...] = rng.normal(0.0, 0.5, W.shape), rng.normal(0.0, 0.3, b.shape)
        flats.append(flat)
    flat = np.stack(flats) if members else flats[0]
    f, g = make_activation("tanh"), make_activation(output)
    mlp = MLP(backend, SIZES, backend.asarray(flat, dtype), f, g, rows=1, dtype=dtype)
    rng = np.random.default_rng(9)
    B = rng.normal(0.0, 2.0, (4, 2))
    encoder = FourierEncoder(backend, backend.asarray(B, dtype))
    coordinates, target = rng.uniform(size=(ROWS, 2)), rng.uniform(0.2, 0.8, (ROWS, 3))
    return mlp, encoder, coordinates, target


def pixels_of(backend, coordinates, target, weights=None, dtype="float64"):
    arrays = (None if a is None else backend.asarray(a, dtype) for a in (coordinates, target, weights))
    return TrainingPixels(backend, *arrays)


def hidden(mlp, encoder, coordinates, dtype="float64"):
    """[H, 1] on the host."""
    backend = mlp.backend
    copy = mlp.replica(ROWS)
    copy.forward(encoder(backend.asarray(coordinates, dtype)))
    H = np.array(backend.to_numpy(copy.layers[-1].x))
    return np.concatenate([H, np.ones((*H.shape[:-1], 1))], axis=-1)


def solution(mlp):
    layer, to_numpy = mlp.layers[-1], mlp.backend.to_numpy
    return np.concatenate([to_numpy(layer.W), to_numpy(layer.b)], axis=-2)


def test_it_is_the_least_squares_solution(backend, monkeypatch):
    monkeypatch.setattr(last_layer, "_BLOCK_ROWS", 32)  # sums over three blocks
    mlp, encoder, coordinates, target = network(backend)
    weights = np.random.default_rng(1).uniform(0.0, 2.0, (ROWS, 1))
    H = hidden(mlp, encoder, coordinates)
    root = np.sqrt(weights)
    expected = np.linalg.lstsq(root * H, root * target, rcond=None)[0]
    before, after = solve_last_layer(mlp, encoder, pixels_of(backend, coordinates, target, weights), 1e-13)
    np.testing.assert_allclose(solution(mlp), expected, atol=1e-6)
    assert float(after) == pytest.approx(np.mean(weights * (H @ expected - target) ** 2), rel=1e-6)
    assert float(after) < float(before)


def test_members_are_solved_as_alone(backend):
    members = 3
    mlp, encoder, coordinates, target = network(backend, output="sigmoid", members=members)
    chosen = np.stack([np.arange(k, 80 + k) for k in range(members)])
    pixels = pixels_of(backend, coordinates, target)
    solve_last_layer(mlp, encoder, pixels, 1e-6, chosen=backend.asarray(chosen))
    for k in range(members):
        alone, *_ = network(backend, output="sigmoid", members=members)
        one = MLP(
            backend,
            SIZES,
            alone.parameters[k, ...] + 0.0,
            alone.activation,
            alone.output_activation,
            rows=1,
            dtype="float64",
        )
        solve_last_layer(one, encoder, pixels_of(backend, coordinates[chosen[k]], target[chosen[k]]), 1e-6)
        np.testing.assert_allclose(solution(mlp)[k], solution(one), rtol=1e-6, atol=1e-9)


def test_a_sigmoid_output_comes_to_where_the_gradient_is_nothing():
    backend = NumpyBackend(threads=1)
    mlp, encoder, coordinates, target = network(backend, output="sigmoid")
    with backend.activate():
        for _ in range(3):
            solve_last_layer(mlp, encoder, pixels_of(backend, coordinates, target), 1e-12)
    H = hidden(mlp, encoder, coordinates)
    y = 1.0 / (1.0 + np.exp(-H @ solution(mlp)))
    assert np.abs(H.T @ ((y - target) * y * (1 - y))).max() < 1e-3


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("output", ["identity", "sigmoid"])
def test_it_is_never_worse(output, scale):
    """Large weights saturate a sigmoid, where the linear model promises what is not there."""
    ridge, backend = 1e-9, NumpyBackend(threads=1)
    for seed in range(5):
        mlp, encoder, coordinates, target = network(backend, output=output, seed=seed)
        mlp.layers[-1].W[...] *= scale
        target = np.random.default_rng(seed).choice([0.0, 1.0], target.shape)  # clipping matters
        pixels = pixels_of(backend, coordinates, target)

        def errors(mlp=mlp, encoder=encoder, coordinates=coordinates, target=target):
            y = np.array(mlp.replica(ROWS).forward(encoder(coordinates)))
            return np.mean((y - target) ** 2), np.mean((np.clip(y, 0, 1) - target) ** 2)

        for _ in range(2):
            before = errors()
            solve_last_layer(mlp, encoder, pixels, ridge)
            assert all(now <= then for now, then in zip(errors(), before, strict=True))


@pytest.mark.parametrize("error", ["plain", "clipped"])
def test_a_solution_that_raises_one_of_the_errors_is_refused(monkeypatch, error):
    backend, linearise, found = NumpyBackend(threads=1), last_layer._Problem.linearise, []
    mlp, encoder, coordinates, target = network(backend)

    def raised(problem):
        systems, errors = linearise(problem)
        found.append(errors)
        return systems, dataclasses.replace(errors, **{error: (1 + len(found)) * getattr(found[0], error)})

    monkeypatch.setattr(last_layer._Problem, "linearise", raised)
    start = mlp.parameters.copy()
    with backend.activate():
        solve_last_layer(mlp, encoder, pixels_of(backend, coordinates, target))
    assert found[1].plain < found[0].plain
    np.testing.assert_array_equal(mlp.parameters, start)


def test_predictions_that_clipping_makes_right_are_left():
    backend = NumpyBackend(threads=1)
    mlp, encoder, coordinates, _ = network(backend)
    mlp.layers[-1].W[...] *= 50.0
    prediction = np.array(mlp.replica(ROWS).forward(encoder(coordinates)))
    target = np.clip(prediction, 0.0, 1.0)
    saved = mlp.parameters.copy()
    with backend.activate():
        solve_last_layer(mlp, encoder, pixels_of(backend, coordinates, target))
    np.testing.assert_array_equal(mlp.parameters, saved)


def test_a_network_that_is_not_finite_stays_as_it_is():
    backend = NumpyBackend(threads=1)
    mlp, encoder, coordinates, target = network(backend, members=2)
    mlp.parameters[0, :5] = np.nan
    saved = mlp.parameters[0].copy()
    with backend.activate():
        before, after = solve_last_layer(mlp, encoder, pixels_of(backend, coordinates, target))
    np.testing.assert_array_equal(mlp.parameters[0], saved)
    assert after[1] < before[1]


# -- a run -----------------------------------------------------------------------------------------------

RUN = {
    "num_frequencies": 8,
    "sigma": 3.0,
    "hidden_size": 16,
    "depth": 3,
    "batch_size": 128,
    "steps": 30,
    "polish": "ridge",
}


def test_a_run_is_polished_and_its_state_is_not():
    """So a run that goes on equals an unbroken one."""
    picture = load_picture(bundled_picture(32).pixels)
    plain, polished = (
        fit_alone(Job(picture, make_config(RUN | {"polish": p})), NumpyBackend(threads=1))
        for p in ("none", "ridge")
    )
    np.testing.assert_array_equal(plain.state.parameters, polished.state.parameters)
    assert polished.metrics["psnr_train"] > plain.metrics["psnr_train"]
    assert polished.metrics["loss"] == pytest.approx(polished.metrics["polish"]["mse"], rel=1e-4)
    assert "polish" not in plain.metrics
    np.testing.assert_array_equal(polished.model.render(), polished.reconstruction)


def test_members_of_an_ensemble_are_polished_as_alone():
    pixels = bundled_picture(32).pixels
    known = np.ones(pixels.shape[:2], bool)
    known[8:24, 8:24] = False
    backend, picture = NumpyBackend(threads=1), load_picture(pixels)
    jobs = [Job(picture, make_config(RUN | {"seed": seed}), known) for seed in (1, 0)]
    for job, result in zip(jobs, fit_together(jobs, backend), strict=True):
        alone = fit_alone(Job(picture, job.config, known), backend)
        assert result.metrics["polish"]["mse"] == pytest.approx(alone.metrics["polish"]["mse"], rel=1e-3)
        assert result.metrics["polish"]["mse_before"] > result.metrics["polish"]["mse"]


def test_other_losses_are_refused():
    with pytest.raises(ConfigError, match="polish ridge minimises squared errors alone"):
        coordfit.fit(bundled_picture(32).pixels, polish="ridge", loss="huber")


@on("numba", "strict", "cupy-on-host")
@pytest.mark.parametrize(("shared", "weighted"), [(True, False), (False, True), (True, True)])
def test_small_problems_are_solved_at_once(backend, shared, weighted):
    rng, ridge = np.random.default_rng(3), 1e-3
    hidden, target = rng.random((50, 6) if shared else (4, 50, 6)), rng.random((4, 50, 3))
    weights = rng.uniform(0.1, 2.0, (4, 50, 1)) if weighted else np.ones((4, 50, 1))
    given = [backend.asarray(array, "float64") for array in (hidden, target, weights)]
    solved = least_squares(backend, *given[:2], ridge, given[2] if weighted else None)
    W, b = (backend.to_numpy(array) for array in solved)
    for k in range(4):
        H = np.concatenate([hidden if shared else hidden[k], np.ones((50, 1))], axis=-1)
        roots = np.sqrt(weights[k])
        # The ridge is the same as more rows of an ordinary problem.
        previous = np.sqrt(ridge * np.trace((roots * H).T @ (roots * H)) / 7) * np.eye(7)
        rows, values = (
            np.concatenate([roots * H, previous]),
            np.concatenate([roots * target[k], np.zeros((7, 3))]),
        )
        expected = np.linalg.lstsq(rows, values, rcond=None)[0]
        np.testing.assert_allclose(np.concatenate([W[k], b[k]]), expected, atol=1e-9)
