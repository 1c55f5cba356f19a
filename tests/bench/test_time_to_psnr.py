"""`python -m bench.time_to_psnr`: what it counts, and that it runs."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from support import needs

from coordfit.config import make_config
from coordfit.images import bundled_picture

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
bench = pytest.importorskip("bench.time_to_psnr.__main__")
curves = pytest.importorskip("bench.time_to_psnr.curves")
pictures = pytest.importorskip("bench.scikit_pictures")

TINY = {"num_frequencies": 8, "hidden_size": 16, "depth": 3, "sigma": 3.0}


def rows(*figures):
    return [{"seconds": s, "visits": 100.0 * s, "psnr": p} for s, p in figures]


def test_a_level_is_reached_at_its_first_evaluation():
    run = rows((1.0, 20.0), (2.0, 31.0), (3.0, 29.0), (4.0, 40.0))
    assert bench.first_at(run, 30.0, "seconds") == 2.0
    assert bench.first_at(run, 40.0, "visits") == 400.0
    assert bench.first_at(run, 40.1, "seconds") == math.inf


def test_the_best_length_is_one_for_all_pictures():
    lengths = {10: [rows((1.0, 30.0)), rows((1.0, 29.0))], 20: [rows((2.0, 30.0)), rows((8.0, 30.0))]}
    runs = [
        {"contender": "a", "picture": str(k), "length": length, "rows": run}
        for length, pictures in lengths.items()
        for k, run in enumerate(pictures)
    ]
    assert bench.best(runs, "a", 30.0, "seconds") == pytest.approx(4.0)  # not 1 for one and 8 for the other
    assert bench.best(runs, "a", 25.0, "seconds") == pytest.approx(1.0)
    assert bench.best(runs, "b", 25.0, "seconds") == math.inf
    assert "| a | 1.0 | 4.0 | - | - | - | - |" in bench.table(runs, "seconds", "{:.1f}")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # PyTorch calls its own old parts
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize("library", ["coordfit", "torch"])
@pytest.mark.parametrize("batch_size", [100, None])
def test_both_libraries_learn_the_same_from_the_same_start(library, batch_size, optimizer):
    if library == "torch":
        needs.library("torch")
        import torch

        torch.compiler.set_stance("force_eager")  # the same formulas, without a compiler
    picture = bundled_picture(32)
    settings = {"optimizer": optimizer, "steps": 60, "batch_size": batch_size, "learning_rate": 1e-2}
    config = make_config(TINY, settings)
    found = curves.run(library, picture, config, stop_at=99.0, device="numpy")
    assert found[-1]["steps"] == 60
    assert found[-1]["visits"] == 60 * (batch_size or 1024)
    seconds = [row["seconds"] for row in found]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    ours = curves.run("coordfit", picture, config, stop_at=99.0, device="numpy")
    # On all pixels the runs differ by rounding alone, else by the order of the batches too.
    assert found[-1]["psnr"] == pytest.approx(ours[-1]["psnr"], abs=0.02 if batch_size is None else 1.0)
    assert curves.run(library, picture, config, stop_at=1.0, device="numpy")[-1]["steps"] < 60


def test_pictures_are_square_and_in_colour():
    pytest.importorskip("skimage")
    for name in pictures.PHOTOGRAPHS:
        assert pictures.picture_of(name, 24).pixels.shape == (24, 24, 3)
    assert np.ptp(pictures.picture_of("coffee", 24).pixels) > 0.3


def test_a_quick_trial_runs_from_the_command_line(monkeypatch, capsys, tmp_path):
    pytest.importorskip("skimage")
    words = ["--quick", "--one", "coordfit: fast (Muon)", "camera", "--size", "16", "--device", "numpy"]
    monkeypatch.setattr(sys, "argv", ["time_to_psnr", *words])
    bench.main()
    (found,) = json.loads(capsys.readouterr().out)
    assert found["length"] == found["rows"][-1]["steps"] == 6
    draw = pytest.importorskip("bench.time_to_psnr.plot", exc_type=ImportError).draw
    run = {"contender": "coordfit: fast (Muon)", "picture": "camera", **found}
    draw([run], lambda name, level: bench.best([run], name, level, "seconds"), tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
