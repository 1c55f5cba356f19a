"""Ctrl-C in every phase of every command: answered soon, saved, and told how to go on in that folder."""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.cases import slow, very_slow

import coordfit
from coordfit.cli import main
from coordfit.images import bundled_picture, load_picture, save_picture
from coordfit.training.checkpoint import load_checkpoint

SMALL = ["--device", "numpy", "--threads", "2", "--hidden-size", "8", "--num-frequencies", "4", "--no-progress"]
NETWORK = [*SMALL, "--steps", "40", "--evaluate-every", "5", "--batch-size", "100"]
TILES = [*SMALL, "--tiles", "8", "--steps", "6", "--stored", "float32"]

COMPACT = ["--recipe", "compact", "--steps", "12", "--threads", "2", "--no-progress"]

COMMANDS = {
    "fit": ["fit", "photo.png", *NETWORK],
    "compact": ["fit", "photo.png", *COMPACT],
    "tiles": ["fit", "photo.png", *TILES],
    "compare": ["compare", "photo.png", *NETWORK, "--encoding", "basic,gaussian", "--sigma", "auto,2"],
    "compare tiles": ["compare", "photo.png", *TILES, "--encoding", "none,basic"],
    "inpaint": ["inpaint", "photo.png", *NETWORK, "--missing", "0.5"],
    "average": ["inpaint", "photo.png", *NETWORK, "--missing", "0.5", "--average", "2"],
    "inpaint tiles": ["inpaint", "photo.png", *TILES, "--missing", "0.2"],
    "sweep": ["sweep", "photo.png", *NETWORK, "--sigma", "auto,2", "--depth", "2,3"],
    "gauss-newton": [
        "sweep",
        "photo.png",
        *SMALL,
        "--steps",
        "40",
        "--optimizer",
        "gauss-newton",
        "--depth",
        "2,3",
    ],
    "sweep tiles": ["sweep", "photo.png", *TILES[:-2], "--tiles", "8,16"],
    "experiments": ["experiments", "losses", "optimizers", "--quick", "--device", "numpy", "--no-progress"],
}
SIGMA, STEP = "coordfit.tasks.jobs.sigma._scores", "coordfit.training.step.TrainingStep.advance"
FIGURES, JUDGE = (
    "coordfit.training.evaluation.Evaluator.sums",
    "coordfit.training.evaluation.Evaluator.with_ssim",
)
WRITE, FOLDER = "coordfit.cli.commands.compare._write", "coordfit.tasks.folders.run_folder.RunFolder"
FILL, TABLE = "coordfit.tasks.filling.figures.biharmonic_fill", "coordfit.cli.commands.sweep._write_table"
TILES_WRITE = "coordfit.tasks.folders.run_folder.RunFolder.write_result"
GROUP = "coordfit.tiles.group.TileGroup._finish"
TRAIN = "coordfit.codec.pyramid.training.PyramidTrainer.step"
# Of each command the phase, the call of it that lasts, and which one it is.
PHASES = {
    "fit": [(STEP, 1), (STEP, 12), (FIGURES, 1), (FIGURES, 4), (JUDGE, 1), (f"{FOLDER}.write_result", 1)],
    "compact": [
        (TRAIN, 1),
        (TRAIN, 5),
        ("coordfit.codec.compression.Compressor.finish", 6),  # figures of a small picture finish it too
        (JUDGE, 1),
        (f"{FOLDER}.write_result", 1),
    ],
    "tiles": [(STEP, 1), (STEP, 4), (GROUP, 1), (JUDGE, 1), (TILES_WRITE, 1)],
    "compare": [(SIGMA, 1), (STEP, 1), (STEP, 62), (FIGURES, 5), (JUDGE, 1), (WRITE, 1)],
    "compare tiles": [(STEP, 2), (STEP, 4), (JUDGE, 1)],
    "inpaint": [(STEP, 12), (FIGURES, 1), (FIGURES, 3), (JUDGE, 1), (FILL, 1)],
    "average": [(STEP, 12), (FIGURES, 5), (JUDGE, 1)],
    "inpaint tiles": [(STEP, 3), (JUDGE, 1)],
    "sweep": [(SIGMA, 1), (STEP, 130), (FIGURES, 20), (JUDGE, 2), (TABLE, 1)],
    "gauss-newton": [("coordfit.optimizers.gauss_newton.GaussNewtonStep.advance", 4)],
    "sweep tiles": [(STEP, 5), (JUDGE, 2)],
    "experiments": [(STEP, 3), ("coordfit.experiments.optimizers.run", 1)],
}  # fmt: skip


