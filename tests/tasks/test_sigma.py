import math

import numpy as np
import pytest

from coordfit.backends import get_backend
from coordfit.config import make_config
from coordfit.images import bundled_picture, load_picture
from coordfit.tasks.jobs.network import NetworkJob
from coordfit.tasks.jobs.plan import settled as settled_job
from coordfit.tasks.jobs.sigma import CANDIDATES, _interpolating, _mosaic, _peak, choose_sigma
from coordfit.training.job import Job

# The choice is made of whole trainings, which other tests hold to be the same on every backend.
FAST = {"sigma": "auto", "steps": 300, "hidden_size": 32, "num_frequencies": 32}


@pytest.fixture(scope="module")
def host():
    return get_backend("numpy", threads=1)


def waves(cycles, size=32):
    """A picture of waves with so many cycles along each axis."""
    x = (np.arange(size) + 0.5) / size
    wave = np.sin(2 * np.pi * cycles * x)
    return load_picture(0.5 + 0.25 * (wave[:, None] * wave[None, :])[..., None].repeat(3, axis=-1))


@pytest.mark.parametrize("train_on", ["all", "every-second"])
def test_finer_pictures_get_a_larger_sigma(host, train_on):
    config = make_config(FAST, {"train_on": train_on})
    coarse, fine = (choose_sigma(Job(waves(cycles, 64), config), host)[0] for cycles in (1, 12))
    assert coarse < 0.8 * fine


def test_a_longer_training_gets_a_larger_sigma(host):
    cat, choice = bundled_picture(128), {}
    for steps in (200, 1500):
        choice[steps] = choose_sigma(Job(cat, make_config(FAST, {"steps": steps})), host)[0]
    assert 1.3 * choice[200] < choice[1500], choice


def test_held_out_pixels_are_never_looked_at(host):
    picture = waves(3)
    spoiled = picture.pixels.copy()
    spoiled[1::2], spoiled[:, 1::2] = 0.0, 1.0
    config = make_config(FAST, {"train_on": "every-second"})
    scores = [choose_sigma(Job(load_picture(p), config), host)[1] for p in (picture.pixels, spoiled)]
    assert scores[0] == scores[1]
    # of 16 training pixels along each side, and known ones that are as many say the same
    assert [round(sigma, 2) for sigma in scores[0]] == [0.2, 0.32, 0.52, 0.8, 1.33, 2.11, 3.33]
    known = np.zeros((32, 32), bool)
    known[::2, ::2] = True
    assert choose_sigma(Job(picture, config.replace(train_on="all"), known), host)[1] == scores[0]


@pytest.mark.parametrize("size", [8, 32, 128])
def test_pixels_that_score_a_sigma_are_not_among_those_it_learns(size):
    config, train = make_config(FAST, {"train_on": "every-second"}), np.zeros((size, size), bool)
    train[::2, ::2] = True
    trials = _interpolating(Job(waves(3, size), config), train)
    for trial in trials:
        assert not (trial.seen & trial.scored).any()
        np.testing.assert_array_equal(trial.seen | trial.scored, train)
        assert trial.scored.sum() == train.sum() // 5
    assert np.sum([trial.scored for trial in trials], axis=0).max() == 1, "each takes another fifth"


def test_the_settings_keep_all_but_sigma(host):
    config = make_config(FAST, {"hidden_size": 24, "steps": 5, "encoding": "positional", "seconds": 1.0})
    settled = settled_job(NetworkJob(waves(2), config), host)[0].config
    assert 3 * CANDIDATES[0] <= settled.sigma <= 3 * CANDIDATES[-1]
    assert settled.sigma == float(f"{settled.sigma:.2g}")
    assert settled == config.replace(sigma=settled.sigma)


@pytest.mark.parametrize("shape", [(128, 128), (128, 96), (33, 70), (9, 200), (5, 5), (1, 3), (1, 1)])
def test_a_mosaic_is_a_sixteenth_of_the_picture_in_whole_blocks(shape):
    mosaic = _mosaic(shape, np.random.default_rng(0))
    assert mosaic.shape == shape
    pixels = math.prod(shape)
    assert min(pixels, 64) * 0.9 <= mosaic.sum() <= max(pixels / 16, min(pixels, 128))
    if shape == (128, 128):
        blocks = mosaic.reshape(16, 8, 16, 8).any(axis=(1, 3))
        assert mosaic.sum() == 1024
        assert blocks.sum() == 16  # none is cut
        assert blocks.any(axis=1).all()  # from the top to the bottom


def test_the_peak_lies_between_the_candidates():
    sigmas = [2.0, 4.0, 8.0, 16.0]
    for top in (3.0, 5.0, 11.0):
        scores = {sigma: 30.0 - 2.0 * math.log(sigma / top) ** 2 for sigma in sigmas}
        assert _peak(scores) == pytest.approx(top)
    assert _peak({2.0: 1.0, 4.0: 2.0, 8.0: 3.0}) == 8.0
    assert _peak({2.0: -math.inf, 4.0: 2.0, 8.0: 1.0}) == 4.0
    assert _peak(dict.fromkeys(sigmas, 5.0)) == pytest.approx(math.sqrt(32.0))  # the middle of all
    assert _peak({2.0: 1.0, 4.0: 5.0, 8.0: 4.99, 16.0: 2.0}) == pytest.approx(math.sqrt(32.0))


def test_what_is_learned_to_the_last_bit_is_level(host):
    flat = load_picture(np.full((8, 8, 1), 128, np.uint8))
    config = make_config(FAST, {"steps": 1500, "hidden_size": 64})
    sigma, scores = choose_sigma(Job(flat, config), host)
    assert sigma == 10.0  # the middle of all
    assert [round(score, 2) for score in scores.values()] == [58.92] * 7  # -10 log10(1 / (12 255^2))
