"""Losses of every step come back with the result, and a run that diverges is always reported."""

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support.trainers import SETTINGS, make_trainer

import coordfit.training.step_losses
from coordfit.backends import get_backend
from coordfit.config import make_config
from coordfit.images import load_picture
from coordfit.training.job import Job
from coordfit.training.step_losses import StepLosses
from coordfit.training.trainer import fit_alone, fit_together

fake_cupy = pytest.importorskip("support.fake_cupy")
on_host = pytest.mark.skipif(bool(fake_cupy.why_unavailable()), reason=fake_cupy.why_unavailable() or "-")

MAKERS = {
    "numpy": lambda: NumpyBackend(threads=1),
    "numpy-2-threads": lambda: NumpyBackend(threads=2),
    "compiled": lambda: compiled_backend(),
    "recorded": lambda: fake_cupy.CupyOnHost(),
}
every_maker = pytest.mark.parametrize("name", [*list(MAKERS)[:3], pytest.param("recorded", marks=on_host)])


def compiled_backend():
    pytest.importorskip("numba")
    return get_backend("numba", threads=2)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    new = fake_cupy.Machine()
    monkeypatch.setattr(fake_cupy, "machine", new)
    return new


@pytest.fixture
def picture():
    return load_picture(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8))


@every_maker
def test_a_result_has_the_loss_of_every_step(picture, name):
    """Of a full batch, the loss before a step is that of the evaluation before it."""
    told = []
    trainer = make_trainer(picture, MAKERS[name](), batch_size=None, steps=30, evaluate_every=20)
    [result] = trainer.run(callback=lambda progress: told.append(progress.batch_loss))
    assert result.step_losses.shape == (30,)
    for row in result.history[:-1]:
        assert result.step_losses[row["step"]] == pytest.approx(row["loss"], rel=1e-4)
    assert told[0] is None or name == "recorded", "there the first row comes after some steps"
    assert told[-1] == pytest.approx(result.step_losses[20:].mean(), rel=0.5)


@every_maker
def test_each_member_has_its_own(picture, name):
    configs = [make_config(SETTINGS | {"steps": 5, "seed": k, "loss": ("mse", "mae")[k % 2]}) for k in range(3)]
    together = fit_together([Job(picture, config) for config in configs], MAKERS[name]())
    for config, result in zip(configs, together, strict=True):
        alone = fit_alone(Job(picture, config), MAKERS[name]())
        np.testing.assert_allclose(result.step_losses, alone.step_losses, rtol=2e-3)


def test_of_a_long_run_the_last_are_kept(monkeypatch):
    monkeypatch.setattr(coordfit.training.step_losses, "MOST_STEPS", 10)
    losses = StepLosses()
    assert losses.array.shape == (0,)
    assert losses.recent_mean is None
    for start in range(0, 35, 7):
        losses.add(np.arange(start, start + 7, dtype=np.float32))
        assert sum(map(len, losses._parts)) <= 20 + 7
    np.testing.assert_array_equal(losses.array, np.arange(25, 35))
    assert not losses.has_diverged
    losses.add(np.array([1.0, np.nan]))
    assert losses.has_diverged
    together = StepLosses()
    for of_members, is_over in (([1.0, np.nan], False), ([np.nan, np.nan], True)):
        together.add(np.array([of_members]))
        assert together.has_diverged == is_over


# -- divergence ------------------------------------------------------------------------------------------


@on_host
@pytest.mark.parametrize("layer", [0, 1])
def test_an_early_layer_that_is_no_number_ends_the_run_though_the_loss_is_finite(picture, layer):
    trainer = make_trainer(picture, fake_cupy.CupyOnHost(), steps=6, evaluate_every=2)

    take_steps = trainer.take_steps

    def break_it(limit):
        if trainer.step == 2:
            trainer.model.mlp.layers[layer].W[...] = np.nan
            assert np.isfinite(trainer.member.evaluate().loss), "cublasLt's ReLU has hidden it"
        take_steps(limit)

    trainer.take_steps = break_it
    [result] = trainer.run()
    assert result.stopped == "diverged"
    assert [row["step"] for row in result.history] == [0, 2]
    assert np.isfinite(result.state.parameters).all()
    assert np.isfinite(result.reconstruction).all()


@every_maker
@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_comes_back_is_finite_whatever_the_learning_rate(picture, name, depth, optimizer):
    """Activations that overflow in the middle: later layers see infinity minus infinity."""
    options = {"steps": 6, "evaluate_every": 3, "learning_rate": 1e30, "schedule": "constant"}
    trainer = make_trainer(picture, MAKERS[name](), **options, depth=depth, optimizer=optimizer)
    [result] = trainer.run()
    is_finite = np.isfinite(result.state.parameters).all() and np.isfinite(result.metrics["loss"])
    assert is_finite


@every_maker
def test_members_that_diverge_are_told_apart(picture, name):
    rates = (1e-3, 1e35)
    settings = SETTINGS | {"steps": 6, "optimizer": "sgd", "depth": 5, "schedule": "constant"}
    jobs = [Job(picture, make_config(settings | {"learning_rate": rate})) for rate in rates]
    results = fit_together(jobs, MAKERS[name]())
    assert [result.stopped for result in results] == ["steps", "diverged"]
    assert all(np.isfinite(result.state.parameters).all() for result in results)


def test_a_loss_that_is_no_number_ends_the_run_before_the_next_evaluation(picture, monkeypatch):
    monkeypatch.setattr("coordfit.training.loop.CALLBACK_SECONDS", 0.02)
    options = {"steps": 10**6, "learning_rate": 1e38, "optimizer": "sgd", "schedule": "constant"}
    trainer = make_trainer(picture, NumpyBackend(threads=1), **options)
    with np.errstate(all="ignore"):
        [result] = trainer.run()
    assert result.stopped == "diverged"
    assert trainer.losses.array.size < 40_000  # the first evaluation is after so many


def test_no_checkpoint_holds_numbers_that_are_not_finite(picture, monkeypatch):
    """A step may overflow whose loss is finite; the next evaluation is far, and the next checkpoint is due."""
    monkeypatch.setattr("coordfit.training.loop.CALLBACK_SECONDS", 0.0)
    monkeypatch.setattr("coordfit.training.loop.CHECKPOINT_SECONDS", 0.0)
    options = {"steps": 50, "evaluate_every": 50, "learning_rate": 1e39, "optimizer": "sgd"}
    options |= {"schedule": "constant", "output_activation": "identity"}
    trainer, saved = make_trainer(picture, NumpyBackend(threads=1), **options), []
    with np.errstate(all="ignore"):
        [result] = trainer.run(checkpoint=saved.append)
    assert result.stopped == "diverged"
    assert saved
    assert all(np.isfinite(state.parameters).all() for state in saved)