@pytest.fixture(autouse=True)
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("coordfit.cli.interrupts.PATIENCE", 0.1)
    monkeypatch.setattr("coordfit.training.result.save_curves", lambda path, history: path.touch())
    monkeypatch.setattr("coordfit.tiles.trainer.CALLBACK_SECONDS", 0.0)
    monkeypatch.setattr(
        "coordfit.backends.numpy_backend.backend.NumpyBackend.group_bytes", 1
    )  # groups of four tiles
    save_picture(tmp_path / "photo.png", load_picture(bundled_picture().pixels[40:72, 30:70]).pixels)


def last(monkeypatch, place, number, count):
    """Let a call of that place send a signal, and last for minutes after it unless it is cut short."""
    owner, _, name = place.rpartition(".")
    calls, original = [], coordfit_attribute(owner, name)

    def lasting(*arguments, **options):
        here = threading.current_thread() is threading.main_thread()  # no other can be cut short in a call
        calls.extend([name] * here)
        if len(calls) != count or not here:
            return original(*arguments, **options)
        os.kill(os.getpid(), number)
        end = time.monotonic() + 600
        while time.monotonic() < end:
            time.sleep(0.01)
        raise AssertionError("it was not cut short")

    monkeypatch.setattr(place, lasting)


def coordfit_attribute(owner, name):
    import pkgutil

    return getattr(pkgutil.resolve_name(owner), name)


def cut_short(monkeypatch, capsys, words, place, count, number=signal.SIGINT):
    """The exit code, what the last line says, and how long the command took to answer."""
    with monkeypatch.context() as patch:
        last(patch, place, number, count)
        begin = time.monotonic()
        code = main([*words, "--out", "the run"])
        seconds = time.monotonic() - begin
    return code, capsys.readouterr().err.splitlines()[-1], seconds


def some_of(phases, *fast, others=slow):
    """Cases for `parametrize`: all are slow but those of these places."""
    return [case for k, phase in enumerate(phases) for case in ([phase] if k in fast else others(phase))]


FIRST_AND_LATER = [some_of([(name, *phase) for phase in phases], 0) for name, phases in PHASES.items()]


@pytest.mark.parametrize(("command", "place", "count"), [*itertools.chain(*FIRST_AND_LATER)])
def test_every_phase_of_every_command_answers(monkeypatch, capsys, command, place, count):
    code, line, seconds = cut_short(monkeypatch, capsys, COMMANDS[command], place, count)
    assert code == 130
    assert seconds < 60  # and not the ten minutes that the call would have lasted
    assert line.startswith("coordfit: interrupted; ") or "there is no filled picture" in line
    if command != "experiments":
        assert "--out 'the run'" in line
    print(f"{seconds:.2f} s, {command}, {place.rpartition('.')[2]} {count}: {line}")


@pytest.mark.parametrize("place", [SIGMA, STEP])
def test_a_choice_of_sigma_leaves_nothing_of_a_run_that_has_not_begun(monkeypatch, capsys, place):
    code, line, _ = cut_short(monkeypatch, capsys, [*COMMANDS["fit"], "--sigma", "auto"], place, 1)
    assert (code, line) == (130, "coordfit: interrupted")
    assert not Path("the run").exists()


FOREVER = [*SMALL[:4], "--size", "64", "--steps", "1000000"]
LASTING = {
    "fit": ["fit", *FOREVER],
    "tiles": ["fit", *FOREVER, "--tiles", "8"],
    "sweep": ["sweep", *FOREVER, "--sigma", "auto,3", "--depth", "2,3"],
    "experiments": ["experiments", "--device", "numpy"],
}


@pytest.mark.very_slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("command", LASTING)
def test_a_signal_at_a_random_moment_ends_a_command_that_would_last_for_hours(command, tmp_path):
    number = random.SystemRandom().choice([signal.SIGINT, signal.SIGTERM])
    words = [sys.executable, "-m", "coordfit", *LASTING[command], "--out", tmp_path / "run"]
    environment = os.environ | {"PYTHONPATH": str(Path(coordfit.__file__).parents[1])}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        first = process.stderr.read(1)  # the command has begun
        time.sleep(random.SystemRandom().uniform(0, 3))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
    assert "Traceback" not in first + err
    assert re.search("interrupted|terminated", err.splitlines()[-1])


def parameters(folder):
    return coordfit.load(Path(folder) / "model.safetensors", device="numpy")


