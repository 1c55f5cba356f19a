"""Every example of docs/gallery draws a figure; training takes a few steps here."""

import runpy
import tempfile
from pathlib import Path

import matplotlib
import pytest
from matplotlib import pyplot
from support import needs

from coordfit.codec import Compressor
from coordfit.config import FitConfig

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("*.py"))
MOST_LINES = 40
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


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_draws_a_figure(script, tmp_path, monkeypatch, few_steps, headless):
    if "import distributed" in script.read_text(encoding="utf-8"):
        needs.library("distributed", "dask")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = _files()
    runpy.run_path(str(script), run_name="__main__")
    assert pyplot.get_fignums()
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()  # a layout that fails is a warning
    assert _files() == before
    assert len(script.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_there_are_examples():
    assert len(SCRIPTS) >= 14
    assert all(script.name.startswith("plot_") for script in SCRIPTS)  # others are shown, and not run


def _files():
    return {*(ROOT / "docs").rglob("*")}
