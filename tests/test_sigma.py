import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from coordfit import sigma as sigma_module
from coordfit.config import make_config
from coordfit.ensemble import Job
from coordfit.images import load_picture
from coordfit.sigma import CANDIDATES, choose_sigma, with_sigma


def waves(cycles, size=32):
    """A picture of waves with so many cycles along each axis."""
    x = (np.arange(size) + 0.5) / size
    wave = np.sin(2 * np.pi * cycles * x)
    return load_picture(0.5 + 0.25 * (wave[:, None] * wave[None, :])[..., None].repeat(3, axis=-1))


@pytest.fixture
def backend():
    """One library is enough: the choice is made on the host."""
    return NumpyBackend(threads=1)


@pytest.fixture(autouse=True)
def shorter_runs(monkeypatch):
    monkeypatch.setitem(sigma_module._SHORT_RUN, "steps", 60)


def test_finer_pictures_get_a_larger_sigma(backend):
    config = make_config({"sigma": "auto"})
    chosen = [choose_sigma(Job(waves(cycles), config), backend)[0] for cycles in (1, 12)]
    assert chosen[0] < chosen[1]


def test_held_out_pixels_are_never_looked_at(backend):
    picture = waves(3)
    spoiled = picture.pixels.copy()
    spoiled[1::2], spoiled[:, 1::2] = 0.0, 1.0
    config = make_config({"sigma": "auto", "train_on": "every-second"})
    scores = [choose_sigma(Job(load_picture(p), config), backend)[1] for p in (picture.pixels, spoiled)]
    assert scores[0] == scores[1]
    assert set(scores[0]) == set(CANDIDATES)


def test_the_settings_keep_all_but_sigma(backend):
    config = make_config({"sigma": "auto", "hidden_size": 24, "steps": 5})
    settled = with_sigma(Job(waves(2), config), backend)
    assert settled.sigma in CANDIDATES
    assert settled == config.replace(sigma=settled.sigma)
