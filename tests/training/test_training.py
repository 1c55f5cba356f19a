"""`fit` on small pictures: it learns, stops as told, repeats bit by bit, goes on, and reports true figures."""

import dataclasses
import math
import time
from io import BytesIO

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from support.backend_matrix import on

import coordfit
from coordfit import ConfigError, Progress
from coordfit.config import FitConfig, make_config
from coordfit.encoders.fourier import FourierEncoder, Gaussian
from coordfit.encoders.registry import ENCODINGS
from coordfit.images import bundled_picture, load_picture
from coordfit.images.metrics import interpolate_every_second
from coordfit.network.activations import make_activation
from coordfit.network.losses import MSE, Huber
from coordfit.network.mlp import MLP, initial_parameters
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.optimizers.sgd import SGD
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.signals.facts import SignalFacts
from coordfit.training import member
from coordfit.training.job import Job
from coordfit.training.state import HISTORY_COLUMNS
from coordfit.training.step import TrainingStep
from coordfit.training.trainer import Trainer, fit_alone

SMALL = {
    "num_frequencies": 8,
    "sigma": 3.0,
    "hidden_size": 16,
    "depth": 3,
    "batch_size": 128,
    "steps": 30,
    "evaluate_every": 10,
}


@pytest.fixture(scope="module")
def cat():
    """The bundled picture, (32, 32, 3)."""
    return bundled_picture(32).pixels


def fit(image, *, device="numpy", threads=1, **options):
    return coordfit.fit(image, device=device, threads=threads, **(SMALL | options))


def steps_of(result):
    return [row["step"] for row in result.history]


def same_bits(a, b):
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def mse_of(prediction, target):
    return np.mean((np.clip(prediction, 0, 1).astype(np.float64) - target) ** 2)


def psnr_of(prediction, target):
    return -10 * math.log10(mse_of(prediction, target))


# --- it learns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize(
    "optimizer", [{"learning_rate": 1e-2}, {"optimizer": "sgd", "learning_rate": 0.5}], ids=str
)
def test_the_loss_falls(cat, loss, optimizer):
    result = fit(cat, loss=loss, steps=100, momentum=0.9, **optimizer)
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < 0.75 * losses[0]
    assert result.metrics["psnr"] > result.history[0]["psnr"] + 1


def test_a_picture_is_learned_to_the_eye(cat):
    result = fit(cat, hidden_size=64, num_frequencies=32, steps=400, batch_size=256, learning_rate=1e-2)
    assert result.metrics["psnr"] > 28
    assert result.metrics["ssim"] > 0.9


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("activation", ["relu", "sine", "tanh", "sigmoid", "identity"])
def test_all_encodings_and_activations_learn(cat, encoding, activation):
    result = fit(cat, encoding=encoding, activation=activation, omega=5.0, learning_rate=1e-2, steps=40)
    assert result.stopped == "steps"
    assert result.metrics["loss"] < result.history[0]["loss"]


@pytest.mark.parametrize("output", ["sigmoid", "identity", "relu", "sine", "tanh"])
def test_all_output_activations_run(cat, output):
    assert np.isfinite(fit(cat, output_activation=output, steps=3).metrics["loss"])


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 3), (1, 9, 3), (9, 1, 3), (2, 2, 3), (3, 40, 3), (7, 5), (7, 5, 1), (7, 5, 2), (7, 5, 4)],
    ids=str,
)
@pytest.mark.parametrize("train_on", ["all", "every-second"])
@pytest.mark.parametrize("batch_size", [3, None])
def test_pictures_of_any_shape(shape, train_on, batch_size):
    pixels = np.random.default_rng(0).random(shape)
    result = fit(pixels, train_on=train_on, batch_size=batch_size, steps=4)
    assert result.reconstruction.shape == (*shape[:2], shape[2] if len(shape) == 3 else 1)
    assert result.stopped == "steps"
    assert np.isfinite(result.metrics["loss"])
    assert Image.open(BytesIO(result._repr_png_())).format == "PNG"


