"""K networks trained together are K networks trained alone."""

import dataclasses

import numpy as np
import pytest
from support.backend_matrix import on

from coordfit.backends import get_backend
from coordfit.config import make_config
from coordfit.errors import ConfigError
from coordfit.images import bundled_picture, load_picture
from coordfit.training.evaluation import Evaluator
from coordfit.training.job import Job, group_by_shape
from coordfit.training.trainer import Trainer, fit_alone, fit_together

SMALL = {
    "steps": 12,
    "evaluate_every": 6,
    "num_frequencies": 8,
    "hidden_size": 12,
    "depth": 3,
    "batch_size": 100,
    "dtype": "float64",
}
# What may differ between the members of one batch.
DIFFERENCES = {
    "encodings": [{"encoding": name} for name in ("none", "basic", "positional", "gaussian")],
    "sigmas": [{"sigma": sigma} for sigma in (1.0, 3.0, 9.0)],
    "seeds": [{"seed": seed} for seed in (0, 1, 2)],
    "losses": [
        {"loss": "mae"},
        {"loss": "mse"},
        {"loss": "huber"},
        {"loss": "mse"},
        {"loss": "huber", "delta": 0.3},
    ],
    "rates": [{"learning_rate": rate} for rate in (1e-3, 1e-2)],
    "schedules": [{"schedule": "constant"}, {"schedule": "cosine", "warmup_steps": 3}, {"final_factor": 0.5}],
    "initializers": [{"initializer": name} for name in ("he", "glorot")],
    "all of it": [{"encoding": "none", "loss": "mae"}, {"seed": 5, "sigma": 2.0}, {"learning_rate": 1e-2}],
}
# Without a sigmoid at the end a step that is too long ends in infinity.
UNBOUNDED = {"optimizer": "sgd", "output_activation": "identity"}
SHARED = [
    {},
    {"batch_size": None},
    {"optimizer": "sgd", "momentum": 0.9},
    {"optimizer": "muon", "depth": 4},
    {"train_on": "every-second"},
]


@pytest.fixture(scope="module")
def cat():
    return bundled_picture(32)


def alone(backend, job):
    return fit_alone(Job(job.signal, job.config, job.known), backend)


def assert_together_equals_alone(backend, jobs):
    together = fit_together(jobs, backend)
    for job, result in zip(jobs, together, strict=True):
        own = alone(backend, job)
        np.testing.assert_allclose(result.state.parameters, own.state.parameters, rtol=1e-7, atol=1e-9)
        for name, array in own.state.optimizer.items():
            np.testing.assert_allclose(result.state.optimizer[name], array, rtol=1e-6, atol=1e-9, err_msg=name)
        assert result.metrics["psnr"] == pytest.approx(own.metrics["psnr"], abs=1e-6)
        assert [row["step"] for row in result.history] == [row["step"] for row in own.history]
        assert [row["loss"] for row in result.history] == pytest.approx([row["loss"] for row in own.history])
    return together


@on("numba", "strict")
@pytest.mark.parametrize("differences", DIFFERENCES.values(), ids=DIFFERENCES)
def test_members_that_differ_learn_what_each_learns_alone(backend, cat, differences):
    jobs = [Job(cat, make_config(SMALL, own)) for own in differences]
    together = assert_together_equals_alone(backend, jobs)
    assert len({result.metrics["psnr"] for result in together}) > 1  # they do differ


@on("numba", "cupy-on-host")
@pytest.mark.parametrize("shared", SHARED, ids=str)
def test_members_share_what_shapes_the_step(idle_backend, cat, shared):
    jobs = [Job(cat, make_config(SMALL, shared, {"sigma": sigma})) for sigma in (1.0, 5.0)]
    assert_together_equals_alone(idle_backend, jobs)


@on("numba", "cupy-on-host")
def test_members_have_pictures_of_their_own(idle_backend, cat):
    pictures = [cat, load_picture(cat.pixels[::-1].copy()), load_picture(1.0 - cat.pixels)]
    together = assert_together_equals_alone(idle_backend, [Job(p, make_config(SMALL)) for p in pictures])
    assert len({result.metrics["psnr"] for result in together}) == 3


@on("numba", "cupy-on-host")
def test_members_have_masks_of_their_own(idle_backend, cat):
    masks = [np.random.default_rng(seed).permutation(1024).reshape(32, 32) < 400 for seed in (1, 2)]
    for batch_size in (100, None):
        config = make_config(SMALL | {"batch_size": batch_size})
        together = assert_together_equals_alone(idle_backend, [Job(cat, config, mask) for mask in masks])
        assert all(result.metrics["psnr_held_out"] is not None for result in together)


@on("numba", "cupy-on-host")
def test_members_may_differ_in_everything_at_once(idle_backend, cat):
    masks = [np.random.default_rng(seed).permutation(1024).reshape(32, 32) < 400 for seed in (1, 2, 3)]
    pictures = [cat, load_picture(cat.pixels[::-1].copy()), load_picture(1.0 - cat.pixels)]
    own = [
        {"encoding": "none", "loss": "mae", "learning_rate": 1e-2},
        {"encoding": "gaussian", "sigma": 2.0, "seed": 5},
        {"encoding": "basic", "loss": "huber", "schedule": "constant"},
    ]
    configs = [make_config(SMALL, {"steps": 6}, settings) for settings in own]
    jobs = [Job(*parts) for parts in zip(pictures, configs, masks, strict=True)]
    assert_together_equals_alone(idle_backend, jobs)


