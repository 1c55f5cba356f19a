"""PyTorch's tensors on the generic bodies give NumPy's results to the last digits of float64."""

import numpy as np
import pytest

import coordfit
from coordfit.backends import FusedUnavailableError, get_backend
from coordfit.cli import main

torch = pytest.importorskip("torch")
pytest.importorskip("array_api_compat")

SETTINGS = {
    "hidden_size": 16,
    "depth": 3,
    "num_frequencies": 8,
    "steps": 12,
    "batch_size": 64,
    "dtype": "float64",
}
REFERENCE = {"device": "numpy", "threads": 1, "fused": "never"}
CASES = {
    "adam": {},
    "full batch of sgd": {"optimizer": "sgd", "momentum": 0.9, "batch_size": None, "learning_rate": 0.1},
    "muon, sines": {"optimizer": "muon", "activation": "sine", "depth": 4},
    "held-out pixels, huber": {"train_on": "every-second", "loss": "huber", "encoding": "positional"},
    "last layer refitted": {"polish": "ridge", "activation": "tanh"},
    "no encoding": {"encoding": "none", "loss": "mae", "activation": "sigmoid"},
}


@pytest.fixture
def picture():
    return coordfit.bundled_picture(32)


@pytest.mark.parametrize("case", CASES)
def test_a_fit_is_that_of_numpy(picture, case):
    options = SETTINGS | CASES[case]
    found = coordfit.fit(picture, **options, device="torch")
    expected = coordfit.fit(picture, **options, **REFERENCE)
    np.testing.assert_allclose(found.model.render(40, 40), expected.model.render(40, 40), rtol=0, atol=1e-10)
    assert isinstance(found.model.mlp.parameters, torch.Tensor)
    assert not found.model.mlp.parameters.requires_grad


def test_tiles_and_networks_as_one_batch_are_those_of_numpy(picture):
    options = {"hidden_size": 8, "depth": 2, "steps": 10, "dtype": "float64"}
    tiles = [
        coordfit.fit(picture, **options, tiles=16, **machine) for machine in ({"device": "torch"}, REFERENCE)
    ]
    np.testing.assert_allclose(tiles[0].model.render(), tiles[1].model.render(), rtol=0, atol=1e-9)
    tables = [
        coordfit.sweep(picture, **options, sigma=[2.0, 6.0], seed=[0, 1], **machine)
        for machine in ({"device": "torch"}, REFERENCE)
    ]
    assert [row["psnr"] for row in tables[0]] == pytest.approx([row["psnr"] for row in tables[1]], abs=1e-8)


def test_a_model_goes_from_one_library_to_the_other(tmp_path):
    words = ["fit", "--size", "32", "--steps", "5", "--hidden-size", "8", "--device", "torch"]
    assert main([*words, "--no-progress", "--out", str(tmp_path / "run")]) == 0
    pictures = [coordfit.load(tmp_path / "run", device=device).render() for device in ("torch", "numpy")]
    np.testing.assert_allclose(pictures[0], pictures[1], rtol=0, atol=1e-6)


def test_it_has_no_fused_bodies(picture):
    with pytest.raises(FusedUnavailableError, match="on the torch backend has no fused body"):
        coordfit.fit(picture, steps=1, hidden_size=8, device="torch", fused="always")
    assert get_backend("torch").describe()["library"] == torch.__version__
