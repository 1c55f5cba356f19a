"""Arrays on the command line: fit, go on, render, differentiate, fill."""

import json
import wave

import numpy as np
import pytest
import tifffile
from PIL import Image

import coordfit
from coordfit.cli import main

SMALL = ["--hidden-size", "12", "--depth", "3", "--num-frequencies", "8", "--no-progress"]
VOLUME = np.random.default_rng(0).normal(50.0, 9.0, (8, 9, 10)).astype(np.float32)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("volume.npy", VOLUME)
    np.savez("two.npz", first=VOLUME, second=VOLUME[0])
    tifffile.imwrite("stack.tif", (100 * VOLUME).astype(np.uint16), photometric="minisblack")
    with wave.open("tone.wav", "wb") as file:
        file.setparams((1, 2, 4000, 0, "NONE", ""))
        file.writeframes((9000 * np.sin(np.arange(900) / 7)).astype("<i2").tobytes())
    return tmp_path


def run(*words, fails=None, capsys=None):
    code = main([str(word) for word in words])
    told = capsys.readouterr() if capsys else None
    assert code == (fails or 0), told
    return told


@pytest.mark.parametrize(
    ("words", "made", "shape"),
    [
        (["volume.npy", "--axes", "z,y,x", "--spacing", "2,1,1"], "reconstruction.npy", (8, 9, 10)),
        (["two.npz", "--key", "second"], "reconstruction.npz", (9, 10)),
        (["stack.tif", "--axes", "tyx", "--tiles", "4"], "reconstruction.tif", (8, 9, 10)),
        (["tone.wav"], "reconstruction.wav", (900,)),
    ],
)
def test_a_file_of_an_array_is_fitted_as_from_python(files, words, made, shape):
    run(*words, *SMALL, "--steps", 6, "--out", "run")
    folder = files / "run"
    assert {"config.json", "model.safetensors", "metrics.json", "comparison.png", made} <= {
        path.name for path in folder.iterdir()
    }
    model = coordfit.load(folder)
    assert model.picture.shape == shape
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["shape"] == list(shape)
    if "volume.npy" in words:
        options = {"hidden_size": 12, "depth": 3, "num_frequencies": 8, "steps": 6}
        alone = coordfit.fit_array(VOLUME, "zyx", spacing=(2, 1, 1), **options)
        np.testing.assert_array_equal(np.load(folder / made), alone.reconstruction)
        assert metrics["rmse"] == alone.metrics["rmse"]


def test_a_run_goes_on_with_the_axes_that_it_began_with(files):
    axes = ["--axes", "z,y,x", "--spacing", 2, "--value-range", "0,100"]
    run("volume.npy", *axes, *SMALL, "--steps", 8, "--out", "whole")
    run("volume.npy", *axes, *SMALL, "--steps", 4, "--out", "short")
    run("fit", "--resume", "--out", "short", "--steps", 8, "--no-progress")
    assert coordfit.load("short").picture == coordfit.load("whole").picture
    from_python = coordfit.fit_array(
        VOLUME, "zyx", spacing=2.0, value_range=(0, 100), out="python", hidden_size=12, depth=3,
        num_frequencies=8, steps=8, name="volume.npy",
    )  # fmt: skip
    np.testing.assert_array_equal(np.load("whole/reconstruction.npy"), from_python.reconstruction)
    again = coordfit.fit_array(VOLUME, "zyx", spacing=2.0, value_range=(0, 100), out="python", resume=True)
    np.testing.assert_array_equal(again.reconstruction, from_python.reconstruction)


def test_figures_are_told_in_units_of_the_array(files, capsys):
    told = run("volume.npy", *SMALL, "--steps", 6, "--out", "run", capsys=capsys).out
    assert "dB, all known samples, by the range" in told
    assert "root mean square, in units of the array" in told
    assert "bits per sample" in told
    told = run("info", "run", capsys=capsys).out
    assert "8x9x10" in told
    assert "z, y, x" in told


def test_a_model_is_drawn_as_numbers_of_any_shape(files, capsys):
    run("volume.npy", "--spacing", 3, *SMALL, "--steps", 6, "--out", "run")
    model = coordfit.load("run")
    run("render", "run", "--scale", 2, "--out", "twice.npz")
    with np.load("twice.npz") as twice:
        np.testing.assert_array_equal(twice["values"], model.render(shape=(16, 18, 20)))
        np.testing.assert_allclose(twice["spacing"], 1.5)
        np.testing.assert_allclose(twice["origin"], -0.75)
    run("render", "run", "--size", "5x4x3", "--crop", "1,0,2,3,2,1", "--out", "part.tif")
    np.testing.assert_allclose(
        tifffile.imread("part.tif"), model.render(shape=(3, 4, 5))[2:, :2, 1:4], rtol=1e-6
    )
    run("render", "run", "--derivative", "z", "--size", 10)
    np.testing.assert_allclose(
        np.load("run/model-z-10x9x8.npy"), model.render_derivative("z", (8, 9, 10)), rtol=1e-6
    )
    told = run("render", "run", "--derivative", "q", fails=2, capsys=capsys).err
    assert "one of x, y, z, gradient-norm, laplacian, not 'q'" in told
    told = run("render", "run", "--out", "a.png", fails=2, capsys=capsys).err
    assert "a.png is a picture, and the signal has 3 axes" in told
    told = run("render", "run", "--size", "5x4", fails=2, capsys=capsys).err
    assert "3 axes" in told


def test_a_sound_at_twice_the_samples_has_twice_the_rate(files):
    run("tone.wav", *SMALL, "--steps", 6, "--out", "run")
    run("render", "run", "--scale", 2, "--out", "twice.wav")
    with wave.open("twice.wav") as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 1800)


