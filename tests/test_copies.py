"""Results, models, pictures and tables as objects: pickled, copied, shown in one line, called with lists."""

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coordfit
from coordfit.images import Picture

ROOT = Path(coordfit.__file__).parents[1]
SMALL = {"steps": 2, "hidden_size": 8, "depth": 2, "num_frequencies": 4, "batch_size": 64}
PIXELS = np.random.default_rng(0).random((24, 32, 3))


def fitted(kind):
    """A small result of each kind."""
    machine = {"device": "numpy", "threads": 1}
    if kind == "fit":
        return coordfit.fit(PIXELS, **SMALL, **machine)
    if kind == "tiles":
        return coordfit.fit(PIXELS, tiles=8, steps=2, hidden_size=8, num_frequencies=4, **machine)
    if kind == "inpaint":
        return coordfit.inpaint(PIXELS, missing=0.5, **SMALL, **machine)
    return coordfit.compare(PIXELS, encodings=("none", "gaussian"), **SMALL, **machine)


KINDS = ("fit", "tiles", "inpaint", "compare")


@pytest.fixture(scope="module", params=KINDS)
def result(request):
    return fitted(request.param)


def by_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


COPIES = {"pickle": by_pickle, "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("way", COPIES)
def test_a_copied_result_says_and_draws_the_same(result, way):
    again = COPIES[way](result)
    assert type(again) is type(result)
    assert repr(again) == repr(result)
    assert again._repr_png_() == result._repr_png_()
    results = result.results.values() if isinstance(result, coordfit.Comparison) else [result]
    copies = again.results.values() if isinstance(result, coordfit.Comparison) else [again]
    for one, other in zip(results, copies, strict=True):
        assert other.metrics == one.metrics
        assert other.history == one.history
        assert other.config == one.config
        np.testing.assert_array_equal(other.model.render(10), one.model.render(10))


@pytest.mark.parametrize("way", COPIES)
def test_a_copied_model_is_independent_and_saves_the_same_file(result, way, tmp_path):
    if isinstance(result, coordfit.Comparison):
        pytest.skip("its results are tried by themselves")
    result.save(tmp_path / "model.safetensors")
    model = coordfit.load(tmp_path / "model.safetensors", device="numpy", threads=1)
    again = COPIES[way](model)
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    assert (again.backend.name, again.backend.threads) == ("numpy", 1)
    assert (again.backend is model.backend) == (way != "pickle")
    before = model.render()
    parameters = again.mlp.parameters if isinstance(again, coordfit.Model) else again.parameters
    parameters[...] = 0
    np.testing.assert_array_equal(model.render(), before)


def test_a_pickle_is_read_by_another_process(tmp_path):
    result = fitted("fit")
    (tmp_path / "result.pickle").write_bytes(pickle.dumps(result))
    code = "import pickle, sys; print(pickle.loads(open(sys.argv[1], 'rb').read()).render(9).sum())"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "result.pickle"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(result.render(9).sum())


def test_a_pickle_of_another_machine_is_read_onto_the_cpu(monkeypatch):
    model = fitted("fit").model
    monkeypatch.setattr(model.backend, "device", "gpu:7")
    again = by_pickle(model)
    assert again.backend.device == "cpu"
    np.testing.assert_allclose(again.render(), model.render(), atol=1e-5)


def test_the_levels_of_a_copied_picture_stay_read_only():
    picture = coordfit.load_picture(np.uint16(65535 * PIXELS))
    for way in COPIES.values():
        again = way(picture)
        assert isinstance(again, Picture)
        assert not again.levels.flags.writeable
        assert not again.pixels.flags.writeable
        assert (again.digest, again.name, again.bit_depth) == (picture.digest, picture.name, picture.bit_depth)


# -- in one line -----------------------------------------------------------------------------------------


def test_everything_public_has_a_short_repr_in_one_line(result):
    results = [*result.results.values()] if isinstance(result, coordfit.Comparison) else [result]
    things = [result, *results, *(one.model for one in results), *(one.picture for one in results)]
    things += [one.config for one in results] + [one.state for one in results if hasattr(one, "state")]
    things += [coordfit.Table([dict.fromkeys(map(str, range(500)), 1.0)] * 9)]
    for thing in things:
        text = repr(thing)
        assert len(text.splitlines()) == 1
        assert len(text) < 250, text
        assert " at 0x" not in text


def test_a_repr_tells_the_figures_that_matter():
    result = fitted("fit")
    assert repr(result).startswith("<FitResult of array, 32x24: gaussian encoding, sigma 10; PSNR ")
    assert repr(result).endswith("stopped: steps>")
    count = result.model.num_parameters
    assert (
        repr(result.model) == f"<Model of array, 32x24: gaussian encoding, sigma 10; {count} parameters on cpu>"
    )
    assert repr(result.picture) == "<Picture array, 32x24: RGB, float32>"
    assert repr(coordfit.Table([{"a": 1, "b": 2}])) == "<Table, rows: 1, columns: a, b>"


def test_a_name_cannot_break_the_line_of_a_repr(tmp_path):
    name = "a\nb\x1b[31m.png"
    Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert repr(coordfit.load_picture(tmp_path / name)) == r"<Picture a\nb\x1b[31m.png, 4x4: RGB, uint8>"


def test_the_repr_of_settings_makes_them_again():
    config = coordfit.make_config({"encoding": "basic", "size": (4, 3), "batch_size": None})
    assert eval(repr(config), {"FitConfig": coordfit.FitConfig}) == config
    assert repr(coordfit.FitConfig()) == "FitConfig()"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_picture_shows_itself_in_a_notebook(dtype, channels):
    levels = (
        np.random.default_rng(0).integers(1, 256, (5, 7, channels)).astype(dtype)
    )  # alpha of 0 has no colour
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    picture = coordfit.load_picture((levels * np.asarray(scale, dtype)).astype(dtype))
    shown = np.asarray(Image.open(io.BytesIO(picture._repr_png_())))
    np.testing.assert_array_equal(shown.reshape(5, 7, channels), np.rint(255 * picture.pixels))


def test_a_large_picture_is_shown_smaller():
    picture = coordfit.load_picture(np.zeros((40, 3000), np.uint8))
    assert Image.open(io.BytesIO(picture._repr_png_())).size == (1024, 14)


def test_tiles_that_were_interrupted_show_no_picture():
    result = coordfit.fit(PIXELS, tiles=8, device="numpy", threads=1, callback=lambda progress: True)
    assert result.stopped == "interrupted"
    assert result._repr_png_() is None
    assert "interrupted" in repr(result)


# -- coordinates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fit", "tiles"])
def test_a_model_takes_anything_like_an_array(kind):
    model = fitted(kind).model
    expected = model(np.array([[0.0, 0.0], [1.0, 0.5]]))
    for points in ([[0, 0], [1, 0.5]], ((0, 0), (1, 0.5)), np.array([[0, 0], [1, 0.5]], np.float32)):
        np.testing.assert_allclose(model(points), expected, rtol=1e-6)
    assert model([0, 0]).shape == (3,)
    assert model(np.zeros((2, 0, 2))).shape == (2, 0, 3)
    for wrong in (0.5, [1, 2, 3], [["a", "b"]], [[0j, 0j]], None):
        with pytest.raises(ValueError, match=r"coordinates must be numbers of shape \(\.\.\., 2\), not "):
            model(wrong)
