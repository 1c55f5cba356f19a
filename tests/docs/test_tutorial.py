"""The notebook of the tutorial is clean and short, and runs to its last cell with a few steps of training."""

import ast
import json
import re
import sys
import types
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image
from support.cases import slow

import coordfit
from coordfit.config import FitConfig

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "tutorial.ipynb"
NOTEBOOK = json.loads(FILE.read_text(encoding="utf-8"))
CELLS = NOTEBOOK["cells"]
CODE = {cell["id"]: "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"}
MOST_LINES = 20
STEPS = 3
STEPS_OF_THE_TASK = 10


@pytest.fixture
def notebook(monkeypatch, tmp_path):
    """A kernel's modules without a kernel, figures without a screen, and three steps for each network."""
    shown = []

    class Display:
        def update(self, shown_now):
            shown.append(shown_now)

    def display(first, *, display_id):
        shown.append(first)
        return Display()

    module = types.ModuleType("IPython.display")
    module.HTML, module.display = str, display
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(FitConfig, "counted_steps", lambda config, num_training_pixels: STEPS)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(pyplot, "show", lambda: None)  # which warns where there is a screen
    monkeypatch.chdir(tmp_path)
    before = matplotlib.get_backend()
    pyplot.switch_backend("Agg")
    with matplotlib.rc_context():
        yield shown
    pyplot.close("all")
    pyplot.switch_backend(before)


@pytest.mark.parametrize("picture", [None, *slow("photo.jpg")])
def test_every_cell_runs_with_a_few_steps(notebook, picture):
    """With the bundled picture, and with a grey one that is not square, by the one line to change."""
    line = "PICTURE = None"
    assert CODE["picture"].count(line) == 1
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (140, 200), dtype=np.uint8)).save("photo.jpg")
    changed = CODE | {"picture": CODE["picture"].replace(line, f"PICTURE = {picture!r}")}
    namespace, drawn = {"__name__": "tutorial"}, []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, text in changed.items():
            exec(compile(text, name, "exec"), namespace)
            for number in pyplot.get_fignums():
                pyplot.figure(number).canvas.draw()  # a layout that fails is a warning
                drawn.append(name)
            pyplot.close("all")
    assert any("psnr" in str(text).lower() for text in notebook)  # live=True
    assert drawn == [name for name, text in CODE.items() if "plt.subplot" in text]
    assert len(drawn) >= STEPS_OF_THE_TASK


def test_it_is_stored_without_outputs_and_with_names_of_cells():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    for cell in CELLS:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    names = [cell["id"] for cell in CELLS]
    assert len({*names}) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in names)
    assert FILE.read_text(encoding="utf-8") == json.dumps(NOTEBOOK, indent=1, ensure_ascii=False) + "\n"


def test_its_cells_are_short():
    assert {name: len(text.splitlines()) for name, text in CODE.items() if text.count("\n") >= MOST_LINES} == {}


def test_every_figure_has_a_text_in_its_place():
    drawing = [cell for cell in CELLS if "plt.subplot" in "".join(cell["source"])]
    assert all(cell["metadata"]["mystnb"]["image"]["alt"] for cell in drawing)


def test_every_step_asks_a_question():
    text = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    steps = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    numbered = [step for step in steps if re.match(r"\d+\. ", step)]
    assert len(numbered) == STEPS_OF_THE_TASK
    assert all("**Question.**" in step and "<summary>Answer</summary>" in step for step in numbered)


def test_it_uses_public_names_alone():
    tree = ast.parse("\n".join(CODE.values()))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or node.names[0].name for node in imported}
    assert modules == {"matplotlib.pyplot", "numpy", "coordfit", "dataclasses", "importlib.util"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "coordfit"
    }
    assert used
    assert used <= {*coordfit.__all__}
