"""Gauss-Newton: its products against finite differences, its steps, and runs with it."""

import itertools

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support.backend_matrix import on

import coordfit
from coordfit import ConfigError
from coordfit.config import make_config
from coordfit.encoders.identity import IdentityEncoder
from coordfit.images import bundled_picture, load_picture
from coordfit.network.activations import make_activation
from coordfit.network.mlp import MLP
from coordfit.network.parameters import ParameterLayout
from coordfit.optimizers.gauss_newton import MOST_ROWS, Damping, GaussNewtonStep, check_rows
from coordfit.optimizers.tangent_kernel import (
    CholeskySolver,
    Jacobian,
    Preconditioner,
    conjugate_gradients,
    principal_colours,
)
from coordfit.pixels.step_inputs import StepInputs
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer, fit_alone, fit_together

SIZES, ROWS = (4, 6, 5, 3), 7
LAYOUT = ParameterLayout(SIZES)


def network(backend, activation="tanh", output="sigmoid", seed=0, sizes=SIZES):
    rng, layout = np.random.default_rng(seed), ParameterLayout(sizes)
    flat = np.zeros(layout.size)
    for W, b in layout.views(np, flat):
        W[...], b[...] = rng.normal(0.0, 0.6, W.shape), rng.normal(0.0, 0.6, b.shape)
    return MLP(
        backend,
        sizes,
        backend.asarray(flat, "float64"),
        make_activation(activation, omega=1.5),
        make_activation(output, omega=1.5),
        rows=ROWS,
        dtype="float64",
    )


def numeric_jacobian(mlp, x):
    """(N, C, P) by central differences of the outputs."""
    backend, start = mlp.backend, mlp.backend.to_numpy(mlp.parameters).copy()
    columns = []
    for i in range(start.size):
        ends = []
        for step in (1e-5, -1e-5):
            moved = start.copy()
            moved[i] += step
            mlp.parameters[...] = backend.asarray(moved, "float64")
            ends.append(np.array(backend.to_numpy(mlp.forward(x))))
        columns.append((ends[0] - ends[1]) / 2e-5)
    mlp.parameters[...] = backend.asarray(start, "float64")
    J = np.stack(columns, axis=-1)
    used = np.zeros(LAYOUT.size)
    for W, b in LAYOUT.views(np, used):
        W[...], b[...] = 1, 1
    return J * used  # a gap of the buffer reaches no output


CASES = [("tanh", "identity"), ("sine", "sigmoid"), ("relu", "identity"), ("sigmoid", "tanh")]


@on("numba", "strict", "cupy-on-host")
@pytest.mark.parametrize(("activation", "output"), CASES)
def test_products_and_kernels_are_those_of_the_numeric_jacobian(backend, activation, output):
    mlp, rng = network(backend, activation, output), np.random.default_rng(1)
    x = backend.asarray(rng.normal(size=(ROWS, 4)), "float64")
    scale = rng.uniform(0.5, 2.0, (ROWS, 1))
    J = numeric_jacobian(mlp, x) * scale[..., None]
    mlp.forward(x)
    jacobian = Jacobian(mlp, backend.asarray(scale, "float64"))
    v, u = rng.normal(size=LAYOUT.size), rng.normal(size=(ROWS, 3))

    def near(array, expected):
        np.testing.assert_allclose(backend.to_numpy(array), expected, rtol=0, atol=1e-7)

    near(jacobian.times(backend.asarray(v, "float64")), J @ v)
    near(jacobian.transposed_times(backend.asarray(u, "float64")), np.einsum("ncp,nc->p", J, u))
    colour = rng.normal(size=(1, 3))
    along = np.einsum("ncp,c->np", J, colour[0])
    found = jacobian.kernel(backend.asarray(colour, "float64"), jacobian.inner_products())
    near(found, along @ along.T)


@on("numba", "strict", "cupy-on-host")
def test_the_factor_in_panels_solves_the_system(backend):
    for n in (1, 40, 128, 300):
        rng = np.random.default_rng(n)
        A = rng.normal(size=(n, n))
        A, b = A @ A.T + np.eye(n), rng.normal(size=(n, 2))
        x = CholeskySolver(backend, backend.asarray(A, "float64"), n)(backend.asarray(b, "float64"))
        expected = np.linalg.solve(A + n * np.eye(n), b)
        np.testing.assert_allclose(backend.to_numpy(x), expected, rtol=1e-9, atol=1e-12)


