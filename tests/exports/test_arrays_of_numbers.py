"""Exports of signals that are no pictures take and give the signal's own units."""

import importlib.util

import numpy as np
import pytest
from support import needs

import coordfit
from coordfit.errors import ConfigError

SHAPES = {1: (60,), 2: (13, 18), 3: (10, 12, 9)}
UNITS = {"spacing": 0.25, "origin": -3.0}
SMALL = {"hidden_size": 10, "depth": 3, "num_frequencies": 7, "steps": 20}


def model(dimensions, **options):
    values = np.random.default_rng(0).normal(500.0, 90.0, (*SHAPES[dimensions], 2))
    return coordfit.fit_array(values, "zyx"[-dimensions:], **UNITS, **SMALL | options).model


def points(dimensions):
    return np.random.default_rng(1).uniform(-3.2, 1.0, (300, dimensions)).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"encoding": "grid"}, {"tiles": 4}], ids=["network", "grid", "tiles"])
@pytest.mark.parametrize("dimensions", SHAPES)
def test_onnx_takes_and_gives_the_units_of_the_signal(tmp_path, dimensions, options):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    of, at = model(dimensions, **options), points(dimensions)
    path = coordfit.export(of, tmp_path / "signal.onnx")
    [found] = runtime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"coordinates": at})
    np.testing.assert_allclose(found, of(at), rtol=0, atol=1e-5 * 1000)


@pytest.mark.parametrize(
    ("dimensions", "options"), [(1, {}), (3, {}), (2, {"tiles": 4}), (2, {"encoding": "grid"})]
)
def test_programs_take_and_give_the_units_of_the_signal(tmp_path, dimensions, options):
    of, at = model(dimensions, **options), points(dimensions)
    archive = coordfit.export(of, tmp_path / "signal.npz")
    program = {"__name__": "README"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(str(np.load(archive)["README"]), program)
    np.testing.assert_allclose(program["values"](at), of(at), rtol=0, atol=1e-6 * 1000)
    torch = needs.library("torch")
    coordfit.export(of, tmp_path / "module.pt")
    spec = importlib.util.spec_from_file_location("module", tmp_path / "module.py")
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    with torch.no_grad():
        found = written.load().values(torch.from_numpy(at)).numpy()
    np.testing.assert_allclose(found, of(at), rtol=0, atol=2e-6 * 1000)


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    for of, name in ((model(3, tiles=4), "a.npz"), (model(3, encoding="grid"), "a.pt"), (model(3), "a.html")):
        with pytest.raises(ConfigError, match="is of signals with 2 axes, and this one has 3"):
            coordfit.export(of, tmp_path / name)
    many = coordfit.fit_array(np.random.default_rng(0).random((6, 7, 5)), "yxc", **SMALL).model
    with pytest.raises(ConfigError, match="a page shows 1 to 4 channels, not 5"):
        coordfit.export(many, tmp_path / "a.html")
