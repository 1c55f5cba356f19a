"""The default for photographs: when it is chosen, what it gives, and its folder."""

import copy
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import coordfit
from coordfit.cli import main
from coordfit.codec.pyramid.training import PyramidTrainer
from coordfit.errors import ConfigError
from coordfit.images import bundled_picture, load_picture, save_picture
from coordfit.images.formats.alpha import premultiply
from coordfit.tasks.jobs.plan import plan_fit
from coordfit.tasks.jobs.settings import Device, Settings
from coordfit.tiles.plan import TileOptions

LARGE, SMALL = (300, 280), (256, 256)


def picture_of(height, width):
    y, x = np.mgrid[:height, :width]
    return load_picture((np.dstack([y, x, y + x]) % 256).astype(np.uint8))


def kind(size=LARGE, settings=None, recipe=None, tiles=None, device=None, **more):
    asked = Settings([settings or {}], recipe)
    return plan_fit(picture_of(*size), asked, tiles or TileOptions(), device or Device(), **more).kind


CHOSEN = {
    "a large picture": ({}, "compact"),
    "a target": ({"settings": {"target_psnr": 38.0}}, "compact"),
    "a budget": ({"settings": {"seconds": 9.0, "seed": 3}}, "compact"),
    "by NumPy": ({"device": Device("numpy", 1)}, "compact"),
    "a small picture": ({"size": SMALL}, "network"),
    "few bits of a small one": ({"size": SMALL, "recipe": "compact"}, "compact"),
    "steps, as always": ({"settings": {"steps": 9}}, "network"),
    "steps of few bits": ({"settings": {"steps": 9}, "recipe": "compact"}, "compact"),
    "a network": ({"settings": {"hidden_size": 16}}, "network"),
    "a network's recipe": ({"recipe": "fast"}, "network"),
    "held-out pixels": ({"settings": {"train_on": "every-second"}}, "network"),
    "a mask": ({"known": np.ones(LARGE, bool)}, "tiles"),
    "weights": ({"weights": np.ones(LARGE)}, "tiles"),
    "a GPU": ({"device": Device("gpu")}, "tiles"),
    "tiles": ({"tiles": TileOptions("auto")}, "tiles"),
    "no tiles": ({"tiles": TileOptions("none")}, "network"),
    "memorising": ({"recipe": "memorise"}, "tiles"),
    "memorising a small one": ({"size": SMALL, "recipe": "memorise"}, "tiles"),
}


@pytest.mark.parametrize("asked", CHOSEN)
def test_what_was_asked_for_chooses_the_kind_of_function(asked):
    options, expected = CHOSEN[asked]
    assert kind(**options) == expected


def test_memorising_is_what_tiles_of_a_large_picture_are():
    picture = picture_of(*LARGE)
    named, tiles = (
        plan_fit(picture, Settings([{"seed": 2}], recipe), TileOptions(request))
        for recipe, request in (("memorise", None), (None, "auto"))
    )
    assert (named.config, named.facts) == (tiles.config, tiles.facts)


