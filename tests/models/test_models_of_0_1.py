"""Models and unfinished runs that coordfit 0.1 wrote (see data/models_0_1/make.py) are as good as new ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coordfit
from coordfit.cli import main

FOLDER = Path(__file__).parents[1] / "data" / "models_0_1"
MODELS = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
RUNS = sorted(path.name for path in (FOLDER / "unfinished").iterdir())
LARGER = {"height": 37, "crop": (3, 5, 20, 17)}
NUMPY = {"device": "numpy", "threads": 1}
# Of levels from 0 to 1. Another BLAS, or another machine, adds in another order.
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
# Of what six steps more have learned: each step amplifies what the ones before it differ in.
TOLERANCES_OF_RESUMED = {"float32": 1e-4, "float64": 1e-9}
# Steps of Gauss-Newton amplify it more: 1.4e-4 on an Intel Xeon. Twice or half the damping makes 0.1 and more.
TOLERANCES_OF_GAUSS_NEWTON = {"float32": 1e-3}


@pytest.fixture(scope="module")
def expected():
    """What 0.1 drew, by name."""
    with np.load(FOLDER / "expected.npz") as file:
        return dict(file)


def agree(picture, of_0_1, tolerances=TOLERANCES):
    assert picture.dtype == of_0_1.dtype
    assert picture.shape == of_0_1.shape
    np.testing.assert_allclose(picture, of_0_1, rtol=0.0, atol=tolerances[str(of_0_1.dtype)])


def test_nothing_is_left_out(expected):
    names = [*MODELS, *(f"{name}-larger" for name in MODELS), *(f"unfinished/{name}" for name in RUNS)]
    assert sorted(expected) == sorted(names)
    assert len(MODELS) >= 12
    assert len(RUNS) >= 5


@pytest.mark.parametrize("name", MODELS)
def test_a_model_draws_what_it_drew(name, expected):
    model = coordfit.load(FOLDER / f"{name}.safetensors", **NUMPY)
    agree(model.render(), expected[name])
    agree(model.render(**LARGER), expected[f"{name}-larger"])


@pytest.mark.parametrize("name", MODELS)
def test_the_command_line_reads_a_model(name, expected, tmp_path, capsys):
    file, drawn = str(FOLDER / f"{name}.safetensors"), tmp_path / "drawn.png"
    assert main(["info", file, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["config"]["activation"] in ("relu", "sine", "tanh", "sigmoid", "identity")
    assert main(["render", file, "--out", str(drawn), "--device", "numpy", "--no-progress"]) == 0
    with Image.open(drawn) as picture:
        levels = np.asarray(picture)
    assert np.max(np.abs(levels / np.iinfo(levels.dtype).max - expected[name].squeeze())) <= 0.51 / 255


@pytest.mark.parametrize("name", RUNS)
def test_an_unfinished_run_goes_on_as_it_would_have(name, expected, tmp_path, capsys):
    folder = shutil.copytree(FOLDER / "unfinished" / name, tmp_path / name)
    words = ["--out", str(folder), "--resume", "--steps", "12", "--device", "numpy", "--threads", "1", "--json"]
    assert main(["fit", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"]["steps"] == 12
    rows = (folder / "history.csv").read_text().splitlines()
    assert rows[:8] == (FOLDER / "unfinished" / name / "history.csv").read_text().splitlines()
    tolerances = TOLERANCES_OF_GAUSS_NEWTON if name == "gauss-newton" else TOLERANCES_OF_RESUMED
    agree(coordfit.load(folder, **NUMPY).render(), expected[f"unfinished/{name}"], tolerances)


@pytest.mark.parametrize("name", ["float64", "none-relu"])
def test_a_small_difference_is_seen(name, expected):
    """So the tests above would see a library that reads or draws a little differently."""
    picture = expected[name]
    for too_much in (3 * TOLERANCES[str(picture.dtype)], np.nan):
        changed = picture.copy()
        changed[3, 4, 0] += too_much
        with pytest.raises(AssertionError):
            agree(changed, picture)
    with pytest.raises(AssertionError):
        agree(picture.swapaxes(0, 1), picture)
