"""The parts of a network against their definitions: layout, layers, encoders, weights, activations, losses."""

import itertools
import math

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from support.backend_matrix import on

from coordfit.backends import Partition
from coordfit.encoders.fourier import Basic, FourierEncoder, Gaussian, Positional
from coordfit.encoders.identity import IdentityEncoder
from coordfit.network.activations import Identity, ReLU, Sigmoid, Sine, Tanh, make_activation
from coordfit.network.initializers import INITIALIZERS, bias_for_mean
from coordfit.network.losses import MAE, MSE, Huber, make_loss
from coordfit.network.mlp import MLP, initial_parameters
from coordfit.network.parameters import ParameterLayout
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.training.step import TrainingStep

SIZES = (6, 5, 7, 3)
ENSEMBLES = [(), (3,)]
PLAIN = {
    "relu": lambda z: np.where(z > 0, z, 0.0),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1.0 / (1.0 + np.exp(-z)),
    "sine": lambda z: np.sin(3.0 * z),
    "identity": lambda z: z,
}
ACTIVATIONS = [Identity(), ReLU(), Tanh(), Sigmoid(), Sine(3.0)]
LOSSES = [MSE(), MAE(), Huber(0.1)]


def named(value):
    """A test's name for an activation, a loss or an ensemble."""
    return getattr(value, "name", str(value))


def random_flat(sizes, ensemble, seed=0):
    """A flat host buffer (*E, P) with random parameters and zeros between them."""
    rng = np.random.default_rng(seed)
    flat = np.zeros((*ensemble, ParameterLayout(sizes).size))
    for W, b in ParameterLayout(sizes).views(np, flat):
        W[...], b[...] = rng.normal(0.0, 0.5, W.shape), rng.normal(0.0, 0.5, b.shape)
    return flat


def in_use(layout):
    """Which places of the flat buffer hold parameters."""
    flat = np.zeros(layout.size)
    for W, b in layout.views(np, flat):
        W[...], b[...] = 1, 1
    return flat == 1


def network(backend, flat, *, sizes=SIZES, activation="tanh", output="identity", rows=11, dtype="float64"):
    return MLP(
        backend,
        sizes,
        backend.asarray(flat.copy(), dtype),
        make_activation(activation, omega=3.0),
        make_activation(output, omega=3.0),
        rows=rows,
        dtype=dtype,
    )


def backward_to_host(backend, mlp, x, dy, blocks, dtype):
    """The flat gradient on the host, the batch taken in these blocks of rows."""
    for i, rows in enumerate(blocks):
        mlp.forward(backend.asarray(x[..., rows, :], dtype))
        mlp.backward(backend.asarray(dy[..., rows, :].copy(), dtype), accumulate=i > 0)
    return backend.to_numpy(mlp.gradient)


# --- the flat buffer ----------------------------------------------------------------------------------------

layer_widths = st.lists(st.integers(1, 70), min_size=2, max_size=5)


@settings(max_examples=50, deadline=None)
@given(layer_widths, st.sampled_from([(), (1,), (3,)]))
def test_views_are_apart_aligned_and_write_through(sizes, ensemble):
    layout = ParameterLayout(sizes)
    flat = np.zeros((*ensemble, layout.size), np.float32)
    ends = []
    for k, view in enumerate(itertools.chain.from_iterable(layout.views(np, flat)), start=1):
        start = (view.__array_interface__["data"][0] - flat.__array_interface__["data"][0]) // flat.itemsize
        assert start % 64 == 0
        assert not view.any(), "two views share memory"
        view[...] = k
        ends.append(start + math.prod(view.shape[len(ensemble) :]))
    assert np.count_nonzero(flat) == layout.num_parameters * math.prod(ensemble)
    assert ends[-1] <= layout.size < ends[-1] + 64


@settings(max_examples=50, deadline=None)
@given(layer_widths)
def test_views_have_the_shapes_of_the_layers(sizes):
    layout = ParameterLayout(sizes)
    for (W, b), (n_in, n_out) in zip(
        layout.views(np, np.zeros((4, layout.size))), itertools.pairwise(sizes), strict=True
    ):
        assert W.shape == (4, n_in, n_out)
        assert b.shape == (4, 1, n_out)


def test_num_parameters_of_a_known_network():
    # 512-256-256-256-3, as counted by hand.
    assert ParameterLayout((512, 256, 256, 256, 3)).num_parameters == 131_328 + 2 * 65_792 + 771


