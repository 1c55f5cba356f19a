"""`coordfit.export`, and the commands `export` and `view`."""

import json
import tempfile
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from support.components import GELU, LogUniform
from support.exported import PICTURE, SMALL, model

import coordfit
from coordfit import ConfigError
from coordfit.cli import main
from coordfit.tasks.export import SUFFIXES


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """A folder with a model, tiles and a compressed picture."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model("gaussian, relu").save("model.safetensors")
    model("tiles").save("tiles.safetensors")
    coordfit.compress(PICTURE, steps=1).save("photo.cfc")


@pytest.fixture
def call(capsys):
    def run(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


# -- in Python -------------------------------------------------------------------------------------------


def test_the_suffix_says_the_format():
    assert coordfit.export("tiles.safetensors", "picture.npz") == Path("picture.npz")
    coordfit.export("tiles.safetensors", "picture", to="npz")
    assert np.load("picture").files == np.load("picture.npz").files


@pytest.mark.parametrize(
    ("of", "path", "line"),
    [
        (
            "model.safetensors",
            "a.jpg",
            r"no format for a\.jpg; choose one of onnx \(\.onnx\), torch \(\.pt\), npz",
        ),
        ("model.safetensors", "a.py", r"no format for a\.py"),
        (
            "photo.cfc",
            "a.onnx",
            r"photo\.cfc is a compressed picture, .* so html alone shows it; for onnx fit a",
        ),
        ("photo.cfc", "a.npz", r"compressed picture"),
        ("photo.cfc", "a.pt", r"compressed picture"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(of, path, line):
    with pytest.raises(ConfigError, match=line) as error:
        coordfit.export(of, path)
    assert "\n" not in str(error.value)
    assert not Path(path).exists()


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".npz", ".html"])
def test_parameters_of_16_bits_stay_as_short(suffix):
    if suffix in (".onnx", ".pt"):
        pytest.importorskip({".onnx": "onnx", ".pt": "torch"}[suffix])
    long, short = (coordfit.export(model(name), name + suffix) for name in ("tiles of 32 bits", "tiles"))
    saved = model("tiles").num_parameters * 2
    assert long.stat().st_size - short.stat().st_size > 0.9 * saved


def test_a_fit_is_told_to_give_its_model():
    with pytest.raises(ConfigError, match=r"not <FitResult.*>; of a fit its \.model"):
        coordfit.export(coordfit.fit(PICTURE, **SMALL), "a.npz")


def test_a_module_needs_a_place_of_its_own():
    with pytest.raises(ConfigError, match=r"a\.py is where the module comes; name the \.pt beside it"):
        coordfit.export("model.safetensors", "a.py", to="torch")


def test_frequencies_of_ones_own_are_exported_and_formulas_are_refused_where_they_are_spelled_out():
    own = coordfit.fit(PICTURE, encoding=LogUniform(), **SMALL).model
    coordfit.export(own, "own.npz")
    strange = coordfit.fit(PICTURE, activation=GELU(), **SMALL).model
    for path in ("a.npz", "a.pt", "a.html"):
        with pytest.raises(
            ConfigError, match=r"knows the activations relu, .*, not GELU\(\); export to \.onnx"
        ):
            coordfit.export(strange, path)


# -- commands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", SUFFIXES)
def test_the_command_writes_beside_the_model_and_prints_where(call, to):
    if to in ("onnx", "torch"):
        pytest.importorskip(to)
    code, out, err = call("export", "model.safetensors", "--to", to)
    assert (code, err) == (0, "")
    written = out.splitlines()
    assert written[0] == f"model{SUFFIXES[to][0]}"
    assert written[1:] == (["model.py"] if to == "torch" else [])
    assert all(Path(name).stat().st_size for name in written)
    code, out, err = call("export", "model.safetensors", "--to", to)
    assert (code, out) == (1, "")
    assert "add --overwrite" in err
    assert call("export", "model.safetensors", "--to", to, "--overwrite")[0] == 0


def test_json_says_the_files_and_their_sizes(call):
    code, out, _ = call("export", "tiles.safetensors", "--out", "picture.npz", "--json")
    said = json.loads(out)
    assert (code, said["format"], said["files"]) == (0, "npz", ["picture.npz"])
    assert said["bytes"] == [Path("picture.npz").stat().st_size]


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["model.safetensors"], 2, "say what is to be written: --to onnx|torch|npz|html, or a file with --out"),
        (["model.safetensors", "--to", "onx"], 2, "did you mean 'onnx'?"),
        (["model.safetensors", "--out", "a.gif"], 2, "there is no format for a.gif"),
        (["photo.cfc", "--to", "torch"], 2, "so html alone shows it"),
        (["nothing.safetensors", "--to", "npz"], 1, "nothing.safetensors"),
        (["model.safetensors", "--out", "missing/a.npz"], 1, "the folder missing does not exist"),
    ],
)
def test_a_mistake_is_answered_in_one_line(call, words, code, line):
    found, out, err = call("export", *words)
    assert (found, out) == (code, "")
    assert line in err
    assert err.count("\n") == 1


def test_view_opens_a_page_and_prints_its_path(call, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    code, out, err = call("view", "tiles.safetensors")
    page = Path(out.strip())
    assert (code, err, opened) == (0, "", [page.as_uri()])
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert call("view", "photo.cfc", "--out", "photo.html", "--no-browser")[:2] == (0, "photo.html\n")
    assert call("view", "photo.cfc", "--out", "photo.html", "--no-browser")[0] == 1
    assert len(opened) == 1


def test_view_says_if_there_is_no_browser(call, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    code, out, err = call("view", "model.safetensors", "--json")
    assert (code, json.loads(out)["opened"]) == (0, False)
    assert "no browser could be started" in err
