"""Defects of the student project that coordfit grew out of: each has a test that it is absent here."""

import math
import socket
import tracemalloc

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from skimage.metrics import peak_signal_noise_ratio

import coordfit
from coordfit.config import make_config
from coordfit.encoders.fourier import Gaussian
from coordfit.encoders.identity import IdentityEncoder
from coordfit.images import bundled_picture, load_picture
from coordfit.network.activations import ReLU, Sigmoid, make_activation
from coordfit.network.losses import MSE
from coordfit.network.mlp import MLP, initial_parameters
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.training.job import Job
from coordfit.training.step import TrainingStep
from coordfit.training.trainer import Trainer

SMALL = {"num_frequencies": 8, "sigma": 2.0, "hidden_size": 16, "depth": 3, "batch_size": 128, "steps": 20}


@pytest.fixture(scope="module")
def cat():
    return bundled_picture(32).pixels


def fit(image, **options):
    return coordfit.fit(image, device="cpu", threads=1, **(SMALL | options))


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_the_reported_loss_is_the_one_that_is_minimised(cat, loss):
    """It was always MSE: the value of the others was overwritten just before it was returned."""
    result = fit(cat, loss=loss, delta=0.05)
    size = np.abs(result.reconstruction.astype(np.float64) - cat)
    expected = {
        "mse": size**2,
        "mae": size,
        "huber": np.where(size <= 0.05, size**2 / 2, 0.05 * (size - 0.025)),
    }[loss].mean()
    assert result.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert result.history[-1]["loss"] == result.metrics["loss"]
    assert result.metrics["loss_name"] == loss


def test_psnr_has_no_factor_2(cat):
    """It was 3.01 dB low."""
    result = fit(cat)
    expected = peak_signal_noise_ratio(cat, result.reconstruction, data_range=1.0)
    assert result.metrics["psnr"] == pytest.approx(expected, abs=1e-4)
    grey = np.full((4, 4, 1), 0.5)
    assert coordfit.psnr(grey + 0.1, grey) == pytest.approx(20.0)


def test_psnr_is_of_what_is_seen(cat):
    """Predictions were not clipped."""
    result = fit(cat, output_activation="identity", steps=0)
    rows, columns = np.mgrid[:32, :32]
    colours = result.model(np.stack([columns + 0.5, rows + 0.5], axis=-1) / 32)
    assert colours.min() < 0 or colours.max() > 1
    clipped = -10 * math.log10(np.mean((np.clip(colours, 0, 1) - cat) ** 2, dtype=np.float64))
    unclipped = -10 * math.log10(np.mean((colours - cat) ** 2, dtype=np.float64))
    assert result.metrics["psnr"] == pytest.approx(clipped, abs=1e-4)
    assert abs(clipped - unclipped) > 0.1


def trained_with_mask(target, weights):
    """Parameters after some steps on a picture of which only the weighted pixels count."""
    backend = NumpyBackend(threads=1)
    rng = np.random.default_rng(0)
    sizes = (2, 8, 3)
    flat = initial_parameters(sizes, "he", omega=1.0, rng=rng)
    mlp = MLP(backend, sizes, flat, ReLU(), Sigmoid(), rows=len(target), dtype="float64")
    optimizer = ElementwiseOptimizer(backend, flat, Adam(), dtype="float64")
    coordinates = np.random.default_rng(1).random((len(target), 2))
    pixels = TrainingPixels(backend, coordinates, target, weights)
    step = TrainingStep(backend, IdentityEncoder(backend), mlp, MSE(), optimizer, pixels, len(target))
    losses = [float(step(None, 1e-2)) for _ in range(10)]
    return flat, losses


def test_hidden_pixels_are_no_targets():
    """The mask for inpainting was made and never used: black pixels were learned."""
    target = np.random.default_rng(2).random((30, 3))
    hidden = np.arange(30) % 3 == 0
    weights = np.where(hidden, 0.0, 1.5)[:, None]
    blackened = np.where(hidden[:, None], 0.0, target)
    flat, losses = trained_with_mask(target, weights)
    flat_blackened, losses_blackened = trained_with_mask(blackened, weights)
    np.testing.assert_array_equal(flat, flat_blackened)
    assert losses == losses_blackened
    assert not np.array_equal(flat, trained_with_mask(blackened, None)[0])