REFUSED = {
    "hidden_size": (
        {"recipe": "compact", "hidden_size": 8},
        "few bits: hidden_size is no setting of it",
    ),
    "tiles": ({"recipe": "compact", "tiles": 8}, "it has no tiles"),
    "weights": ({"recipe": "compact", "weights": np.ones((32, 32))}, "leave known and weights out"),
    "device": ({"recipe": "compact", "device": "torch"}, "trains on the CPU"),
    "budgets": ({"recipe": "compact", "steps": 3, "seconds": 3.0}, "steps and seconds cannot both"),
    "not tiles": ({"recipe": "memorise", "tiles": "none"}, "'memorise' is of tiles; leave tiles=none out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_is_refused(name):
    options, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        coordfit.fit(bundled_picture(32), **options)


@pytest.mark.parametrize("study", [coordfit.compare, coordfit.sweep, coordfit.inpaint])
def test_studies_have_no_few_bits(study):
    more = {"missing": 0.5} if study is coordfit.inpaint else {}
    with pytest.raises(ConfigError, match="'compact' is of `coordfit fit` alone"):
        study(bundled_picture(32), recipe="compact", **more)


@pytest.fixture(scope="module")
def photo():
    return load_picture(bundled_picture().levels[30:78, 40:104])


@pytest.fixture(scope="module")
def result(photo):
    return coordfit.fit(photo, recipe="compact", target_psnr=36, steps=200, threads=2)


def test_figures_are_of_the_file(result, photo, tmp_path):
    result.save(tmp_path / "photo.cfc")
    data = (tmp_path / "photo.cfc").read_bytes()
    drawn = coordfit.decompress(data)
    assert result.metrics["psnr"] == pytest.approx(coordfit.psnr(drawn.pixels, photo.pixels), abs=1e-4)
    assert result.metrics["psnr"] == pytest.approx(36, abs=0.3)
    assert result.metrics["ssim"] == pytest.approx(coordfit.ssim(drawn.pixels, photo.pixels), abs=1e-6)
    assert result.metrics["bits_per_pixel"] == 8 * len(data) / (48 * 64)
    np.testing.assert_allclose(result.reconstruction, drawn.pixels, atol=1e-6)
    assert result.metrics["bits_per_pixel"] < result.other_bits_per_pixel["JPEG"]


def test_a_file_is_loaded_drawn_copied_and_saved_again(result, tmp_path):
    result.save(tmp_path / "photo.cfc")
    model = coordfit.load(tmp_path / "photo.cfc")
    pickled = [pickle.loads(pickle.dumps(each)) for each in (model, result)]
    for each in [model, copy.deepcopy(model), *pickled]:
        np.testing.assert_array_equal(each.render(), result.reconstruction)
    assert model.render(96, 128, crop=(3, 4, 10, 20)).shape == (20, 10, 3)
    model.save(tmp_path / "again.cfc")
    assert (tmp_path / "again.cfc").read_bytes() == result.data


def test_a_callback_sees_the_picture_from_the_start_and_may_end_it(photo):
    seen = []

    def callback(progress):
        if progress.evaluated:
            seen.append((progress.step, coordfit.psnr(progress.render(), photo.pixels), progress.psnr))
        return progress.step >= 30

    ended = coordfit.fit(photo, recipe="compact", steps=60, callback=callback)
    assert ended.stopped == "interrupted"
    assert ended.metrics["steps"] == 30
    assert seen[0][0] == 0
    assert seen[0][1] > 28
    assert all(drawn == pytest.approx(told, abs=0.3) for _, drawn, told in seen)
    assert [row["step"] for row in ended.history] == [step for step, *_ in seen]


@pytest.mark.slow
def test_colours_of_hidden_pixels_do_not_count(photo):
    alpha = np.full((48, 64, 1), 255, np.uint8)
    alpha[:20, :30] = 0
    levels = np.dstack([photo.levels, alpha])
    found = coordfit.fit(levels, recipe="compact", target_psnr=34, steps=60, threads=1)
    truth = load_picture(levels).pixels
    shown = coordfit.psnr(premultiply(found.reconstruction), premultiply(truth))
    assert found.metrics["psnr"] == pytest.approx(shown, abs=1.5)
    seen = np.where(truth[..., 3:] > 0, found.reconstruction, truth)
    seen[..., 3] = found.reconstruction[..., 3]
    assert found.metrics["ssim"] == pytest.approx(coordfit.ssim(seen, truth), abs=1e-6)


# -- in a folder -----------------------------------------------------------------------------------------


@pytest.fixture
def in_folder(tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("coordfit.training.result.save_curves", lambda path, history: path.touch())
    save_picture("photo.png", photo.pixels)


PICTURES = {"reconstruction.png", "comparison.png", "curves.svg"}
FILES = {"config.json", "history.csv", "metrics.json", "model.cfc", *PICTURES}
FIT = ["photo.png", "--recipe", "compact", "--steps", "40", "--no-progress", "--threads", "2"]


def test_a_run_folder_is_drawn_told_and_not_run_again(in_folder, capsys, monkeypatch):
    assert main([*FIT, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert "bits per pixel" in out
    assert "a function of few bits, to 40 dB in 40 steps" in err
    assert {path.name for path in Path("run").iterdir()} == FILES
    drawn = coordfit.load("run")
    np.testing.assert_allclose(load_picture("run/reconstruction.png").pixels, drawn.render(), atol=1e-6)
    assert main(["info", "run"]) == 0
    latents = sum(level.size for level in drawn.compressed.latents)
    assert re.search(rf"^latents +{latents}$", capsys.readouterr().out, re.MULTILINE)
    assert main(["render", "run", "--scale", "2", "--json", "--no-progress"]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "enlarge"
    monkeypatch.setattr(PyramidTrainer, "step", None)  # none is to be taken
    assert main(["--resume", "--out", "run", "--json"]) == 0
    told, err = capsys.readouterr()
    assert json.loads(told)["metrics"] == json.loads(Path("run/metrics.json").read_text())
    assert "finished already" in err


@pytest.mark.slow
def test_a_finished_run_is_not_taken_for_another(in_folder, capsys):
    assert main([*FIT, "--out", "run", "-q"]) == 0
    for words, message in [
        (["--target-psnr", "30"], "cannot resume with another target_psnr"),
        (
            ["--recipe", "memorise"],
            "with the recipe 'memorise': the run has a function of few bits",
        ),
        (["--tiles", "8"], "cannot resume with options of tiles"),
        (["--hidden-size", "8"], "hidden_size is no setting of it"),
    ]:
        assert main(["--resume", "--out", "run", *words]) == 2
        assert message in capsys.readouterr().err
    figures = Path("run/metrics.json").read_text()
    for damaged in ("[", "{}", "[]", figures.replace('"ssim": 0', '"ssim": "0')):
        Path("run/metrics.json").write_text(damaged)
        assert main(["--resume", "--out", "run"]) == 1
        assert "metrics.json cannot be read" in capsys.readouterr().err
    save_picture("photo.png", np.zeros((48, 64, 3)))
    assert main(["--resume", "--out", "run"]) == 2
    assert "another picture" in capsys.readouterr().err


def test_the_first_look_is_there_before_the_first_step(in_folder, capsys, monkeypatch, photo):
    shown = []

    def stepping(self, done):
        shown.append(load_picture("run/reconstruction.png"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PyramidTrainer, "step", stepping)
        assert main([*FIT, "--out", "run"]) == 130
    psnr = coordfit.psnr(shown[0].pixels, photo.pixels)
    assert psnr > 28
    assert f"a first look, {psnr:.0f}" in capsys.readouterr().err.replace(f"{psnr:.1f}", f"{psnr:.0f}")


@pytest.mark.slow
def test_a_folder_that_is_replaced_has_the_model_of_one_run(in_folder):
    network = ["photo.png", "--steps", "2", "--hidden-size", "8", "--device", "numpy", "--no-progress"]
    assert main([*network, "--out", "run", "-q"]) == 0
    assert main([*FIT, "--out", "run", "--overwrite", "-q"]) == 0
    assert {path.name for path in Path("run").iterdir()} == FILES
    assert main([*network, "--out", "run", "--overwrite", "-q"]) == 0
    assert not list(Path("run").glob("*.cfc*"))
    assert type(coordfit.load("run")) is coordfit.Model


def interrupted(monkeypatch, at):
    """Leave a run in its folder whose last step was the one before `at`."""
    original, taken = PyramidTrainer.step, []

    def stepping(self, done):
        taken.append(done)
        if len(taken) == at:
            raise KeyboardInterrupt
        return original(self, done)

    with monkeypatch.context() as patch:
        patch.setattr("coordfit.tasks.jobs.compact.CHECKPOINT_SECONDS", -1.0)  # one before each step
        patch.setattr(PyramidTrainer, "step", stepping)
        assert main([*FIT, "--out", "run", "-q"]) == 130


def test_an_interrupted_run_goes_on_with_another_budget(in_folder, monkeypatch):
    interrupted(monkeypatch, 6)
    assert main(["--resume", "--out", "run", "--steps", "8", "-q"]) == 0
    assert json.loads(Path("run/metrics.json").read_text())["steps"] == 8
    assert json.loads(Path("run/config.json").read_text())["config"]["steps"] == 8


def test_a_damaged_checkpoint_is_refused_with_the_cure(in_folder, monkeypatch, capsys):
    interrupted(monkeypatch, 3)
    Path("run/model.cfc.checkpoint").write_bytes(b"nothing of ours")
    assert main(["--resume", "--out", "run"]) == 1
    assert "it is no checkpoint of a compression; add --overwrite instead" in capsys.readouterr().err
