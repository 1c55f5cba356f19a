"""Inpainting by kriging: the default, when a network takes its place, and what a command leaves."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coordfit
from coordfit.cli import main
from coordfit.errors import ConfigError
from coordfit.images import bundled_picture, load_picture, save_picture
from coordfit.images.drawn_masks import missing_mask
from coordfit.kriging import fill_hidden

FILES = {
    "comparison.png",
    "config.json",
    "deviation.png",
    "filled.png",
    "mask.png",
    "masked.png",
    "metrics.json",
}
NETWORK = {"hidden_size": 4, "depth": 2, "num_frequencies": 4, "steps": 2, "threads": 1}


@pytest.fixture(autouse=True)
def a_place_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *words):
    code = main(["inpaint", *map(str, words)])
    return code, *capsys.readouterr()


def test_half_of_a_photograph_is_filled_better_than_by_smooth_surfaces():
    result = coordfit.inpaint(bundled_picture(), missing=0.5)
    metrics, known = result.metrics, result.mask
    assert metrics["method"] == "kriging"
    assert metrics["psnr_hidden"] == coordfit.psnr(result.filled, result.picture.pixels, where=~known)
    assert metrics["psnr_hidden"] > 30 > metrics["psnr_hidden_biharmonic"] > metrics["psnr_hidden_nearest"] + 3
    np.testing.assert_array_equal(result.filled[known], result.picture.pixels[known])
    assert (result.deviation[known] == 0).all()
    assert result.deviation[~known].min() > 0
    assert 0.5 < metrics["within_1"] < metrics["within_2"] < 1


@pytest.mark.parametrize("truth", [None, 0])
def test_hidden_pixels_are_not_read(truth):
    picture, known = bundled_picture(32), missing_mask(32, 32, 0.5, seed=1)
    spoiled = np.where(known[:, :, None], picture.pixels, np.float32(1) - picture.pixels)
    truths = {} if truth is None else {"truth": picture}
    first, other = (coordfit.inpaint(source, known, **truths) for source in (picture, spoiled))
    np.testing.assert_array_equal(first.filled, other.filled)
    assert (first.metrics["psnr_hidden"] is None) == (truth is None)


def test_a_callback_ends_a_filling():
    picture, known = bundled_picture(32).pixels, missing_mask(32, 32, 0.5, seed=1)
    seen = []
    assert fill_hidden(picture, known, callback=lambda done: seen.append(done) or len(seen) == 3) is None
    assert len(seen) == 3
    seen.clear()
    assert fill_hidden(picture, known, callback=seen.append) is not None
    assert seen == sorted(seen)
    assert seen[-1] == 1


# -- the method ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "kriging"),
        ({"seed": 3, "size": 16, "threads": 1, "device": "cpu"}, "kriging"),
        ({"method": "network", **NETWORK}, "network"),
        (NETWORK, "network"),
        ({"config": coordfit.make_config({"hidden_size": 4, "depth": 2, "steps": 2})}, "network"),
        ({"callback": lambda _: True}, "network"),
    ],
)
def test_an_option_of_a_network_chooses_the_network(options, kind):
    assert coordfit.inpaint(bundled_picture(32), missing=0.5, **options).metrics["method"] == kind


@pytest.mark.parametrize("options", [{"steps": 3}, {"average": 2}, {"recipe": "fast"}, {"tiles": 8}])
def test_kriging_has_no_settings_of_a_network(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is of a network, and kriging has none"):
        coordfit.inpaint(bundled_picture(32), missing=0.5, method="kriging", **options)


def test_an_unknown_method_is_named():
    with pytest.raises(ConfigError, match="method must be kriging or network, not 'magic'"):
        coordfit.inpaint(bundled_picture(32), missing=0.5, method="magic")


# -- the command -----------------------------------------------------------------------------------------


def test_a_run_leaves_its_folder_and_prints_the_figures(capsys):
    code, out, err = run(capsys, "--size", 32, "--missing", 0.5, "--out", "run", "--no-progress")
    assert code == 0
    assert err == "coordfit: known: 512 of 1024 pixels, 50.0 % hidden\n"
    assert {file.name for file in Path("run").iterdir()} == FILES
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert f"{metrics['psnr_hidden']:.2f} dB, hidden pixels" in out
    assert out.endswith("\nrun\n")
    truth, filled = bundled_picture(32).pixels, load_picture("run/filled.png").pixels
    hidden = load_picture("run/mask.png").pixels[..., 0] == 0
    assert coordfit.psnr(filled, truth, where=hidden) == pytest.approx(metrics["psnr_hidden"], abs=0.01)
    deviation = load_picture("run/deviation.png").pixels[..., 0]
    assert deviation.max() == 1
    assert (deviation[~hidden] == 0).all()


@pytest.mark.parametrize("way", [(), ("--method", "network", "--steps", 2)], ids=["kriging", "network"])
def test_a_mask_that_hides_most_may_be_the_other_way_round(capsys, way):
    scratch = np.zeros((32, 32), np.uint8)
    scratch[10:13] = 255
    Image.fromarray(scratch).save("scratch.png")
    words = ["bundled.png", "--mask", "scratch.png", "--no-progress", "--overwrite", "--out", "run"]
    save_picture("bundled.png", bundled_picture(32).pixels)
    told = "coordfit: white is known in scratch.png: 96 of 1024 pixels, 90.6 % hidden; "
    told += "if it is the other way round, add --invert-mask\n"
    assert told in run(capsys, *words, *way)[2]
    told = "coordfit: black is known in scratch.png: 928 of 1024 pixels, 9.4 % hidden\n"
    assert told in run(capsys, *words, "--invert-mask", *way)[2]
    Image.fromarray(255 - scratch).save("scratch.png")
    told = "90.6 % hidden; if it is the other way round, leave out --invert-mask\n"
    assert told in run(capsys, *words, "--invert-mask", *way)[2]


def test_what_hides_nothing_is_told_the_options(capsys):
    save_picture("whole.png", bundled_picture(32).pixels)
    code, _, err = run(capsys, "whole.png")
    assert code == 2
    assert err.endswith("no transparent pixels; name one of mask, missing, text, scribble, block\n")


def test_json_is_one_document(capsys):
    code, out, _ = run(capsys, "--size", 32, "--text", "HI", "--out", "run", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["folder"] == "run"
    assert document["metrics"] == json.loads(Path("run/metrics.json").read_text())


@pytest.mark.parametrize("kind", ["L", "LA", "RGBA", "I;16"])
def test_every_kind_of_picture_is_filled_as_that_kind(capsys, kind):
    levels = np.dstack([bundled_picture(32).levels, np.full((32, 32), 200, np.uint8)])
    kinds = {"L": levels[..., 0], "LA": levels[..., 2:], "RGBA": levels}
    Image.fromarray(kinds.get(kind, 257 * levels[..., 0].astype("u2"))).save("photo.png")
    assert run(capsys, "photo.png", "--missing", 0.5, "--out", "run", "--no-progress")[0] == 0
    first, filled = load_picture("photo.png"), load_picture("run/filled.png")
    assert (filled.levels.shape, filled.levels.dtype) == (first.levels.shape, first.levels.dtype)
    known = load_picture("run/mask.png").levels[..., 0] == 255
    assert np.array_equal(filled.levels[known], first.levels[known])
    assert coordfit.psnr(filled.pixels, first.pixels) > 25


def test_transparent_pixels_are_filled_without_a_score(capsys):
    known = missing_mask(32, 32, 0.3, seed=1)
    save_picture("photo.png", np.dstack([bundled_picture(32).pixels, known.astype(np.float32)]))
    code, _, err = run(capsys, "photo.png", "--out", "run", "--no-progress")
    assert code == 0
    assert "the true colours of hidden pixels are not known" in err
    assert load_picture("run/filled.png").channels == 3


def test_an_interrupt_ends_it_at_once_and_says_how_to_begin_again(capsys, monkeypatch):
    def interrupting(*arguments, callback, **options):
        def call(done):
            if done > 0.3:
                signal.raise_signal(signal.SIGINT)
            return callback(done)

        return fill_hidden(*arguments, callback=call, **options)

    monkeypatch.setattr("coordfit.tasks.filling.kriging.fill_hidden", interrupting)
    save_picture("photo.png", bundled_picture().pixels)
    began = time.monotonic()
    code, out, err = run(capsys, "photo.png", "--missing", 0.5, "--out", "run", "--no-progress")
    assert time.monotonic() - began < 30  # it ends long before, and without the two seconds of a filling
    assert (code, out) == (130, "")
    line = "coordfit: interrupted; there is no filled picture, begin again with the same words and --overwrite"
    assert err.splitlines()[-1] == f"{line} --out run"
    assert {file.name for file in Path("run").iterdir()} == {"mask.png", "masked.png"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--method", "kriging", "--missing", 0.5, "--steps", 3],
            "--steps is of a network, and kriging has none",
        ),
        (["--method", "magic", "--missing", 0.5], "kriging"),
        (["--method", "kriging"], "inpaint needs an IMAGE here"),
    ],
)
def test_wrong_usage_is_one_line(capsys, words, said):
    code, out, err = run(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not Path("runs").exists()


def test_a_setting_of_a_network_takes_it_and_says_so(capsys):
    words = ["--hidden-size", 4, "--depth", 2, "--num-frequencies", 4, "--steps", 2, "--device", "cpu"]
    code, out, err = run(capsys, "--size", 32, "--missing", 0.5, "--out", "run", "--no-progress", *words)
    assert code == 0
    assert "filled by a network, as --num-frequencies is of one" in err
    assert "steps" in out


def test_a_folder_that_is_replaced_holds_nothing_of_the_other_method(capsys):
    usual = ["--size", 32, "--missing", 0.5, "--out", "run", "--no-progress", "--overwrite"]
    network = ["--hidden-size", 4, "--depth", 2, "--num-frequencies", 4, "--steps", 2, "--device", "cpu"]
    assert run(capsys, *usual, *network)[0] == 0
    assert Path("run/model.safetensors").exists()
    assert run(capsys, *usual)[0] == 0
    assert {file.name for file in Path("run").iterdir()} == FILES
    assert run(capsys, *usual, *network)[0] == 0
    assert not Path("run/deviation.png").exists()