@pytest.mark.parametrize(("place", "count"), some_of(PHASES["fit"], 1, 3))
def test_a_fit_that_was_cut_short_goes_on_to_what_an_unbroken_one_is(monkeypatch, capsys, place, count):
    words = COMMANDS["fit"]
    cut_short(monkeypatch, capsys, words, place, count)
    assert main(["--resume", "--out", "the run", "--device", "numpy", "--threads", "2", "-q"]) == 0
    assert main([*words, "-q", "--out", "whole"]) == 0
    found, wanted = parameters("the run"), parameters("whole")
    np.testing.assert_array_equal(found.mlp.parameters, wanted.mlp.parameters)


@pytest.mark.parametrize(("place", "count"), some_of(PHASES["tiles"], 1))
def test_tiles_that_were_cut_short_go_on_to_what_unbroken_ones_are(monkeypatch, capsys, place, count):
    words = COMMANDS["tiles"]
    cut_short(monkeypatch, capsys, words, place, count)
    assert main(["--resume", "--out", "the run", "--device", "numpy", "--threads", "2", "-q"]) == 0
    assert main([*words, "-q", "--out", "whole"]) == 0
    np.testing.assert_array_equal(parameters("the run").parameters, parameters("whole").parameters)
    assert not list(Path("the run").glob("tiles.*"))


@pytest.mark.parametrize(("place", "count"), some_of(PHASES["compact"], 1, others=very_slow))
def test_few_bits_that_were_cut_short_go_on_to_the_file_of_an_unbroken_run(monkeypatch, capsys, place, count):
    words = COMMANDS["compact"]
    cut_short(monkeypatch, capsys, words, place, count)
    assert main(["--resume", "--out", "the run", "--threads", "2", "-q"]) == 0
    assert main([*words, "-q", "--out", "whole"]) == 0
    assert Path("the run/model.cfc").read_bytes() == Path("whole/model.cfc").read_bytes()
    assert not Path("the run/model.cfc.checkpoint").exists()


def test_few_bits_that_are_ended_between_steps_leave_their_last_step(monkeypatch, capsys):
    taken, original = [], coordfit_attribute("coordfit.codec.pyramid.training.PyramidTrainer", "step")

    def stepping(self, done):
        taken.append(done)
        if len(taken) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, done)

    with monkeypatch.context() as patch:
        patch.setattr(TRAIN, stepping)
        patch.setattr(
            "coordfit.cli.interrupts.PATIENCE", 60.0
        )  # no step is cut short, however busy the machine
        assert main([*COMMANDS["compact"], "--out", "the run"]) == 130
    assert "the run so far is saved, go on with --resume" in capsys.readouterr().err
    assert not Path("the run/metrics.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(TRAIN, stepping)
        assert main(["--resume", "--out", "the run", "--threads", "2"]) == 0
    assert "going on from step 7" in capsys.readouterr().err
    assert len(taken) == 12
    assert main([*COMMANDS["compact"], "-q", "--out", "whole"]) == 0
    assert Path("the run/model.cfc").read_bytes() == Path("whole/model.cfc").read_bytes()
    history = [Path(run, "history.csv").read_text().splitlines() for run in ("the run", "whole")]
    columns = [[line.split(",")[:1] + line.split(",")[2:] for line in lines] for lines in history]
    assert columns[0] == columns[1]  # but for seconds


@pytest.mark.parametrize(
    ("command", "model"), [("compare", "model-basic"), ("inpaint", "model"), ("average", "model")]
)
def test_models_are_saved_where_there_is_no_time_for_figures(monkeypatch, capsys, command, model):
    code, line, _ = cut_short(monkeypatch, capsys, COMMANDS[command], JUDGE, 1, signal.SIGTERM)
    assert code == 143
    assert "so far" in line
    picture = coordfit.load(f"the run/{model}.safetensors", device="numpy").render(32, 40)
    assert np.abs(picture - load_picture("photo.png").pixels).mean() < 0.2


def test_json_says_that_it_was_cut_short(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        last(patch, JUDGE, signal.SIGINT, 1)
        assert main([*COMMANDS["fit"], "--json", "--out", "a"]) == 130
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 130
    assert "--resume --out a" in document["error"]


def test_a_step_that_was_broken_off_is_as_if_it_had_never_begun(monkeypatch, capsys):
    cut_short(monkeypatch, capsys, COMMANDS["fit"], STEP, 13)
    assert load_checkpoint(Path("the run/checkpoint.safetensors"))[1].step == 10  # that of the latest figures
    cut_short(monkeypatch, capsys, [*COMMANDS["fit"], "--overwrite"], FIGURES, 4)
    assert load_checkpoint(Path("the run/checkpoint.safetensors"))[1].step == 15  # no step was under way
