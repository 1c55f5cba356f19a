"""What the programs of the documentation need to run in tests: short trainings, and no screen."""

import matplotlib
import pytest
from matplotlib import pyplot

from coordfit.codec import Compressor
from coordfit.config import FitConfig

STEPS = 3


@pytest.fixture
def few_steps(monkeypatch):
    """All networks and all compressed pictures are trained for three steps, whatever their budget."""

    def short(levels, target, **options):
        return Compressor(levels, target, **options | {"steps": STEPS, "seconds": None})

    monkeypatch.setattr(FitConfig, "counted_steps", lambda config, num_training_pixels: STEPS)
    monkeypatch.setattr("coordfit.tasks.compress.Compressor", short)


@pytest.fixture
def headless(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(pyplot, "show", lambda: None)  # which warns where there is a screen
    before = matplotlib.get_backend()
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")
    pyplot.switch_backend(before)