def test_conjugate_gradients_tell_what_is_left():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 30))
    A, b = A @ A.T + np.eye(30), rng.normal(size=(30, 1))
    x, left = conjugate_gradients(np, lambda v: A @ v, lambda v: v / np.diag(A)[:, None], b)
    np.testing.assert_allclose(left, b - A @ x, atol=1e-10)
    assert np.linalg.norm(left) <= 0.03 * np.linalg.norm(b)


def test_the_preconditioner_is_exact_for_one_channel():
    backend, rng = NumpyBackend(threads=1), np.random.default_rng(5)
    mlp, x = network(backend, sizes=(4, 6, 1)), rng.normal(size=(ROWS, 4))
    with backend.activate():
        mlp.forward(x)
        jacobian = Jacobian(mlp)
        preconditioner = Preconditioner(jacobian, principal_colours(mlp))
        assert preconditioner.factor(0.1)
        v = rng.normal(size=(ROWS, 1))
        image = jacobian.times(jacobian.transposed_times(v)) + 0.1 * v
        np.testing.assert_allclose(preconditioner(image), v, atol=1e-8)


def test_in_principal_colours_the_channels_of_a_grey_picture_come_apart():
    """Equal weights for all channels: the blocks between other colours vanish, and one iteration is enough."""
    backend, rng = NumpyBackend(threads=1), np.random.default_rng(6)
    mlp, x = network(backend, output="identity"), rng.normal(size=(ROWS, 4))
    last = mlp.layers[-1]
    last.W[...] = last.W[:, :1]
    with backend.activate():
        mlp.forward(x)
        jacobian = Jacobian(mlp)
        preconditioner = Preconditioner(jacobian, principal_colours(mlp))
        assert preconditioner.factor(0.1)
        v = rng.normal(size=(ROWS, 3))
        image = jacobian.times(jacobian.transposed_times(v)) + 0.1 * v
        np.testing.assert_allclose(preconditioner(image), v, atol=1e-8)


def step_on(mlp, x, target, weights=None, damping=1e-3):
    backend = mlp.backend
    pixels = TrainingPixels(backend, x, target, weights)
    state = Damping(backend, mlp.parameters, dtype="float64", initial=damping)
    return GaussNewtonStep(
        backend, IdentityEncoder(backend), mlp, state, pixels, target.shape[-2], StepInputs(lambda step: (1.0,))
    )


def test_one_step_without_damping_solves_a_linear_network():
    """With one layer the least-squares solution is one step away: the oracle is lstsq."""
    backend, rng = NumpyBackend(threads=1), np.random.default_rng(2)
    x, target = rng.normal(size=(ROWS, 4)), rng.uniform(size=(ROWS, 3))
    mlp = network(backend, output="identity", sizes=(4, 3))
    with backend.activate():
        value = step_on(mlp, x, target, damping=1e-10)(None)
    A = np.c_[x, np.ones(ROWS)]
    best = np.linalg.lstsq(A, target, rcond=None)[0]
    assert value == pytest.approx(np.mean((A @ best - target) ** 2), rel=1e-3)


def test_a_weight_of_zero_hides_a_pixel():
    backend, rng = NumpyBackend(threads=1), np.random.default_rng(3)
    x, target = rng.normal(size=(ROWS, 4)), rng.uniform(size=(ROWS, 3))
    weights = np.ones((ROWS, 1))
    weights[2:4] = 0.0
    lies = target.copy()
    lies[2:4] = 1e3
    with backend.activate():
        a, b = (network(backend, output="identity", seed=5) for _ in range(2))
        start = a.parameters.copy()
        step_on(a, x, target, weights)(None)
        step_on(b, x, lies, weights)(None)
    np.testing.assert_array_equal(a.parameters, b.parameters)
    assert (a.parameters != start).any()