@settings(max_examples=25, deadline=None)
@given(layer_widths, st.sampled_from(["float32", "float64"]))
def test_tensors_come_back_as_they_went(sizes, dtype):
    layout = ParameterLayout(sizes)
    flat = random_flat(sizes, ()).astype(dtype)
    tensors = layout.to_tensors(flat, prefix="optimizer.v.")
    assert list(tensors)[:2] == ["optimizer.v.layers.0.weight", "optimizer.v.layers.0.bias"]
    assert tensors["optimizer.v.layers.0.weight"].shape == tuple(sizes[:2])
    assert tensors["optimizer.v.layers.0.bias"].shape == (sizes[1],)
    assert sum(array.size for array in tensors.values()) == layout.num_parameters
    back = layout.from_tensors(tensors, dtype, prefix="optimizer.v.")
    assert back.dtype == flat.dtype
    np.testing.assert_array_equal(back, flat)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("layers.1.bias"),
        lambda tensors: tensors.update({"layers.1.bias": np.zeros((1, 7))}),
        lambda tensors: tensors.update({"layers.1.weight": np.zeros((7, 5))}),
        lambda tensors: tensors.update({"layers.1.weight": np.zeros((5, 7), np.float32)}),
    ],
    ids=["missing", "other number of axes", "transposed", "other type"],
)
def test_tensors_of_another_network_are_refused(change):
    tensors = ParameterLayout(SIZES).to_tensors(random_flat(SIZES, ()))
    change(tensors)
    with pytest.raises((KeyError, ValueError), match=r"layers\.1"):
        ParameterLayout(SIZES).from_tensors(tensors, "float64")


@on("numpy", "numba", "cupy-on-host")
@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=named)
def test_gaps_stay_zero_while_parameters_move(backend, ensemble):
    layout = ParameterLayout((2, *SIZES[1:]))
    start = random_flat(layout.layer_sizes, ensemble)
    mlp = network(backend, start, sizes=layout.layer_sizes, rows=9)
    optimizer = ElementwiseOptimizer(backend, mlp.parameters, Adam(), dtype="float64")
    rng = np.random.default_rng(0)
    pixels = TrainingPixels(
        backend, *(backend.asarray(rng.random(shape), "float64") for shape in ((9, 2), (9, 3)))
    )
    step = TrainingStep(backend, IdentityEncoder(backend), mlp, MSE(), optimizer, pixels, batch_rows=9)
    for _ in range(5):
        step(None, 1e-2)
    end = backend.to_numpy(mlp.parameters)
    used = in_use(layout)
    assert not used.all()
    for buffer in (end, *map(backend.to_numpy, optimizer.state.values())):
        assert not buffer[..., ~used].any()
    assert (end[..., used] != start[..., used]).mean() > 0.9


# --- the network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [SIZES, (4, 3), (6, 5, 5, 5, 2)], ids=["three layers", "one", "four"])
@pytest.mark.parametrize("dtype", ["float32"])
def test_forward_is_a_chain_of_products(backend, dtype, check, sizes):
    for ensemble, activation in itertools.product(ENSEMBLES, PLAIN):
        assert_chain_of_products(backend, dtype, check, sizes, ensemble, activation)


def assert_chain_of_products(backend, dtype, check, sizes, ensemble, activation):
    flat = random_flat(sizes, ensemble).astype(dtype)
    x = np.random.default_rng(1).normal(size=(11, sizes[0])).astype(dtype)
    mlp = network(backend, flat, sizes=sizes, activation=activation, output="sigmoid", dtype=dtype)
    y = mlp.forward(backend.asarray(x, dtype))
    check.like(y, (*ensemble, 11, sizes[-1]))

    layout = ParameterLayout(sizes)
    for member in np.ndindex(*ensemble):
        tensors = layout.to_tensors(flat[member].astype(np.float64))
        expected = x.astype(np.float64)
        for i in range(len(sizes) - 1):
            z = expected @ tensors[f"layers.{i}.weight"] + tensors[f"layers.{i}.bias"]
            expected = PLAIN["sigmoid" if i == len(sizes) - 2 else activation](z)
        case = f"{ensemble}, {activation}"
        np.testing.assert_allclose(backend.to_numpy(y)[member], expected, rtol=0, atol=2e-5, err_msg=case)


