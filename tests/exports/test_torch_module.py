"""The module beside a state_dict loads it without coordfit, and gives the model's colours."""

import runpy
import subprocess
import sys

import numpy as np
import pytest
from support import needs
from support.exported import MODELS, model, points

import coordfit
from coordfit import OutputError

TOLERANCES = {"float32": 2e-6, "float64": 1e-12}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_module_gives_the_same_colours(tmp_path, name, dtype):
    torch = needs.library("torch")
    of = model(name, dtype)
    path = coordfit.export(of, tmp_path / "picture.pt")
    module = runpy.run_path(str(path.with_suffix(".py")))["load"]()
    at = points(of)
    with torch.no_grad():
        found = module(torch.from_numpy(at)).numpy()
    expected = of(at)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCES[dtype] * max(1.0, np.ptp(expected)))


@pytest.mark.parametrize("name", ["gaussian, relu", "tiles", "pyramid"])
def test_the_module_is_short_and_can_be_trained(tmp_path, name):
    torch = needs.library("torch")
    path = coordfit.export(model(name), tmp_path / "picture.pt").with_suffix(".py")
    text = path.read_text()
    assert "coordfit" not in text
    assert len(text.splitlines()) < 75
    module = runpy.run_path(str(path))["load"]()
    module(torch.rand(50, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_the_module_is_a_program(tmp_path):
    needs.library("torch")
    path = coordfit.export(model("tiles"), tmp_path / "picture.pt").with_suffix(".py")
    done = subprocess.run(
        [sys.executable, "-I", path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "torch.Size([24, 32, 3])\n"


def test_a_missing_package_is_named_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OutputError, match=r"needs PyTorch .*: pip install 'coordfit\[torch\]'"):
        coordfit.export(model("grey"), tmp_path / "picture.pt")
