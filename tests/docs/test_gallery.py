"""Every example of docs/gallery draws a figure; training takes a few steps here."""

import runpy
import tempfile
from pathlib import Path

import pytest
from matplotlib import pyplot
from support import needs

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("*.py"))
MOST_LINES = 40


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


def test_every_example_has_a_place_in_the_gallery():
    order = runpy.run_path(str(ROOT / "docs" / "_ext" / "gallery_order.py"))
    assert sorted(order["EXAMPLES"]) == [script.stem for script in SCRIPTS]


def _files():
    return {*(ROOT / "docs").rglob("*")}
