"""`coordfit.fit(..., out=FOLDER)`: the files of the command, refused, replaced and continued like there."""

import csv
import json

import numpy as np
import pytest
from support.cases import slow

import coordfit
from coordfit.cli import main
from coordfit.errors import ConfigError, OutputError
from coordfit.tasks.folders import run_folder

SMALL = {"hidden_size": 8, "depth": 2, "num_frequencies": 4, "batch_size": 64, "steps": 40, "seed": 3}
SMALL |= {"evaluate_every": 10}
MACHINE = {"device": "numpy", "threads": 1}
KINDS = {
    "network": SMALL,
    "tiles": {"tiles": 8, "hidden_size": 8, "num_frequencies": 4, "steps": 20},
    "compact": {"recipe": "compact", "steps": 30},
    "mean": SMALL | {"average": 2},
}
# Of a clock, and the routes that were counted since the run went on.
TIMED = {"seconds", "fused"}


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    coordfit.save_picture(path, coordfit.load_picture(coordfit.bundled_picture(), size=24).pixels)
    return path


def words(options):
    return [word for name, value in options.items() for word in ("--" + name.replace("_", "-"), str(value))]


def files(folder):
    """The names in a run's folder, and what the documents and the history have beside a clock's figures."""
    names = sorted(path.name for path in folder.iterdir())
    documents = [json.loads((folder / name).read_text()) for name in ("config.json", "metrics.json")]
    for document in documents:
        for name in TIMED:
            document.pop(name, None)
    rows = []
    if (folder / "history.csv").exists():
        with (folder / "history.csv").open() as file:
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return names, documents, rows


@pytest.mark.parametrize("kind", ["network", *slow("tiles", "compact", "mean")])
def test_the_folder_is_that_of_the_command(kind, photo, tmp_path, capsys):
    options = KINDS[kind] | MACHINE
    result = coordfit.fit(photo, out=tmp_path / "python", **options)
    assert main(["fit", str(photo), *words(options), "--out", str(tmp_path / "command"), "-q"]) == 0
    assert files(tmp_path / "python") == files(tmp_path / "command")
    assert capsys.readouterr() == ("", "")
    for folder in ("python", "command"):
        drawn = coordfit.load(next((tmp_path / folder).glob("model.*"))).render()
        np.testing.assert_allclose(drawn, result.render(), atol=2e-3 if kind == "tiles" else 1e-6)


@pytest.mark.parametrize("kind", ["network", "tiles", *slow("compact")])
def test_an_interrupted_run_goes_on_as_if_it_had_never_stopped(kind, photo, tmp_path):
    options = KINDS[kind] | MACHINE
    whole = coordfit.fit(photo, out=tmp_path / "whole", **options)
    run, calls = {"out": tmp_path / "cut"} | options, []
    assert (
        coordfit.fit(photo, callback=lambda p: calls.append(p) or len(calls) > 1, **run).stopped
        == "interrupted"
    )
    result = coordfit.fit(photo, resume=True, **run)
    assert result.stopped == whole.stopped
    np.testing.assert_array_equal(result.render(), whole.render())
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    again = coordfit.fit(photo, resume=True, **run)  # nothing is left to do
    np.testing.assert_array_equal(again.render(), whole.render())


def test_the_rows_of_its_steps_are_on_disk_before_a_checkpoint_is(photo, tmp_path, monkeypatch):
    synced, save, sync = [], run_folder.save_checkpoint, run_folder.HistoryWriter.sync
    monkeypatch.setattr("coordfit.training.loop.CHECKPOINT_SECONDS", 0.0)

    def sync_and_look(history):
        sync(history)
        synced.append(history.path.read_text())

    def save_and_look(path, model, state):
        assert f"\n{state.history[-1]['step']}," in synced.pop()
        save(path, model, state)

    monkeypatch.setattr(run_folder.HistoryWriter, "sync", sync_and_look)
    monkeypatch.setattr(run_folder, "save_checkpoint", save_and_look)
    coordfit.fit(photo, out=tmp_path, **SMALL | MACHINE)
    assert not synced


def test_a_run_of_the_command_goes_on_in_python_and_back(photo, tmp_path):
    out = ["--out", str(tmp_path / "run"), "-q"]
    assert main(["fit", str(photo), *words(SMALL | MACHINE | {"steps": 20}), *out]) == 0
    result = coordfit.fit(photo, out=tmp_path / "run", resume=True, steps=40, **MACHINE)
    assert result.config.hidden_size == 8  # that of the run
    assert [row["step"] for row in result.history] == [0, 10, 20, 30, 40]
    assert main(["fit", *words(MACHINE | {"steps": 50}), "--resume", *out]) == 0
    assert json.loads((tmp_path / "run/metrics.json").read_text())["steps"] == 50


def test_what_would_lose_a_run_is_refused_in_words_of_python(photo, tmp_path):
    out, options = tmp_path / "run", SMALL | MACHINE | {"steps": 10}
    coordfit.fit(photo, out=out, **options)
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(OutputError, match=r"add overwrite=True to replace it, resume=True to continue it"):
        coordfit.fit(photo, out=out, **options)
    with pytest.raises(ConfigError, match="give one of them"):
        coordfit.fit(photo, out=out, overwrite=True, resume=True, **options)
    with pytest.raises(ConfigError, match="hidden_size 9: the run has 8"):
        coordfit.fit(photo, out=out, resume=True, **options | {"hidden_size": 9})
    with pytest.raises(ConfigError, match="is not the picture"):
        coordfit.fit(1 - coordfit.load_picture(photo).pixels, out=out, resume=True, **options)
    with pytest.raises(ConfigError, match="need out"):
        coordfit.fit(photo, resume=True, **options)
    assert (out / "model.safetensors").read_bytes() == before
    coordfit.fit(photo, out=out, overwrite=True, **options | {"seed": 4})
    assert (out / "model.safetensors").read_bytes() != before


def test_known_pixels_and_weights_are_kept_in_mind(tmp_path):
    picture = coordfit.load_picture(coordfit.bundled_picture(), size=24)
    known = np.random.default_rng(0).random((24, 24)) < 0.5
    run = {"out": tmp_path / "run", "known": known, **SMALL, **MACHINE}
    coordfit.fit(picture, callback=lambda progress: progress.step >= 10, **run)
    with pytest.raises(ConfigError, match="other known pixels or weights"):
        coordfit.fit(picture, resume=True, **run | {"known": ~known})
    with pytest.raises(ConfigError, match="other known pixels or weights"):
        coordfit.fit(picture, resume=True, **run | {"known": None})
    result = coordfit.fit(picture, resume=True, **run)
    alone = coordfit.fit(picture, known=known, **SMALL, **MACHINE)
    np.testing.assert_array_equal(result.render(), alone.render())


def test_a_config_and_an_array_have_a_folder_too(tmp_path):
    config = coordfit.make_config(SMALL)
    pixels = np.random.default_rng(0).random((300, 280, 3)).astype(np.float32)
    result = coordfit.fit(pixels, config.replace(steps=1), out=tmp_path / "run", **MACHINE)
    assert isinstance(result.model, coordfit.Model)  # one network, however large the picture is
    assert json.loads((tmp_path / "run/config.json").read_text())["image"] is None