@on("numba", "cupy-on-host")
@pytest.mark.parametrize("sizes", [SIZES, (4, 3), (6, 5, 5, 2)], ids=["three layers", "one", "equal widths"])
def test_blocks_of_rows_add_up_to_the_whole(backend, sizes):
    for ensemble, activation in itertools.product(ENSEMBLES, ["relu", "sine"]):
        rng = np.random.default_rng(2)
        x, dy = rng.normal(size=(11, sizes[0])), rng.normal(size=(*ensemble, 11, sizes[-1]))
        flat = random_flat(sizes, ensemble)
        whole, parts = (
            backward_to_host(
                backend, network(backend, flat, sizes=sizes, activation=activation), x, dy, blocks, "float64"
            )
            for blocks in ([slice(0, 11)], [slice(0, 5), slice(5, 10), slice(10, 11)])
        )
        assert np.abs(whole).max() > 0.1
        np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-13 * np.abs(whole).max())


@on("numba", "cupy-on-host")
def test_backward_without_accumulate_forgets_what_was_before(backend):
    mlp = network(backend, random_flat(SIZES, ()))
    x, dy = np.ones((4, 6)), np.ones((4, 3))
    first = np.array(backward_to_host(backend, mlp, x, dy, [slice(0, 4)], "float64"))
    second = backward_to_host(backend, mlp, x, dy, [slice(0, 4)], "float64")
    np.testing.assert_array_equal(first, second)


@on("numba", "cupy-on-host")
def test_a_replica_shares_parameters_and_nothing_else(backend):
    mlp = network(backend, random_flat(SIZES, ()))
    replica = mlp.replica(rows=4)
    x = backend.asarray(np.random.default_rng(3).normal(size=(4, 6)), "float64")
    y = np.array(backend.to_numpy(mlp.forward(x)))

    replica.forward(x)
    replica.backward(backend.asarray(np.ones((4, 3)), "float64"))
    assert backend.to_numpy(replica.gradient).any()
    assert not backend.to_numpy(mlp.gradient).any()

    mlp.parameters *= 0.5
    halved = backend.to_numpy(replica.forward(x))
    assert np.abs(halved - y).max() > 0.1
    np.testing.assert_array_equal(halved, backend.to_numpy(mlp.forward(x)))


@on("numba", "cupy-on-host")
def test_fewer_rows_than_there_is_room_for(backend):
    flat = random_flat(SIZES, ())
    x = backend.asarray(np.random.default_rng(4).normal(size=(3, 6)), "float64")
    roomy, tight = (backend.to_numpy(network(backend, flat, rows=n).forward(x)) for n in (100, 3))
    np.testing.assert_array_equal(roomy, tight)


# --- encoders -----------------------------------------------------------------------------------------------


@on("numba", "strict")
def test_no_encoding_hands_the_coordinates_on(backend):
    v = np.array([[0.25, 0.75]])
    encoder = IdentityEncoder(backend)
    np.testing.assert_array_equal(backend.to_numpy(encoder(backend.asarray(v))), v)


@on("numba", "strict")
def test_the_basic_encoding_at_known_points(backend):
    # gamma(v) = [cos(2 pi v), sin(2 pi v)]: quarter and eighth turns.
    B = Basic().frequencies(np.random.default_rng(0))
    v = np.array([[0.0, 0.25], [0.5, 0.75], [0.125, 1.0]])
    r = math.sqrt(0.5)
    expected = [[1, 0, 0, 1], [-1, 0, 0, -1], [r, 1, r, 0]]
    features = FourierEncoder(backend, backend.asarray(B, "float64"))(backend.asarray(v, "float64"))
    np.testing.assert_allclose(backend.to_numpy(features), expected, rtol=0, atol=1e-15)


@on("numba", "strict")
def test_features_are_first_the_cosines_then_the_sines(backend):
    B = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, -1.0]])
    x, y = 0.1, 0.3
    turns = [x, 2 * y, 3 * x - y]
    expected = [math.cos(2 * math.pi * t) for t in turns] + [math.sin(2 * math.pi * t) for t in turns]
    features = FourierEncoder(backend, backend.asarray(B, "float64"))(
        backend.asarray(np.array([[x, y]]), "float64")
    )
    np.testing.assert_allclose(backend.to_numpy(features)[0], expected, rtol=0, atol=1e-14)