def test_float64_is_float64_all_the_way(cat):
    result = fit(cat, dtype="float64", steps=5)
    single = fit(cat, steps=5)
    assert result.reconstruction.dtype == result.state.parameters.dtype == np.float64
    assert single.reconstruction.dtype == single.state.parameters.dtype == np.float32
    np.testing.assert_allclose(result.reconstruction, single.reconstruction, atol=1e-4)
    assert not np.array_equal(result.reconstruction, result.reconstruction.astype(np.float32))


def test_files_images_and_arrays_are_the_same_picture(cat, tmp_path):
    levels = np.rint(cat * 255).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "cat.png")
    sources = [levels, Image.fromarray(levels), tmp_path / "cat.png", str(tmp_path / "cat.png")]
    first, *others = [fit(source, steps=3).reconstruction for source in sources]
    for other in others:
        assert same_bits(other, first)


# --- where it stops -----------------------------------------------------------------------------------------


def test_no_steps_give_the_network_as_it_was_drawn(cat):
    result = fit(cat, steps=0)
    assert (result.stopped, steps_of(result), result.metrics["steps"]) == ("steps", [0], 0)
    assert result.metrics["psnr"] == result.history[0]["psnr"]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"steps": 7}, 7),
        ({"steps": None, "epochs": 1.5}, 12),
        ({"steps": 5, "epochs": 3}, 5),
        ({"steps": 50, "epochs": 3}, 24),
        ({"steps": None, "epochs": 3, "batch_size": None}, 3),
        ({"steps": None, "epochs": 3, "train_on": "every-second"}, 6),
    ],
    ids=str,
)
def test_the_budget_of_steps_and_epochs(cat, options, steps):
    result = fit(cat, **options)
    assert (result.metrics["steps"], result.stopped) == (steps, "steps")
    batch = min(result.config.batch_size or 1024, 1024)
    pixels = 256 if result.config.train_on == "every-second" else 1024
    assert result.metrics["epochs"] == pytest.approx(steps * batch / pixels)


def test_the_target_psnr_ends_the_run_at_the_first_evaluation_that_reaches_it(cat):
    unbroken = fit(cat, steps=200, learning_rate=1e-2, schedule="constant")
    target = unbroken.history[7]["psnr_train"] - 1e-6
    result = fit(cat, steps=200, learning_rate=1e-2, schedule="constant", target_psnr=target)
    assert result.stopped == "target_psnr"
    first = next(row["step"] for row in unbroken.history if row["psnr_train"] >= target)
    assert steps_of(result)[-1] == first == result.metrics["steps"]
    assert fit(cat, target_psnr=200.0).stopped == "steps"


def test_the_seconds_end_the_run(cat):
    began = time.perf_counter()
    result = fit(cat, steps=10**9, evaluate_every=10**9, seconds=0.3)
    assert time.perf_counter() - began < 5
    assert result.stopped == "seconds"
    assert 0 < result.metrics["steps"] < 10**9
    assert 0 < result.metrics["seconds"] < 3
    assert steps_of(result) == [0, result.metrics["steps"]]


def test_a_callback_is_told_and_may_stop(cat):
    told = []

    def stop_at_20(progress):
        told.append(progress)
        return progress.step >= 20

    result = fit(cat, callback=stop_at_20, steps=100)
    assert result.stopped == "interrupted"
    assert result.metrics["steps"] == 20
    assert all(isinstance(progress, Progress) for progress in told)
    evaluated = [p for p in told if p.evaluated]
    assert [p.row for p in evaluated] == result.history
    assert [p.step for p in evaluated] == [0, 10, 20]
    assert {p.steps for p in told} == {100}
    assert all(p.seconds >= 0 and p.steps_per_second >= 0 for p in told)


def test_a_callback_that_says_nothing_stops_nothing(cat):
    assert fit(cat, callback=lambda progress: None).stopped == "steps"


def test_a_callback_hears_between_evaluations(cat):
    told = []
    fit(cat, steps=10**9, evaluate_every=10**9, seconds=0.7, callback=told.append)
    between = [p for p in told if not p.evaluated]
    assert between
    assert all(p.steps_per_second > 0 and p.row["step"] == 0 for p in between)