def test_number_and_spread_of_frequencies_are_not_swapped(cat):
    """`get_B_dict(scale, size)` was called against a signature of (size, scale): the sweep tested neither."""
    for m, sigma in ((300, 2.0), (2, 300.0)):
        result = fit(cat, num_frequencies=m, sigma=sigma, steps=0)
        assert result.state.encoder_state["B"].shape == (m, 2)
        assert result.model.mlp.layout.layer_sizes[0] == 2 * m
    many = Gaussian(5000, 2.0).frequencies(np.random.default_rng(0))
    assert many.std() == pytest.approx(2.0, rel=0.05)


def test_frequencies_are_drawn_once_and_from_the_seed(cat):
    """B was drawn anew at every call, without a seed."""
    a, b = fit(cat, seed=5), fit(cat, seed=5)
    np.testing.assert_array_equal(a.state.encoder_state["B"], b.state.encoder_state["B"])
    np.testing.assert_array_equal(a.reconstruction, b.reconstruction)
    np.testing.assert_array_equal(a.render(), a.render())
    np.testing.assert_array_equal(np.asarray(a.model.encoder.B), a.state.encoder_state["B"])


def test_an_epoch_is_the_same_for_all_optimizers(cat):
    """Adam saw all pixels at a step and SGD 32, so that their epochs meant different things."""
    picture = load_picture(cat)
    trainers = [
        Trainer(
            [Job(picture, make_config(SMALL | {"steps": None, "epochs": 3, "optimizer": name}))], NumpyBackend()
        )
        for name in ("adam", "sgd")
    ]
    assert [trainer.steps for trainer in trainers] == [24, 24]
    assert [trainer.member.batch_rows for trainer in trainers] == [128, 128]
    adam, sgd = (trainer.member.order for trainer in trainers)
    for t in range(24):
        np.testing.assert_array_equal(adam.batch(t), sgd.batch(t))
    assert [result.metrics["epochs"] for trainer in trainers for result in trainer.run()] == [3, 3]


def test_the_sigmoid_warns_of_nothing():
    """Both branches of its select were evaluated, and one overflowed."""
    z = np.array([-1e30, -1000.0, 0.0, 1000.0, 1e30], dtype=np.float32)
    for fused in ("auto", "never"):
        backend = NumpyBackend(fused=fused)
        with np.errstate(all="raise", under="ignore"):
            y, _ = backend.linear(
                z[:, None], np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32), Sigmoid()
            )
        np.testing.assert_array_equal(y[:, 0], np.array([0, 0, 0.5, 1, 1], np.float32))


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "sine", "identity"])
@pytest.mark.parametrize("fused", ["auto", "never"])
def test_float32_stays_float32(cat, activation, fused):
    """The derivative of ReLU was an integer, and everything else float64."""
    trainer = Trainer(
        [Job(load_picture(cat), make_config(SMALL | {"activation": activation}))],
        NumpyBackend(fused=fused, threads=1),
    )
    trainer.take_steps(1)
    worker = trainer.training_step.parts[0]
    arrays = [trainer.model.mlp.parameters, worker.mlp.gradient, *trainer.optimizer.state.values()]
    *hidden, last = worker.mlp.layers  # the last is one call with the loss, and keeps nothing
    for layer in hidden:
        arrays += [layer.x, layer.y, layer.saved, layer.dW, layer.db]
    arrays += [last.dW, last.db, worker.value]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    y = np.array([0.0, 2.0], np.float32)
    assert make_activation("relu").backward(np, np.ones(2, np.float32), y).dtype == np.float32


def peak_memory(pixels, evaluations):
    """Most bytes that a fit holds at a time, and its history."""
    tracemalloc.start()
    result = fit(pixels, steps=evaluations, evaluate_every=1, hidden_size=2, depth=2, num_frequencies=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak, result.history


def test_predictions_are_not_kept():
    """All predictions of all epochs were: 118 MB for a small picture."""
    pixels = bundled_picture(128).pixels
    peak_of_few, _ = peak_memory(pixels, 3)
    peak_of_many, history = peak_memory(pixels, 40)
    assert len(history) == 41
    assert peak_of_many - peak_of_few < pixels.nbytes
    assert all(value is None or isinstance(value, int | float) for row in history for value in row.values())


@pytest.mark.parametrize("shape", [(5, 9), (40, 3), (600, 20)], ids=str)
def test_pictures_need_be_neither_large_nor_square(shape):
    """The crop asked for 512 pixels on both sides, and gave squares alone."""
    pixels = np.random.default_rng(0).random((*shape, 3))
    assert fit(pixels, steps=1).reconstruction.shape == (*shape, 3)


def test_no_network_is_needed(monkeypatch):
    """The picture came from the internet."""

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert fit(bundled_picture().pixels, steps=1).metrics["height"] == 128