@on("numba", "strict")
@pytest.mark.gpu_smoke
def test_every_member_has_its_own_frequencies(backend):
    B = np.random.default_rng(0).normal(size=(3, 4, 2))
    v = backend.asarray(np.random.default_rng(1).random((6, 2)), "float64")
    together = FourierEncoder(backend, backend.asarray(B, "float64"))(v)
    assert together.shape == (3, 6, 8)
    for k in range(3):
        alone = FourierEncoder(backend, backend.asarray(B[k], "float64"))(v)
        np.testing.assert_allclose(backend.to_numpy(together)[k], backend.to_numpy(alone), rtol=0, atol=1e-14)


@given(st.integers(4, 300), st.floats(1.5, 1e4))
@settings(max_examples=50, deadline=None)
def test_positional_frequencies_go_from_one_to_sigma_along_each_axis(num_frequencies, sigma):
    B = Positional(num_frequencies, sigma).frequencies(np.random.default_rng(0))
    along_x, along_y = np.split(B, 2)
    assert len(B) == num_frequencies // 2 * 2
    np.testing.assert_array_equal(along_x, along_y[:, ::-1])
    assert not along_x[:, 1].any()
    frequencies = along_x[:, 0]
    assert frequencies[[0, -1]] == pytest.approx([1.0, sigma])
    ratios = frequencies[1:] / frequencies[:-1]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)


def test_gaussian_frequencies_have_the_spread_asked_for():
    draw = np.random.default_rng
    B = Gaussian(20_000, 7.0).frequencies(draw(5))
    assert B.shape == (20_000, 2)
    assert B.std(axis=0) == pytest.approx([7.0, 7.0], rel=0.02)
    assert abs(B.mean()) < 0.15
    assert np.mean(np.abs(B) < 7.0) == pytest.approx(0.6827, abs=0.01)  # a normal distribution's share
    np.testing.assert_array_equal(B, Gaussian(20_000, 7.0).frequencies(draw(5)))
    assert not np.array_equal(B, Gaussian(20_000, 7.0).frequencies(draw(6)))


# --- initial weights ----------------------------------------------------------------------------------------


def draw_layer(name, n_in, n_out, first=False, omega=30.0):
    W, b = INITIALIZERS[name](np.random.default_rng(0), n_in, n_out, omega=omega, first=first)
    assert (W.shape, b.shape) == ((n_in, n_out), (1, n_out))
    return W, b


@pytest.mark.parametrize(("name", "variance"), [("he", 2 / 300), ("glorot", 2 / (300 + 700))])
def test_weights_have_their_paper_s_variance(name, variance):
    W, b = draw_layer(name, 300, 700)
    assert W.var() == pytest.approx(variance, rel=0.02)
    assert abs(W.mean()) < 4 * math.sqrt(variance / W.size)
    assert not b.any()


@pytest.mark.parametrize(
    ("name", "first", "limit"),
    [
        ("glorot", False, math.sqrt(6 / 1000)),
        ("sine", True, 1 / 300),
        ("sine", False, math.sqrt(6 / 300) / 30.0),
    ],
)
def test_uniform_weights_fill_their_bounds(name, first, limit):
    W, _ = draw_layer(name, 300, 700, first)
    assert 0.999 * limit < np.abs(W).max() <= limit
    assert W.var() == pytest.approx(limit**2 / 3, rel=0.02)


def test_biases_of_sine_layers_fill_their_bounds():
    _, b = draw_layer("sine", 25, 9000)
    assert 0.199 < np.abs(b).max() <= 0.2
    assert b.var() == pytest.approx(0.2**2 / 3, rel=0.05)