def test_the_derivative_of_a_picture_is_a_picture_or_numbers(files, capsys):
    run("fit", *SMALL, "--steps", 6, "--out", "run")
    model = coordfit.load("run")
    run("render", "run", "--derivative", "laplacian", "--size", 20, "--out", "numbers.npy")
    exact = model.render_derivative("laplacian", (20, 20))
    np.testing.assert_allclose(np.load("numbers.npy"), exact, rtol=1e-6)
    told = run("render", "run", "--derivative", "laplacian", "--size", 20, "--out", "drawn.png", capsys=capsys)
    assert f"white {np.abs(exact).max():.4g} per pixel" in told.err
    with Image.open("drawn.png") as drawn:
        levels = np.asarray(drawn) / 255
    np.testing.assert_allclose(levels, 0.5 + 0.5 * exact / np.abs(exact).max(), atol=0.003)


def test_an_array_is_filled(files, capsys):
    told = run("inpaint", "volume.npy", "--missing", 0.4, "--out", "half", "--no-progress", capsys=capsys).out
    assert "dB, hidden samples" in told
    metrics = json.loads((files / "half/metrics.json").read_text())
    assert metrics["hidden_samples"] == np.count_nonzero(np.load("half/deviation.npy"))
    holes = VOLUME.copy()
    holes[2:4, 3:6, 4:6] = np.nan
    np.save("holes.npy", holes)
    run("inpaint", "holes.npy", "--out", "holes", "--no-progress")
    filled = np.load("holes/filled.npy")
    known = np.isfinite(holes)
    np.testing.assert_allclose(filled[known], holes[known], rtol=1e-6)
    assert np.isfinite(filled).all()
    np.save("mask.npy", known)
    run("inpaint", "stack.tif", "--axes", "zyx", "--mask", "mask.npy", "--out", "masked", "--no-progress")
    np.testing.assert_array_equal(
        tifffile.imread("masked/filled.tif")[known], tifffile.imread("stack.tif")[known]
    )
    for words, match in (
        (["volume.npy"], "all values are known"),
        (["volume.npy", "--mask", "two.npz"], "has the arrays first, second"),
        (["volume.npy", "--text", "words"], "--text is of pictures"),
        (["volume.npy", "--missing", "0.5", "--method", "network"], "is of pictures"),
    ):
        code = main(["inpaint", *words, "--out", "none"])
        assert code in (1, 2)
        assert match in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (["volume.npy", "--axes", "y,x"], 0, ""),
        (["volume.npy", "--axes", "x"], 1, "axes must name each axis"),
        (["volume.npy", "--axes", "zzz"], 2, "names no axes"),
        (["volume.npy", "--value-range", "5"], 2, "neither array, nor channel, nor LOW,HIGH"),
        (["volume.npy", "--spacing", "0"], 1, "spacing must not be 0"),
        (["volume.npy", "--size", "5"], 2, "size is for pictures"),
        (["none.npy"], 1, "there is no file none.npy"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(files, capsys, words, code, match):
    assert main(["fit", *words, *SMALL, "--steps", "2", "--out", "run"]) == code
    told = capsys.readouterr().err
    assert match in told
    assert "Traceback" not in told


def test_a_deep_tiff_is_fitted_at_its_full_depth(files, capsys):
    rng = np.random.default_rng(1)
    bright = rng.normal(2000.0, 700.0, (12, 14, 3)).astype(np.float32)
    bands = rng.integers(0, 3000, (12, 14, 7)).astype(np.uint16)
    tifffile.imwrite("bright.tif", bright, photometric="rgb")
    tifffile.imwrite("bands.tif", bands, photometric="minisblack", planarconfig="contig")
    for name, values in (("bright", bright), ("bands", bands)):
        told = run("fit", f"{name}.tif", *SMALL, "--steps", 6, "--out", name, capsys=capsys)
        assert f"{name}.tif: no picture of levels: read as an array of {values.dtype}" in told.err
        made = tifffile.imread(f"{name}/reconstruction.tif")
        assert (made.shape, made.dtype) == (values.shape, values.dtype)
        alone = coordfit.fit_array(values, "yxc", hidden_size=12, depth=3, num_frequencies=8, steps=6)
        np.testing.assert_allclose(made, alone.reconstruction, atol=1.0 if name == "bands" else 1e-3)
    deep = (65535 * rng.random((12, 14, 3))).astype(np.uint16)
    tifffile.imwrite("deep.tif", deep, photometric="rgb")
    run("fit", "deep.tif", *SMALL, "--steps", 6, "--out", "deep")
    picture = coordfit.load_picture("deep/reconstruction.png")
    assert picture.levels.dtype == np.uint16


def test_several_arrays_are_fitted_together(files, capsys):
    np.save("other.npy", VOLUME[::-1])
    run("fit", "volume.npy", "other.npy", "--axes", "zyx", *SMALL, "--steps", 6, "--out", "all", capsys=capsys)
    for name, values in (("volume", VOLUME), ("other", VOLUME[::-1])):
        alone = coordfit.fit_array(values, "zyx", hidden_size=12, depth=3, num_frequencies=8, steps=6)
        np.testing.assert_allclose(np.load(f"all/{name}/reconstruction.npy"), alone.reconstruction, atol=0.02)
    (files / "frames").mkdir()
    for k in range(3):
        Image.fromarray(np.full((9, 8), 60 * k, np.uint8)).save(f"frames/{k}.png")
    run("fit", "frames", "--axes", "t,y,x", *SMALL, "--steps", 6, "--out", "video")
    assert coordfit.load("video").picture.shape == (3, 9, 8)
