"""`compress`, `decompress` and what `info` and `render` say of a compressed picture."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.cases import slow, very_slow

import coordfit
from coordfit.cli import main
from coordfit.codec import Compressor
from coordfit.codec.pyramid.training import PyramidTrainer
from coordfit.images import bundled_picture, load_picture, save_picture
from coordfit.images.formats.alpha import premultiply


@pytest.fixture(autouse=True)
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_picture("photo.png", bundled_picture(32).pixels)
    return tmp_path


def run(capsys, *words):
    """The exit code and both streams of a command."""
    code = main([*map(str, words), "--no-progress"] if words[0] != "info" else list(map(str, words)))
    return code, *capsys.readouterr()


def small(*more):
    return "compress", "photo.png", "--steps", 100, *more


def test_a_picture_goes_into_a_file_and_back(capsys):
    code, out, _ = run(capsys, *small("--psnr", 30))
    assert code == 0
    assert "dB, all pixels" in out
    assert "24 in the plain picture" in out
    assert out.endswith("\nphoto.cfc\n")
    code, out, _ = run(capsys, "decompress", "photo.cfc")
    assert (code, out) == (0, "photo-32x32.png\n")
    found = load_picture("photo-32x32.png")
    assert coordfit.psnr(found.pixels, load_picture("photo.png").pixels) == pytest.approx(30, abs=1)
    assert np.array_equal(found.levels, coordfit.decompress("photo.cfc").levels)


def test_json_has_the_figures_of_the_file(capsys):
    code, out, _ = run(capsys, *small("--lambda", 1e-3, "--json"))
    told = json.loads(out)
    assert code == 0
    assert told["bytes"] == Path("photo.cfc").stat().st_size
    assert told["bits_per_pixel"] == 8 * told["bytes"] / 32**2
    found = coordfit.decompress("photo.cfc").pixels
    assert told["psnr"] == pytest.approx(coordfit.psnr(found, load_picture("photo.png").pixels), abs=1e-4)


@pytest.mark.parametrize("kind", ["RGBA", *slow("I;16"), *very_slow("L", "LA")])
def test_every_kind_of_picture_comes_back_as_that_kind(capsys, kind):
    colours = load_picture("photo.png").levels
    y, x = np.mgrid[:32, :32] - 16
    alpha = np.clip(800 - 3 * (y * y + x * x), 0, 255).astype(np.uint8)
    levels = np.dstack([colours, alpha])
    kinds = {
        "L": levels[..., 0],
        "LA": levels[..., 2:],
        "RGBA": levels,
        "I;16": 257 * levels[..., 0].astype("u2"),
    }
    Image.fromarray(kinds[kind]).save("photo.png")
    assert run(capsys, *small("--psnr", 40))[0] == 0
    assert run(capsys, "decompress", "photo.cfc", "--out", "again.png")[0] == 0
    first, again = load_picture("photo.png"), load_picture("again.png")
    assert (again.levels.shape, again.levels.dtype) == (first.levels.shape, first.levels.dtype)
    shown = [premultiply(p.pixels) if first.has_alpha else p.pixels for p in (again, first)]
    assert coordfit.psnr(*shown) > 38


def test_a_larger_size_and_a_window_are_drawn(capsys):
    run(capsys, *small("--lambda", 1e-3))
    words = "photo.cfc", "--scale", 3, "--method", "function"
    run(capsys, "decompress", *words, "--out", "large.png")
    run(capsys, "decompress", *words, "--crop", "10,20,30,40", "--out", "window.png")
    large, window = load_picture("large.png").levels, load_picture("window.png").levels
    assert large.shape == (96, 96, 3)
    assert np.array_equal(window, large[20:60, 10:40])
    assert np.array_equal(coordfit.decompress("photo.cfc", size=96, crop=(10, 20, 30, 40)).levels, window)
    assert run(capsys, "render", *words, "--out", "same.png")[0] == 0
    assert np.array_equal(load_picture("same.png").levels, large)


def test_a_photograph_is_enlarged_from_its_own_size_by_default_and_it_is_said(capsys):
    run(capsys, *small("--lambda", 1e-4))
    code, out, err = run(capsys, "decompress", "photo.cfc", "--size", "64x64", "--json")
    assert (code, json.loads(out)["method"]) == (0, "enlarge")
    assert "drawn in its own size and enlarged; --method function shows it between its pixels" in err
    enlarged = coordfit.enlarge(coordfit.decompress("photo.cfc"), size=64)
    assert np.array_equal(load_picture("photo-64x64.png").levels, enlarged.levels)
    code, out, err = run(capsys, "decompress", "photo.cfc", "--size", 20, "--json")
    assert (code, json.loads(out)["method"], err) == (0, "function", "")
    code, _, err = run(capsys, "decompress", "photo.cfc", "--size", 20, "--method", "enlarge")
    assert (code, err.count("\n")) == (2, 1)
    assert "--method enlarge is for sizes from 32x32" in err


def test_a_picture_is_enlarged_and_nothing_is_replaced(capsys):
    code, out, _ = run(capsys, "enlarge", "photo.png", "--json")
    assert (code, json.loads(out)) == (0, {"picture": "photo-64x64.png", "width": 64, "height": 64})
    assert np.array_equal(load_picture("photo-64x64.png").levels, coordfit.enlarge("photo.png").levels)
    code, _, err = run(capsys, "enlarge", "photo.png")
    assert (code, err.count("\n")) == (1, 1)
    assert "photo-64x64.png is there already" in err
    for words, code, said in [
        (("--scale", 0.5), 2, "smaller than the picture"),
        (("--out", "a/b.png"), 1, "a/b.png"),
    ]:
        found, _, err = run(capsys, "enlarge", "photo.png", *words)
        assert (found, err.count("\n")) == (code, 1)
        assert said.split("/")[0] in err


@pytest.mark.slow
def test_a_smaller_size_is_the_mean_over_each_pixel(capsys):
    run(capsys, *small("--lambda", 1e-4))
    small_ = coordfit.decompress("photo.cfc", size=(16, 8)).pixels
    own = coordfit.decompress("photo.cfc").pixels
    np.testing.assert_allclose(small_, own.reshape(8, 4, 16, 2, 3).mean((1, 3)), atol=0.5 / 255 + 1e-6)


@pytest.mark.slow
def test_info_says_where_the_bits_are(capsys):
    run(capsys, *small("--lambda", 1e-3))
    code, out, _ = run(capsys, "info", "photo.cfc", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["width"], facts["channels"], facts["bytes"]) == (32, 3, Path("photo.cfc").stat().st_size)
    parts = sum(value for name, value in facts.items() if name.startswith("of_"))
    assert parts == pytest.approx(facts["bits_per_pixel"], rel=0.02)
    assert "of context network" in run(capsys, "info", "photo.cfc")[1]


# -- interruption ----------------------------------------------------------------------------------------


def interrupted_at(monkeypatch, at):
    """Raise SIGINT in one step."""
    step = PyramidTrainer.step

    def interrupting(self, done):
        if self._optimizer.steps == at:
            signal.raise_signal(signal.SIGINT)
        return step(self, done)

    monkeypatch.setattr(PyramidTrainer, "step", interrupting)


@pytest.mark.parametrize(
    ("target", "at"),
    [(("--lambda", 1e-3), 17), *very_slow((("--psnr", 31), 63), (("--psnr", 31), 64))],
)
def test_an_interrupted_compression_goes_on_bit_by_bit(capsys, monkeypatch, target, at):
    """Also between the looks that steer lambda, and at one of them: at steps 60 and 65."""
    run(capsys, *small(*target, "--out", "whole.cfc"))
    with monkeypatch.context() as patch:
        interrupted_at(patch, at)
        code, out, err = run(capsys, *small(*target))
    assert (code, out) == (130, "")
    assert (
        err == "coordfit: interrupted; photo.cfc.checkpoint is saved, go on with the same words and --resume\n"
    )
    assert not Path("photo.cfc").exists()
    refused = run(capsys, *small(*target))
    assert refused[0] == 1
    assert "add --resume to continue it" in refused[2]
    code, _, err = run(capsys, *small(*target, "--resume"))
    assert code == 0
    assert f"going on from step {at + 1}" in err
    assert Path("photo.cfc").read_bytes() == Path("whole.cfc").read_bytes()
    assert not Path("photo.cfc.checkpoint").exists()


def test_what_cannot_go_on_is_refused_and_nothing_is_lost(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted_at(patch, 5)
        run(capsys, *small("--psnr", 31))
    saved = Path("photo.cfc.checkpoint").read_bytes()
    save_picture("other.png", 1 - bundled_picture(32).pixels)
    for words, reason in [
        (("--psnr", 33), "another target"),
        (("--size", 16), "another picture"),
    ]:
        code, _, err = run(capsys, "compress", "photo.png", *words, "--resume")
        assert code == 2
        assert reason in err
    code, _, err = run(capsys, "compress", "other.png", "--out", "photo.cfc", "--resume")
    assert code == 2
    assert "another picture" in err
    assert Path("photo.cfc.checkpoint").read_bytes() == saved
    Path("photo.cfc.checkpoint").write_bytes(saved[:-9] + b"x" + saved[-8:])
    code, _, err = run(capsys, *small("--resume"))
    assert code == 1
    assert "damaged" in err
    assert run(capsys, *small("--overwrite"))[0] == 0


@pytest.mark.slow
def test_more_steps_may_be_asked_for_when_it_goes_on(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted_at(patch, 5)
        run(capsys, *small("--psnr", 31))
    code, out, _ = run(capsys, "compress", "photo.png", "--steps", 40, "--resume", "--json")
    assert code == 0
    assert json.loads(out)["steps"] == 40


# -- errors ----------------------------------------------------------------------------------------------

ERRORS = [
    (("compress", "none.png"), 1, "there is no file none.png"),
    (("compress", "photo.png", "--psnr", 30, "--lambda", 1), 2, "not allowed with argument"),
    (("compress", "photo.png", "--psnr", -1), 2, "psnr must be a number above 0"),
    (("compress", "photo.png", "--steps", 3, "--seconds", 3), 2, "not allowed with argument"),
    (("compress", "photo.png", "--resume"), 1, "there is nothing to resume"),
    (("compress", "photo.png", "--out", "photo.png"), 1, "photo.png is there already"),
    (("compress", "photo.png", "--out", "no/photo.cfc"), 1, "no"),
    (("decompress", "photo.png"), 1, "is not a compressed picture of coordfit"),
    (("decompress", "none.cfc"), 1, "cannot load none.cfc: No such file"),
]


@pytest.mark.parametrize(("words", "code", "reason"), ERRORS)
def test_bad_words_are_one_line(capsys, words, code, reason):
    found, out, err = run(capsys, *words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert reason in err


def test_a_file_that_is_there_is_not_replaced(capsys):
    run(capsys, *small("--lambda", 1e-3))
    before = Path("photo.cfc").read_bytes()
    code, _, err = run(capsys, *small("--psnr", 35))
    assert code == 1
    assert "photo.cfc is there already" in err
    run(capsys, "decompress", "photo.cfc", "--out", "again.png")
    code, _, err = run(capsys, "decompress", "photo.cfc", "--out", "again.png")
    assert code == 1
    assert "again.png is there already" in err
    assert Path("photo.cfc").read_bytes() == before


def test_a_picture_beyond_the_format_is_refused_before_any_work(monkeypatch):
    with pytest.raises(
        coordfit.PictureError, match=r"cannot compress 7000x6000 = 42000000 pixels: 19024687 are the"
    ):
        Compressor(np.zeros((6000, 7000, 3), np.uint8), target=None, steps=1)