DIVERGING = {
    "optimizer": "sgd",
    "learning_rate": 1e3,
    "output_activation": "identity",
    "schedule": "constant",
    "warmup_steps": 25,
}


@pytest.mark.parametrize("fused", ["auto", "never"])
def test_after_divergence_the_model_is_the_last_good_one(cat, fused):
    result = fit(cat, fused=fused, steps=500, evaluate_every=1, **DIVERGING)
    assert result.stopped == result.metrics["stopped"] == "diverged"
    assert np.isfinite(result.state.parameters).all()
    assert np.isfinite(result.reconstruction).all()
    last = result.history[-1]
    assert 0 < last["step"] == result.metrics["steps"] == result.state.step < 500
    assert result.metrics["psnr"] == last["psnr"]
    assert result.metrics["loss"] == last["loss"]
    assert all(np.isfinite(row["loss"]) for row in result.history)


def test_a_network_that_is_no_number_from_the_start_diverged(cat, monkeypatch):
    draw = member.initial_parameters
    monkeypatch.setattr(member, "initial_parameters", lambda *args, **more: np.nan * draw(*args, **more))
    result = fit(cat)
    assert result.stopped == "diverged"
    assert result.history == []


def test_a_large_picture_is_judged_by_a_sample_on_the_way_and_whole_at_the_end(cat, monkeypatch):
    whole = fit(cat, steps=20, train_on="every-second")
    monkeypatch.setattr(member, "SAMPLE_PIXELS", 500)
    sampled = fit(cat, steps=20, train_on="every-second")
    assert sampled.metrics["psnr_held_out"] == whole.metrics["psnr_held_out"]
    for ours, theirs in zip(sampled.history, whole.history, strict=True):
        assert ours["psnr"] != theirs["psnr"]
        assert ours["psnr"] == pytest.approx(theirs["psnr"], abs=1.5)


# --- the history and the figures ----------------------------------------------------------------------------


def test_the_history_has_a_row_at_the_start_at_every_evaluation_and_at_the_end(cat):
    result = fit(cat, steps=25, train_on="every-second")
    assert steps_of(result) == [0, 10, 20, 25]
    for row in result.history:
        assert tuple(row) == HISTORY_COLUMNS
    seconds = [row["seconds"] for row in result.history]
    assert seconds == sorted(seconds)
    assert seconds[0] == 0


def test_a_run_is_evaluated_12_to_24_times_unless_told_otherwise(cat):
    assert steps_of(fit(cat, steps=120, batch_size=None, evaluate_every=None)) == list(range(0, 121, 5))
    # An evaluation takes as long as a third of a step on all pixels: a tenth of the time is one in four steps.
    assert steps_of(fit(cat, steps=50, batch_size=None, evaluate_every=None)) == [*range(0, 49, 4), 50]
    assert steps_of(fit(cat, steps=60, batch_size=16, evaluate_every=None)) == list(range(0, 61, 5))
    assert steps_of(fit(cat, steps=3, batch_size=None, evaluate_every=None)) == [0, 1, 2, 3]


@pytest.mark.parametrize("every", [None, 10, 7])
def test_the_next_evaluation_lies_ahead_and_not_beyond_its_schedule(every):
    config = make_config({"target_psnr": 99.0, "evaluate_every": every})
    one = Trainer([Job(bundled_picture(32), config)], NumpyBackend(threads=1)).member
    ends = {sum(one.budget.schedule_of(step)) for step in range(one.budget.steps)}
    assert len(ends) == 4, "a target has several schedules"
    for step in range(one.budget.steps):
        following = one.next_evaluation(step)
        assert step < following <= sum(one.budget.schedule_of(step))
        assert every is None or following % every == 0 or following in ends


def test_the_learning_rate_in_the_history_follows_the_schedule(cat):
    result = fit(cat, steps=20, learning_rate=0.01, warmup_steps=4, final_factor=0.1)
    rates = [row["learning_rate"] for row in result.history]
    half = math.cos(math.pi * 6 / 16)
    assert rates == pytest.approx([0.002, 0.01 * (0.1 + 0.9 * (1 + half) / 2), 0.001])