@on("numba", "cupy-on-host")
def test_a_mask_hides_pixels_from_the_loss(idle_backend, cat):
    known = np.random.default_rng(0).uniform(size=(32, 32)) < 0.5
    spoiled = cat.pixels.copy()
    spoiled[~known] = 1.0 - spoiled[~known]
    jobs = [Job(picture, make_config(SMALL), known) for picture in (cat, load_picture(spoiled))]
    first, second = (fit_together([job], idle_backend)[0] for job in jobs)
    np.testing.assert_array_equal(first.state.parameters, second.state.parameters)
    assert first.metrics["psnr_held_out"] != second.metrics["psnr_held_out"]


def test_jobs_are_grouped_by_what_shapes_them(cat):
    configs = [{}, {"sigma": 3.0}, {"depth": 2}, {"hidden_size": 8}, {"seed": 1}, {"depth": 2, "loss": "mae"}]
    jobs = [Job(cat, make_config(SMALL, own)) for own in configs]
    assert group_by_shape(jobs) == [[0, 1, 4], [2, 5], [3]]
    with pytest.raises(ConfigError, match="must have the same shapes"):
        Trainer(jobs, None)
    other = load_picture(cat.pixels[:16].copy())
    assert group_by_shape([Job(cat, jobs[0].config), Job(other, jobs[0].config)]) == [[0], [1]]


@on("numba", "cupy-on-host")
@pytest.mark.gpu_smoke
def test_a_member_that_diverges_harms_no_other(idle_backend, cat):
    rates = (1e-3, 1e30)
    jobs = [Job(cat, make_config(SMALL, UNBOUNDED, {"learning_rate": rate})) for rate in rates]
    with np.errstate(all="ignore"):
        good, bad = fit_together(jobs, idle_backend)
    assert (good.stopped, bad.stopped) == ("steps", "diverged")
    assert good.metrics["psnr"] == pytest.approx(alone(idle_backend, jobs[0]).metrics["psnr"], abs=1e-9)
    assert np.isfinite(bad.state.parameters).all()
    assert np.isfinite(bad.reconstruction).all()


@on("numba", "cupy-on-host")
@pytest.mark.gpu_smoke
def test_a_callback_is_told_of_all_members_and_can_stop_them(idle_backend, cat, monkeypatch):
    monkeypatch.setattr("coordfit.training.loop.CALLBACK_SECONDS", 1e9)  # evaluations alone
    told = []

    def callback(progress):
        if progress.evaluated:
            told.append((progress.step, [member.config.sigma for member in progress.members]))
        return progress.step >= 6

    jobs = [
        Job(cat, make_config(SMALL, {"sigma": s, "loss": loss})) for s, loss in ((1.0, "mse"), (2.0, "mae"))
    ]
    results = fit_together(jobs, idle_backend, callback)
    assert told[:2] == [(0, [1.0, 2.0]), (6, [1.0, 2.0])]
    # Where a device sends its figures later, the steps up to the next evaluation have been taken by then.
    assert len(told) == 2 if idle_backend.device == "cpu" else len(told) <= 3
    assert [result.stopped for result in results] == ["interrupted", "interrupted"]
    assert [result.metrics["networks"] for result in results] == [2, 2]


@on("numba", "cupy-on-host")
def test_a_callback_sees_the_networks_that_its_figures_are_of(backend, cat):
    seen = []

    def callback(progress):
        if progress.evaluated:
            seen.extend((member.evaluate().loss, member.history[-1]["loss"]) for member in progress.members)

    fit_together([Job(cat, make_config(SMALL, {"seed": seed})) for seed in (0, 1)], backend, callback)
    shown, told = zip(*seen, strict=True)
    assert len(told) == 6
    assert shown == pytest.approx(told)


@on("numpy")
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((4, 5), bool), "the mask is 5x4 pixels and the picture 32x32"),
        (np.zeros((32, 32), bool), "the mask hides all pixels"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(idle_backend, cat, mask, message):
    with pytest.raises(ConfigError, match=message):
        Trainer([Job(cat, make_config(SMALL), mask)], idle_backend)


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("encoding", ["gaussian", "basic"])
def test_figures_from_kept_features_are_those_of_computed_ones(cat, name, encoding):
    if name == "numba":
        pytest.importorskip("numba")
    backend = get_backend(name)
    config = make_config(SMALL | {"encoding": "gaussian", "sigma": 3.0})
    jobs = [Job(cat, config), Job(cat, dataclasses.replace(config, encoding=encoding, seed=4))]
    trainer = Trainer(jobs, backend)
    for member in trainer.members:
        knows = member.model.encoder.num_features == trainer.encoder.num_features
        assert (member.evaluate_all.features is not None) == knows, "padded features are another network's"
        kept = member.evaluate(), member.evaluate_all.with_ssim()
        anew = Evaluator(member.model, member.loss, member.target, member.train)
        assert kept == (anew(), anew.with_ssim())
