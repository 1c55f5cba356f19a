"""`python -m bench.recorded_fits`: the same code gives the same bits, and a number that has changed is told."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import coordfit

sys.path.insert(0, str(Path(__file__).parents[2]))
recorded_fits = pytest.importorskip("bench.recorded_fits")

DEPTH = "numpy 1: fit small depth=1"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the tool with some words on one file; its exit code and what it printed."""

    def call(way, *words):
        monkeypatch.setattr(sys, "argv", ["recorded_fits", way, str(tmp_path / "fits.npz"), *words])
        return recorded_fits.main(), capsys.readouterr().out

    call.file = tmp_path / "fits.npz"
    return call


def test_the_same_code_is_identical_and_a_changed_number_is_told(run, monkeypatch):
    assert run("--save", "--only", DEPTH)[0] == 0
    code, out = run("--compare", "--only", DEPTH)
    assert code == 0
    assert f"{DEPTH} " in out
    assert "all identical" in out
    monkeypatch.setitem(recorded_fits.SMALL, "sigma", 10.001)
    code, out = run("--compare", "--only", DEPTH)
    assert code == 1
    assert "rendering 0.00" in out
    assert "1 changed" in out


def test_one_bit_and_what_is_missing_or_new_are_told(run):
    run("--save", "--only", DEPTH)
    with np.load(run.file) as file:
        arrays = dict(file)
    arrays[f"{DEPTH}: rendering"].view(np.uint8)[0, 0, 0] ^= 1
    del arrays[f"{DEPTH}: history"]
    arrays["numpy 1: fit small depth=12: losses"] = np.zeros(2)
    np.savez(run.file, **arrays)
    code, out = run("--compare", "--only", DEPTH)
    assert code == 1
    assert re.search(r"history new, rendering [0-9.]+e-0[789]\n", out)
    assert "losses missing" in out
    assert "2 changed" in out


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([1.0, np.nan], [1.0, np.nan], ""),
        ([1.0, np.nan], [1.25, np.nan], "0.25"),
        ([1.0, np.nan], [1.0, 2.0], "other values are finite"),
        ([0.0], [-0.0], "0"),
        ([1.0], [1.0, 2.0], "float64(1,) became float64(2,)"),
    ],
)
def test_differences_are_told_in_words(before, after, words):
    assert recorded_fits.difference(np.array(before), np.array(after)) == words


def test_every_recipe_is_recorded():
    with pytest.raises(coordfit.ConfigError, match="known: ") as caught:
        coordfit.make_config(recipe="unknown")
    others = ["compact", "memorise"]  # of few bits, and the settings of tiles
    assert str(caught.value).partition("known: ")[2].split(", ") == [*recorded_fits.RECIPES, *others]


@pytest.mark.very_slow
def test_everything_repeats_bit_by_bit(run):
    assert run("--save", "--only", "numpy 2: ")[0] == 0
    assert run("--compare", "--only", "numpy 2: ")[0] == 0