@pytest.mark.parametrize("train_on", ["all", "every-second"])
def test_train_held_out_and_full_are_told_apart(cat, train_on):
    pixels = cat[:31, :26]
    result = fit(pixels, train_on=train_on, steps=60, learning_rate=1e-2)
    fitted, metrics = result.reconstruction, result.metrics
    train = np.zeros((31, 26), bool)
    train[
        slice(None, None, 2 if train_on == "every-second" else 1), :: 2 if train_on == "every-second" else 1
    ] = True

    near = {"rel": 1e-5}
    assert metrics["psnr"] == pytest.approx(psnr_of(fitted, pixels), **near)
    assert metrics["psnr"] == pytest.approx(peak_signal_noise_ratio(pixels, fitted, data_range=1), **near)
    assert metrics["psnr_train"] == pytest.approx(psnr_of(fitted[train], pixels[train]), **near)
    assert metrics["loss"] == pytest.approx(mse_of(fitted[train], pixels[train]), rel=1e-5)
    ssim = structural_similarity(
        pixels,
        fitted,
        data_range=1,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert metrics["ssim"] == pytest.approx(ssim, abs=1e-4)
    for name in ("psnr", "psnr_train", "psnr_held_out", "loss"):
        assert metrics[name] == result.history[-1][name]
    if train_on == "all":
        for name in ("psnr_held_out", "psnr_held_out_bilinear", "psnr_held_out_bicubic"):
            assert metrics[name] is None
        assert metrics["psnr_train"] == metrics["psnr"]
    else:
        assert metrics["psnr_held_out"] == pytest.approx(psnr_of(fitted[~train], pixels[~train]), **near)
        assert metrics["psnr_train"] > metrics["psnr"] > metrics["psnr_held_out"]
        for method in ("bilinear", "bicubic"):
            rebuilt = interpolate_every_second(pixels, method)
            baseline = psnr_of(rebuilt[~train], pixels[~train])
            assert metrics[f"psnr_held_out_{method}"] == pytest.approx(baseline, **near)


def test_held_out_pixels_do_not_train(cat):
    spoiled = cat.copy()
    spoiled[1::2] = 0.0
    spoiled[:, 1::2] = 1.0
    a, b = (fit(pixels, train_on="every-second") for pixels in (cat, spoiled))
    assert same_bits(a.state.parameters, b.state.parameters)
    assert a.metrics["psnr_train"] == b.metrics["psnr_train"]
    assert a.metrics["psnr_held_out"] != b.metrics["psnr_held_out"]


def test_the_metrics_tell_what_was_done(cat):
    result = fit(cat, optimizer="adam", threads=2, seed=7)
    metrics = result.metrics
    parameters = (16 + 1) * 16 + (16 + 1) * 16 + (16 + 1) * 3
    assert metrics["parameters"] == parameters
    assert metrics["bits_per_pixel"] == pytest.approx(32 * (parameters + 16) / 1024)  # B has 8 times 2
    others = result.picture.other_codecs.bits_at(metrics["psnr"])
    assert result.other_bits_per_pixel == {"plain": 24, **others}
    assert result.full_metrics == metrics | {"other_bits_per_pixel": result.other_bits_per_pixel}
    assert others["JPEG"] > 0
    assert (metrics["device"], metrics["backend"], metrics["threads"]) == ("cpu", "numpy", 2)
    assert (metrics["height"], metrics["width"], metrics["channels"]) == (32, 32, 3)
    assert (metrics["seed"], metrics["loss_name"], metrics["steps"]) == (7, "mse", 30)
    assert metrics["fused"]["optimizer_step"] == {"fused": 30}
    assert result.model.metrics is metrics
    assert metrics["seconds"] > 0


def test_fused_never_takes_no_fused_route(cat):
    routes = fit(cat, fused="never").metrics["fused"]
    assert all(set(counts) == {"generic"} for counts in routes.values())
    assert fit(cat, fused="always").stopped == "steps"


def test_a_config_excludes_options(cat):
    with pytest.raises(ConfigError, match="not both"):
        coordfit.fit(cat, FitConfig(), steps=3)
    with pytest.raises(ConfigError, match="not both"):
        coordfit.fit(cat, FitConfig(), recipe="paper")


def test_a_recipe_and_options_are_a_config(cat):
    by_name = coordfit.fit(cat, recipe="seed-adam-32", steps=2, hidden_size=8, device="cpu")
    config = make_config({"steps": 2, "hidden_size": 8}, recipe="seed-adam-32")
    assert by_name.config == config
    assert same_bits(coordfit.fit(cat, config, device="cpu").reconstruction, by_name.reconstruction)


# --- it repeats ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 2}, {"fused": "never"}], ids=str)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(cat, options):
    big = {"hidden_size": 64, "num_frequencies": 32, "batch_size": 512, "steps": 8}
    a, b, c = (fit(cat, seed=seed, **big, **options) for seed in (3, 3, 4))
    assert same_bits(a.state.parameters, b.state.parameters)
    assert same_bits(a.reconstruction, b.reconstruction)
    assert [row["loss"] for row in a.history] == [row["loss"] for row in b.history]
    assert not np.array_equal(a.state.parameters, c.state.parameters)
    assert not np.array_equal(a.state.encoder_state["B"], c.state.encoder_state["B"])


def test_draws_of_frequencies_weights_and_order_do_not_hang_together(cat):
    """Another encoding or width leaves the other draws of the seed as they are."""
    a, b = (fit(cat, steps=0, encoding=encoding, num_frequencies=2) for encoding in ("gaussian", "basic"))
    assert same_bits(a.state.parameters, b.state.parameters)
    c, d = (fit(cat, steps=0, hidden_size=size) for size in (8, 9))
    assert same_bits(c.state.encoder_state["B"], d.state.encoder_state["B"])


def test_frequencies_and_weights_are_not_the_same_numbers(cat):
    state = fit(cat, steps=0, num_frequencies=100).state
    drawn_first = state.parameters[: state.encoder_state["B"].size]
    assert abs(np.corrcoef(state.encoder_state["B"].ravel(), drawn_first)[0, 1]) < 0.4


def test_thread_counts_agree_to_rounding(cat, monkeypatch):
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_WORKER_FLOPS", 1)
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_WORKER_ROWS", 1)
    options = {"hidden_size": 64, "num_frequencies": 32, "batch_size": None, "dtype": "float64", "steps": 20}
    config = make_config(SMALL | options)
    picture = load_picture(cat)
    pictures = []
    for threads in (1, 2, 3):
        trainer = Trainer([Job(picture, config)], NumpyBackend(threads=threads))
        assert len(trainer.training_step.workers) == threads
        pictures.append(trainer.run()[0].reconstruction)
    for other in pictures[1:]:
        np.testing.assert_allclose(other, pictures[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [{}, {"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "muon"}, {"activation": "sine"}],
    ids=str,
)
def test_fused_and_generic_agree_to_rounding(cat, options):
    auto, never = (fit(cat, fused=fused, dtype="float64", **options) for fused in ("auto", "never"))
    np.testing.assert_allclose(auto.state.parameters, never.state.parameters, rtol=0, atol=1e-9)


@pytest.mark.parametrize("output_activation", ["sigmoid", "identity"])
def test_a_network_may_start_at_the_mean_colour_of_its_training_pixels(cat, output_activation):
    options = {"output_activation": output_activation, "steps": 0, "train_on": "every-second"}
    seen = load_picture(cat).pixels[::2, ::2].reshape(-1, 3)
    start = fit(cat, output_start="mean", **options)
    np.testing.assert_allclose(start.reconstruction, np.broadcast_to(seen.mean(axis=0), (32, 32, 3)), rtol=1e-5)
    learnt = fit(cat, output_start="mean", **options | {"steps": 30})
    assert learnt.metrics["loss"] < 0.9 * start.metrics["loss"]


# --- it goes on ---------------------------------------------------------------------------------------------

RESUMED = {
    "adam": {},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "learning_rate": 0.1},
    "muon": {"optimizer": "muon"},
    "full batch": {"batch_size": None},
    "warm-up": {"warmup_steps": 12, "schedule": "exponential"},
    "two threads": {"hidden_size": 64, "num_frequencies": 32, "batch_size": 512},
    "grid": {"encoding": "grid", "optimizer": "muon", "grid_smoothness": 1.0},
    "pyramid": {"encoding": "pyramid", "optimizer": "muon", "pyramid_smoothness": 1.0},
    "no encoding": {"encoding": "none", "train_on": "every-second", "batch_size": 100},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED.keys())
@pytest.mark.parametrize("stop", [1, 10, 17])
def test_a_resumed_run_is_an_unbroken_one(cat, options, stop):
    config = make_config(SMALL | options)
    picture = load_picture(cat)

    def trainer(state=None):
        return Trainer([Job(picture, config)], NumpyBackend(threads=2), state)

    first = trainer()
    first.member.add_history_row(first.member.evaluate(), first.step, first.seconds)
    with first.backend.activate():
        while first.step < stop:
            first.take_steps(1)
            if first.step % 10 == 0 or first.step == stop:  # the last is a row that no unbroken run has
                first.member.add_history_row(first.member.evaluate(), first.step, first.seconds)
    state = first.state()
    [resumed], [unbroken] = trainer(state).run(), trainer().run()
    assert resumed.metrics["steps"] == 30
    assert same_bits(resumed.state.parameters, unbroken.state.parameters)
    for name, array in unbroken.state.optimizer.items():
        assert same_bits(resumed.state.optimizer[name], array)
    figures = [{**row, "seconds": None} for row in unbroken.history]
    assert [{**row, "seconds": None} for row in resumed.history] == figures


@pytest.mark.parametrize("stop", [10, 30])
def test_a_run_killed_between_a_step_and_its_row_writes_the_row_when_it_goes_on(cat, stop):
    def trainer(state=None):
        return Trainer([Job(load_picture(cat), make_config(SMALL))], NumpyBackend(threads=1), state)

    first = trainer()
    first.member.add_history_row(first.member.evaluate(), 0, 0.0)
    with first.backend.activate():
        while first.step < stop:
            first.take_steps(1)
    [resumed], [unbroken] = trainer(first.state()).run(), trainer().run()
    rows = [row for row in unbroken.history if row["step"] in (0, *range(stop, 31))]
    assert [{**row, "seconds": 0} for row in resumed.history] == [{**row, "seconds": 0} for row in rows]


def test_a_run_stopped_by_a_callback_goes_on_from_its_result(cat):
    config = make_config(SMALL)
    picture = load_picture(cat)
    half = fit_alone(
        Job(picture, config), NumpyBackend(threads=1), callback=lambda progress: progress.step >= 10
    )
    assert half.stopped == "interrupted"
    whole = fit_alone(Job(picture, config), NumpyBackend(threads=1), state=half.state)
    assert whole.stopped == "steps"
    assert whole.metrics["seconds"] >= half.metrics["seconds"]
    assert same_bits(whole.reconstruction, fit(cat).reconstruction)


def test_a_state_is_a_copy(cat):
    trainer = Trainer([Job(load_picture(cat), make_config(SMALL))], NumpyBackend(threads=1))
    state = trainer.state()
    before = state.parameters.copy()
    trainer.take_steps(1)
    assert same_bits(state.parameters, before)
    assert not any(array.any() for array in state.optimizer.values())


def test_checkpoints_are_given_at_the_end(cat):
    states = []
    trainer = Trainer([Job(load_picture(cat), make_config(SMALL))], NumpyBackend(threads=1))
    [result] = trainer.run(checkpoint=states.append)
    assert states[-1].step == 30
    assert same_bits(states[-1].parameters, result.state.parameters)


# --- many networks in one step ------------------------------------------------------------------------------

K, N, ROWS = 3, 40, 12


def one_step(backend, B, flat, loss, momentum, pixels, batch_rows=ROWS):
    """A `TrainingStep` on its own network: SGD with momentum, or Adam where that is None."""
    sizes = (2 if B is None else 2 * B.shape[-2], 8, 8, 3)
    tanh, sigmoid = make_activation("tanh"), make_activation("sigmoid")
    parameters = backend.asarray(flat.copy(), "float64")
    mlp = MLP(backend, sizes, parameters, tanh, sigmoid, rows=batch_rows, dtype="float64")
    if momentum is None:
        optimizer = ElementwiseOptimizer(backend, parameters, Adam(), dtype="float64")
    else:
        optimizer = ElementwiseOptimizer(
            backend, parameters, SGD(momentum=momentum, nesterov=True), dtype="float64"
        )
    encoder = FourierEncoder(backend, backend.asarray(B, "float64"))
    arrays = [None if a is None else backend.asarray(a, "float64") for a in pixels]
    return TrainingStep(backend, encoder, mlp, loss, optimizer, TrainingPixels(backend, *arrays), batch_rows)


@on("numpy", "numba", "strict", "cupy-on-host")
@pytest.mark.parametrize(
    ("own", "batches", "momentum"),
    [
        ("everything", "own", None),
        ("everything", "all", 0.9),
        ("nothing but weights", "shared", None),
        ("nothing but weights", "own", 0.9),
        ("targets", "shared", 0.9),
        ("pixel weights", "all", None),
    ],
)
def test_networks_together_are_networks_alone(backend, own, batches, momentum):
    rng = np.random.default_rng(1)
    everything = own == "everything"
    B = np.stack([Gaussian(4, s).frequencies(rng) for s in (1.0, 2.0, 4.0)])
    B = B if everything else B[0]
    flats = np.stack([initial_parameters((8, 8, 8, 3), "glorot", omega=1.0, rng=rng) for _ in range(K)])
    target = rng.random((K, N, 3)) if everything or own == "targets" else rng.random((N, 3))
    weights = rng.uniform(0, 2, (K, N, 1)) if everything else rng.uniform(0, 2, (N, 1))
    weights = weights if everything or own == "pixel weights" else None
    coordinates = rng.random((N, 2))
    rates = np.array([[1e-2], [3e-2], [0.0]]) if everything else np.full((K, 1), 1e-2)
    loss = Huber(0.2) if everything else MSE()
    rows = N if batches == "all" else ROWS

    together = one_step(backend, B, flats, loss, momentum, (coordinates, target, weights), rows)
    alone = [
        one_step(
            backend,
            B[k] if B.ndim == 3 else B,
            flats[k],
            loss,
            momentum,
            (
                coordinates,
                target[k] if target.ndim == 3 else target,
                weights[k] if weights is not None and weights.ndim == 3 else weights,
            ),
            rows,
        )
        for k in range(K)
    ]
    for _ in range(6):
        index = rng.integers(0, N, (K, ROWS))
        index = {"own": index, "shared": index[0], "all": None}[batches]
        values = backend.to_numpy(
            together(None if index is None else backend.asarray(index), backend.asarray(rates, "float64"))
        )
        assert values.shape == (K,)
        for k, step in enumerate(alone):
            mine = index if index is None or index.ndim == 1 else index[k]
            value = step(None if mine is None else backend.asarray(mine), float(rates[k, 0]))
            np.testing.assert_allclose(values[k], backend.to_numpy(value), rtol=1e-10)
    end = np.array(backend.to_numpy(together.mlp.parameters))
    gradient = np.array(backend.to_numpy(together.gradient))
    for k, step in enumerate(alone):
        np.testing.assert_allclose(end[k], backend.to_numpy(step.mlp.parameters), rtol=0, atol=1e-11)
        np.testing.assert_allclose(gradient[k], backend.to_numpy(step.gradient), rtol=0, atol=1e-11)
    assert np.abs(end[:2] - flats[:2]).max() > 0.001


# --- what comes back ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    """A fit of a picture that is not square."""
    return fit(bundled_picture(32).pixels[:, :20], steps=20)


def test_the_reconstruction_is_the_model_at_the_pixel_centres(fitted):
    rows, columns = np.mgrid[:32, :20]
    coordinates = np.stack([(columns + 0.5) / 32, (rows + 0.5) / 32], axis=-1)
    colours = fitted.model(coordinates)
    assert colours.shape == (32, 20, 3)
    np.testing.assert_allclose(np.clip(colours, 0, 1), fitted.reconstruction, atol=1e-6)


def test_a_model_takes_coordinates_of_any_shape(fitted):
    one = fitted.model(np.array([0.3, 0.4]))
    many = fitted.model(np.full((2, 3, 4, 2), [0.3, 0.4], dtype=np.float32))
    assert one.shape == (3,)
    assert many.shape == (2, 3, 4, 3)
    np.testing.assert_allclose(many, np.broadcast_to(one, many.shape), atol=1e-5)
    assert fitted.model(np.zeros((0, 2))).shape == (0, 3)
    for wrong in (np.zeros(3), np.zeros((4, 3)), np.array(0.5)):
        with pytest.raises(ValueError, match="shape"):
            fitted.model(wrong)


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(None, None, (32, 20)), (64, None, (64, 40)), (None, 10, (16, 10)), (7, 31, (7, 31)), (1, 1, (1, 1))],
)
def test_renderings_have_the_size_asked_for(fitted, height, width, shape):
    picture = fitted.render(height, width)
    assert picture.shape == (*shape, 3)
    assert 0 <= picture.min() <= picture.max() <= 1


def test_a_larger_rendering_shows_the_same_field_of_view(fitted):
    # The centre of pixel (i, j) is that of pixel (3 i + 1, 3 j + 1) at three times the size.
    large = fitted.render(96, 60)
    np.testing.assert_allclose(large[1::3, 1::3], fitted.reconstruction, atol=1e-5)


@pytest.mark.parametrize("crop", [(0, 0, 60, 96), (7, 11, 13, 5), (59, 95, 1, 1)])
def test_a_crop_is_a_window_of_the_whole(fitted, crop):
    left, top, width, height = crop
    whole = fitted.render(96, 60)
    window = fitted.render(96, 60, crop=crop)
    assert window.shape == (height, width, 3)
    np.testing.assert_allclose(window, whole[top : top + height, left : left + width], atol=1e-6)


@pytest.mark.parametrize("crop", [(-1, 0, 5, 5), (0, 0, 0, 5), (16, 0, 5, 5), (0, 30, 5, 5)])
def test_crops_outside_are_refused(fitted, crop):
    with pytest.raises(ValueError, match="crop"):
        fitted.render(crop=crop)
    for size in ((0, 5), (5, -1)):
        with pytest.raises(ValueError, match="1 pixel"):
            fitted.render(*size)


@pytest.mark.parametrize("chunk", [1, 7, 20, 41, 1000])
def test_a_rendering_in_chunks_is_the_whole(fitted, monkeypatch, chunk):
    whole = fitted.render(40, 25)
    monkeypatch.setattr("coordfit.models.model.CHUNK_PIXELS", chunk)
    np.testing.assert_allclose(fitted.render(40, 25), whole, atol=1e-6)


def test_renderings_on_several_threads_agree(cat):
    results = [fit(cat, hidden_size=64, steps=0, threads=threads) for threads in (1, 3)]
    one, three = (result.render(150, 150) for result in results)
    np.testing.assert_allclose(one, three, atol=1e-6)


def test_a_saved_model_gives_the_same_bits(fitted, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    model = coordfit.load(tmp_path / "m.safetensors", device="numpy", threads=1)
    assert same_bits(model.render(), fitted.reconstruction)
    assert same_bits(model.render(50), fitted.render(50))


def test_the_comparison_shows_the_picture_and_its_figures(fitted):
    picture = fitted.comparison()
    assert picture.width > 3 * 20
    shown = Image.open(BytesIO(fitted._repr_png_()))
    assert shown.size == picture.size
    figures = dict(fitted._figures())
    assert figures["PSNR"] == f"{fitted.metrics['psnr']:.2f} dB"
    assert figures["steps"] == "20"


def test_the_facts_of_the_picture_stay_with_the_model(fitted):
    assert fitted.model.picture == SignalFacts((32, 20), 3, 8, "array")
    assert dataclasses.is_dataclass(fitted)
    assert fitted.config.hidden_size == 16
