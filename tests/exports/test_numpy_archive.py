"""The README of an `.npz` archive is a program, and runs as it stands."""

import subprocess
import sys

import numpy as np
import pytest
from support.exported import MODELS, model, points

import coordfit


@pytest.mark.parametrize("name", MODELS)
def test_the_program_in_an_archive_gives_the_same_colours(tmp_path, monkeypatch, name):
    of = model(name, "float64")
    coordfit.export(of, tmp_path / "picture.npz")
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(str(np.load("picture.npz")["README"]), found)
    np.testing.assert_allclose(found["colours"](points(of)), of(points(of)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["picture"](), of.render(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["picture"](7, 11), of.render(7, 11), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gaussian, relu", "tiles"])
def test_the_program_needs_numpy_alone(tmp_path, name):
    coordfit.export(model(name), tmp_path / "picture.npz")
    code = (
        "import numpy; exec(str(numpy.load('picture.npz')['README'])); print(colours(numpy.ones((5, 2))).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("(5, 3)\n", "")


def test_arrays_have_plain_names_and_need_no_pickle(tmp_path):
    with np.load(coordfit.export(model("tiles"), tmp_path / "picture.npz"), allow_pickle=False) as archive:
        shapes = {name: archive[name].shape for name in archive.files}
    tiles = len(model("tiles").layout)
    assert shapes["README"] == ()
    assert shapes["B"] == (9, 2)
    assert [shapes[name] for name in ("W0", "b0", "W2")] == [(tiles, 18, 14), (tiles, 14), (tiles, 14, 3)]