def test_no_step_raises_the_error_of_its_batch():
    backend, rng = NumpyBackend(threads=1), np.random.default_rng(4)
    x, target = rng.normal(size=(ROWS, 4)), rng.uniform(size=(ROWS, 3))
    with backend.activate():
        step = step_on(network(backend, "sine"), x, target, damping=1e-8)
        values = [step(None) for _ in range(12)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert values[-1] < 1e-2 * values[0]


@pytest.mark.parametrize("damping", [1e-3, 10.0])
def test_a_good_step_lowers_the_damping(damping):
    backend, rng = NumpyBackend(threads=1), np.random.default_rng(2)
    x, target = rng.normal(size=(ROWS, 4)), rng.uniform(size=(ROWS, 3))
    with backend.activate():
        step = step_on(network(backend, output="identity", sizes=(4, 3)), x, target, damping=damping)
        step.damping.steps = 1  # not from the last layer's solution
        step(None)
    assert step.damping.value == pytest.approx(0.2 * damping), "the linear model predicts all of the gain"


def test_a_step_that_never_helps_leaves_all_but_a_higher_damping(monkeypatch):
    backend, rng = NumpyBackend(threads=1), np.random.default_rng(4)
    x, target = rng.normal(size=(ROWS, 4)), rng.uniform(size=(ROWS, 3))
    monkeypatch.setattr("coordfit.optimizers.gauss_newton._Problem.squares_at", lambda self, mlp: np.inf)
    with backend.activate():
        step = step_on(network(backend, "sine"), x, target)
        step.damping.steps = 1
        before = step.mlp.parameters.copy()
        values = [step(None), step(None)]
    np.testing.assert_array_equal(step.mlp.parameters, before)
    assert values[0] == values[1]
    assert step.damping.value == 1e6  # 1e-3 is raised tenfold eight times, twice


# -- a run -----------------------------------------------------------------------------------------------

RUN = {
    "optimizer": "gauss-newton",
    "output_activation": "identity",
    "num_frequencies": 24,
    "sigma": 3.0,
    "hidden_size": 48,
    "depth": 2,
    "batch_size": None,
    "steps": 8,
    "evaluate_every": 2,
    "size": 16,
}


def test_a_small_picture_is_learned_to_sixty_decibels():
    result = coordfit.fit(bundled_picture(32).pixels, device="numpy", **RUN | {"steps": 12}, target_psnr=60)
    assert result.stopped == "target_psnr"
    assert result.metrics["psnr_train"] >= 60


@pytest.mark.parametrize("batch_size", [None, 64])
def test_a_run_that_goes_on_is_an_unbroken_one(batch_size):
    config = make_config(RUN | {"batch_size": batch_size})
    picture = load_picture(bundled_picture(32).pixels, size=16)

    def trainer(state=None):
        return Trainer([Job(picture, config)], NumpyBackend(threads=1), state)

    stopped = trainer()
    with stopped.backend.activate():
        for _ in range(3):
            stopped.take_steps(1)
        state = stopped.state()
    [resumed], [unbroken] = trainer(state).run(), trainer().run()
    for a, b in (
        (resumed.state.parameters, unbroken.state.parameters),
        (resumed.state.optimizer["damping"], unbroken.state.optimizer["damping"]),
    ):
        np.testing.assert_array_equal(a, b)


def test_masked_pixels_teach_nothing():
    pixels = np.array(load_picture(bundled_picture(32).pixels, size=16).pixels)
    known = np.ones(pixels.shape[:2], bool)
    known[4:8, 4:8] = False
    other = pixels.copy()
    other[~known] = 0.0
    config = make_config(RUN | {"steps": 3})
    a, b = (fit_alone(Job(load_picture(p), config, known), NumpyBackend(threads=1)) for p in (pixels, other))
    np.testing.assert_array_equal(a.state.parameters, b.state.parameters)


def test_members_of_a_batch_are_trained_as_alone():
    picture = load_picture(bundled_picture(32).pixels, size=16)
    backend = NumpyBackend(threads=1)
    jobs = [Job(picture, make_config(RUN | {"steps": 2, "seed": seed})) for seed in (0, 1)]
    for job, result in zip(jobs, fit_together(jobs, backend), strict=True):
        alone = fit_alone(Job(picture, job.config), backend)
        np.testing.assert_array_equal(result.state.parameters, alone.state.parameters)


def test_too_large_a_batch_is_refused_with_the_cost_and_the_cure():
    check_rows(MOST_ROWS, "float32")
    with pytest.raises(ConfigError, match=r"16384 x 16384 .*\(10\.0 GiB, 4,398 GFLOP .* --batch-size 4096"):
        check_rows(16_384, "float32")


def test_other_losses_are_refused():
    with pytest.raises(ConfigError, match="take it with loss mse, not mae"):
        coordfit.fit(bundled_picture(32).pixels, **RUN | {"loss": "mae"})