@pytest.mark.parametrize(("name", "function", "moment"), [("he", "relu", 1.0), ("sine", "sine", 0.5)])
def test_signals_keep_their_size_through_many_layers(name, function, moment):
    """What the initializers were made for: the second moment neither dies out nor explodes."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(500, 200)) if name == "he" else np.sin(rng.uniform(-9, 9, (500, 200)))
    omega = 3.0
    for _ in range(6):
        W, b = INITIALIZERS[name](rng, 200, 200, omega=omega, first=False)
        y = PLAIN[function](y @ W + b)
        second = np.mean(y**2)
        assert second == pytest.approx(moment, rel=0.35)


def test_initial_parameters_use_the_first_layer_s_rule_once_and_leave_gaps_zero():
    layout = ParameterLayout((40, 50, 50, 3))
    flat = initial_parameters(layout.layer_sizes, "sine", omega=30.0, rng=np.random.default_rng(0))
    assert not flat[~in_use(layout)].any()
    largest = [np.abs(W).max() for W, _ in layout.views(np, flat)]
    limits = [1 / 40, math.sqrt(6 / 50) / 30, math.sqrt(6 / 50) / 30]
    for found, limit in zip(largest, limits, strict=True):
        assert 0.9 * limit < found <= limit
    again = initial_parameters(layout.layer_sizes, "sine", omega=30.0, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(flat, again)


def test_after_fourier_features_no_layer_of_sines_sees_coordinates():
    layout = ParameterLayout((40, 50, 3))
    draws = {"omega": 30.0, "rng": np.random.default_rng(0)}
    flat = initial_parameters(layout.layer_sizes, "sine", encoded=True, **draws)
    W = next(layout.views(np, flat))[0]
    assert 0.9 < np.abs(W).max() / (math.sqrt(6 / 40) / 30) <= 1.0


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=named)
def test_the_bias_for_a_mean_is_the_activation_s_inverse(activation):
    mean = np.array([0.02, 0.4, 0.97])
    b = bias_for_mean(activation, mean)
    np.testing.assert_allclose(activation.forward(np, b), mean, rtol=0, atol=1e-12)
    assert np.isfinite(bias_for_mean(activation, np.array([0.0, 1.0]))).all()


# --- activations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=named)
def test_activations_are_their_formulas(activation):
    z = np.linspace(-4, 4, 101)
    np.testing.assert_allclose(activation.forward(np, z), PLAIN[activation.name](z), rtol=0, atol=1e-15)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=named)
def test_derivatives_of_activations_are_complex_steps(activation):
    z = np.linspace(-3, 3, 100)
    slope = activation.forward(np, z + 1e-40j).imag / 1e-40
    dy = np.linspace(1, 2, 100)
    saved = z if activation.saves_input else activation.forward(np, z)
    np.testing.assert_allclose(activation.backward(np, dy, saved), dy * slope, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=named)
def test_curvatures_of_activations_are_differences_of_slopes(activation):
    z, h = np.linspace(-3, 3, 100), 1e-5

    def saved(z):
        return z if activation.saves_input else activation.forward(np, z)

    slopes = [activation.backward(np, np.ones_like(z), saved(z + step)) for step in (-h, h)]
    found = activation.curvature(np, saved(z))
    np.testing.assert_allclose(found, (slopes[1] - slopes[0]) / (2 * h), rtol=1e-7, atol=1e-8)


def test_the_sigmoid_overflows_nowhere():
    z = np.array([-1e38, -1e4, -90.0, 0.0, 90.0, 1e4, 1e38], np.float32)
    y = Sigmoid().forward(np, z)  # a warning would be an error
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, [0, 0, 0, 0.5, 1, 1, 1], atol=1e-7)
    assert np.isfinite(Sigmoid().backward(np, np.ones_like(y), y)).all()


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=named)
def test_activations_keep_float32(activation):
    z = np.linspace(-1, 1, 5, dtype=np.float32)
    y = activation.forward(np, z)
    assert y.dtype == np.float32
    assert activation.backward(np, np.ones_like(z), z if activation.saves_input else y).dtype == np.float32


def test_activations_go_by_name():
    for activation in ACTIVATIONS:
        assert make_activation(activation.name, omega=3.0) == activation
    assert make_activation("sine").omega == 30.0


# --- losses -------------------------------------------------------------------------------------------------

# Two pixels with two channels; with delta 0.1: r^2 / 2 for 0.05 and 0, and 0.1 (|r| - 0.05) for the others.
RESIDUAL = np.array([[0.05, -0.3], [0.0, 1.0]])
BY_HAND = {
    "mse": (0.0025 + 0.09 + 0.0 + 1.0) / 4,
    "mae": (0.05 + 0.3 + 0.0 + 1.0) / 4,
    "huber": (0.00125 + 0.025 + 0.0 + 0.095) / 4,
}


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_losses_by_hand_are_means_over_pixels_and_channels(loss):
    target = np.full((2, 2), 0.25)
    value, _ = NumpyBackend().loss_and_gradient(loss, target + RESIDUAL, target, divisor=target.size)
    assert float(value) == pytest.approx(BY_HAND[loss.name], rel=1e-14)
    assert make_loss(loss.name, delta=0.1) == loss


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_gradients_of_losses_are_slopes(loss):
    r = np.array([-1.7, -0.11, -0.09, -1e-3, 1e-3, 0.05, 0.099, 0.101, 0.5, 3.0])
    slope = (loss.value(np, r + 1e-6) - loss.value(np, r - 1e-6)) / 2e-6
    np.testing.assert_allclose(loss.gradient(np, r), slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_an_exact_prediction_has_no_loss_and_no_gradient(backend, dtype, loss):
    exact = np.random.default_rng(0).random((5, 3))
    value, dy = backend.loss_and_gradient(
        loss, backend.asarray(exact, dtype), backend.asarray(exact, dtype), divisor=exact.size
    )
    assert float(value) == 0.0
    np.testing.assert_array_equal(backend.to_numpy(dy), np.zeros((5, 3)))


@pytest.mark.parametrize("delta", [0.01, 0.1, 1.0, 20.0])
def test_huber_is_continuous_with_its_slope_at_delta(delta):
    loss, eps = Huber(delta), 1e-9 * delta
    for sign in (-1.0, 1.0):
        inside, outside = (sign * np.array(delta + d) for d in (-eps, eps))
        assert loss.value(np, outside) == pytest.approx(loss.value(np, inside), rel=1e-8)
        assert loss.value(np, inside) == pytest.approx(delta**2 / 2, rel=1e-8)
        assert loss.gradient(np, outside) == pytest.approx(loss.gradient(np, inside), rel=1e-8)


def test_huber_is_half_the_square_for_a_large_delta_and_delta_times_mae_for_a_small_one():
    r = np.linspace(0.5, 1, 20)
    np.testing.assert_allclose(Huber(2.0).value(np, r), 0.5 * MSE().value(np, r), rtol=1e-14)
    np.testing.assert_allclose(Huber(1e-9).value(np, r), 1e-9 * MAE().value(np, r), rtol=1e-8)


@on("numba", "strict")
@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_a_pixel_of_weight_zero_is_hidden(backend, loss):
    rng = np.random.default_rng(0)
    prediction, target = rng.random((2, 5, 3))
    weights = np.array([[1.25], [0.0], [1.25], [1.25], [1.25]])
    seen = [0, 2, 3, 4]

    def loss_and_gradient(target, weights, rows):
        value, dy = backend.loss_and_gradient(
            loss,
            backend.asarray(prediction[rows], "float64"),
            backend.asarray(target[rows], "float64"),
            divisor=len(rows) * 3,
            weights=None if weights is None else backend.asarray(weights[rows], "float64"),
        )
        return float(backend.to_numpy(value)), np.array(backend.to_numpy(dy))

    every = list(range(5))
    value, dy = loss_and_gradient(target, weights, every)
    assert not dy[1].any()
    value_of_seen, dy_of_seen = loss_and_gradient(target, None, seen)
    assert value == pytest.approx(value_of_seen, rel=1e-14)
    np.testing.assert_allclose(dy[seen], dy_of_seen, rtol=1e-14)

    changed = target.copy()
    changed[1] += 100.0
    value_changed, dy_changed = loss_and_gradient(changed, weights, every)
    assert value_changed == value
    np.testing.assert_array_equal(dy_changed, dy)


def test_the_step_averages_over_the_whole_batch_however_it_is_cut(monkeypatch):
    backend = NumpyBackend(threads=1)
    rng = np.random.default_rng(0)
    coordinates, target = rng.random((10, 2)), rng.random((10, 3))
    flat = random_flat((2, 8, 3), ())

    def value_and_gradient(blocks):
        partitions = [Partition([None], of_worker) for of_worker in blocks]
        monkeypatch.setattr(backend, "partition", lambda *args: partitions)
        mlp = network(backend, flat, sizes=(2, 8, 3))
        prediction = mlp.forward(coordinates)
        expected = np.mean((prediction - target) ** 2)
        step = TrainingStep(
            backend,
            IdentityEncoder(backend),
            mlp,
            MSE(),
            ElementwiseOptimizer(backend, mlp.parameters, Adam(), dtype="float64"),
            TrainingPixels(backend, coordinates, target),
            batch_rows=10,
        )
        value = step(None, 1e-3)
        assert value == pytest.approx(expected, rel=1e-13)
        return value, step.gradient

    value, gradient = value_and_gradient([[slice(0, 10)]])
    assert np.abs(gradient).max() > 0.01
    for blocks in ([[slice(0, 4), slice(4, 9), slice(9, 10)]], [[slice(0, 4), slice(4, 8)], [slice(8, 10)]]):
        value_of_parts, gradient_of_parts = value_and_gradient(blocks)
        assert value_of_parts == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(gradient_of_parts, gradient, rtol=0, atol=1e-15)
