"""The command line from outside: words in; exit code, streams and files out."""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.own_process import environment

import coordfit
import coordfit.cli.commands.gradcheck
import coordfit.network.activations
import coordfit.training.result
from coordfit import gradcheck
from coordfit.cli import _with_command, main
from coordfit.cli.option_types import UsageError
from coordfit.cli.options import parse
from coordfit.cli.parser import COMMANDS
from coordfit.config import RECIPES, FitConfig
from coordfit.files.lock import locked
from coordfit.images.formats.png import quantize
from coordfit.training.checkpoint import load_checkpoint

SMALL = ["--hidden-size", 8, "--depth", 2, "--num-frequencies", 4, "--batch-size", 64, "--threads", 1]
SMALL += ["--device", "cpu"]
FILES = {
    "checkpoint.safetensors",
    "comparison.png",
    "config.json",
    "curves.svg",
    "history.csv",
    "metrics.json",
    "model.safetensors",
    "reconstruction.png",
}
WIDTH, HEIGHT = 24, 16

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of POSIX systems")


@dataclass
class Outcome:
    """What a command left behind on its streams."""

    code: int
    out: str
    err: str

    @property
    def last_line(self):
        return self.out.splitlines()[-1]

    @property
    def document(self):
        """What stdout holds: exactly one JSON document, without the words that JSON does not know."""
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    @property
    def error(self):
        """The message of a command that failed: the one line on stderr."""
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith("coordfit: ")
        return self.err.removeprefix("coordfit: ").rstrip("\n")


def call(*words):
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Outcome(code, out.getvalue(), err.getvalue())


def fit(*words):
    """Fit a small network; later words win over earlier ones."""
    return call("fit", *SMALL, "--steps", 5, *words)


def in_shell(*words, code=None, **options):
    """The words to run a command, or a script, in a process of its own, and its environment."""
    script = ["-m", "coordfit", *map(str, words)] if code is None else ["-c", code]
    return {"args": [sys.executable, *script], "env": environment(**options)}


def run(*words, code=None, **options):
    """Run a command, or a script, in a process of its own."""
    done = subprocess.run(
        **in_shell(*words, code=code, **options), capture_output=True, text=True, timeout=60, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def a_place_of_its_own(tmp_path, monkeypatch):
    """Each test has a current folder of its own, and none of the developer's variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("COORDFIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def quick_curves(monkeypatch):
    """Drawing takes most of the time of a small run; the fixture `finished` draws for all."""
    monkeypatch.setattr("coordfit.training.result.save_curves", lambda path, history: path.write_text("<svg/>"))


def make_picture(path, seed=0, size=(HEIGHT, WIDTH)):
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def picture(tmp_path):
    return make_picture(tmp_path / "picture.png")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of one finished run, and what the run said. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    out = folder / "run"
    said = fit(make_picture(folder / "picture.png"), "--train-on", "every-second", "--out", out)
    assert said.code == 0, said.err
    return out, said


@pytest.fixture(scope="module")
def model_file(finished):
    return finished[0] / "model.safetensors"


def pixels(path):
    """Levels (H, W, C) of a picture file."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def parameters(folder, file="model.safetensors"):
    return coordfit.load(folder / file, device="cpu").mlp.parameters


def first_step(folder):
    return read_rows(folder / "history.csv")[0]


# -- which command is meant ------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["photo.png"], ["--device", "cpu"], ["-v"], ["--json", "photo.png"]])
def test_fit_is_meant_where_no_command_is_named(words):
    assert _with_command(words) == ["fit", *words]


@pytest.mark.parametrize("words", [[command] for command in COMMANDS] + [["-h"], ["--help"], ["--version"]])
def test_a_named_command_stays_as_it_is(words):
    assert _with_command(words) == words


def test_no_option_of_fit_is_taken_for_a_mistyped_command():
    for field in dataclasses.fields(FitConfig):
        flag = "--" + field.name.replace("_", "-")
        assert _with_command([flag]) == ["fit", flag]


def test_a_picture_may_bear_a_name_like_a_command():
    Path("rendr").touch()
    assert _with_command(["rendr"]) == ["fit", "rendr"]


def test_a_picture_alone_is_fitted(picture):
    result = call(picture.name, *SMALL, "--steps", 1)
    assert (result.code, result.last_line) == (0, str(Path("runs", "001")))


def test_options_alone_fit_the_bundled_picture():
    assert call(*SMALL, "--steps", 1).code == 0
    assert pixels("runs/001/reconstruction.png").shape == (128, 128, 3)


def test_no_words_at_all_fit_with_the_defaults(monkeypatch):
    monkeypatch.setenv("COORDFIT_STEPS", "1")
    monkeypatch.setenv("COORDFIT_DEVICE", "cpu")
    assert call().code == 0
    assert read_json(Path("runs/001/config.json"))["config"] == FitConfig(steps=1).as_dict()


@pytest.mark.parametrize(
    ("word", "meant"),
    [("rendr", "render"), ("fti", "fit"), ("deom", "demo"), ("Fit", "fit"), ("grad", "gradcheck")],
)
def test_a_mistyped_command_is_answered_with_the_nearest(picture, word, meant):
    """And nothing is fitted, even if a picture follows."""
    for words in ([word], [word, picture.name]):
        result = call(*words)
        assert result.code == 2
        assert result.error == f"there is no command or picture {word!r}; did you mean {meant!r}?"
    assert not Path("runs").exists()


@pytest.mark.parametrize("word", ["rendr.png", "./fti", "fi?", "holiday"])
def test_what_looks_like_a_picture_is_no_mistyped_command(word):
    result = call(word)
    assert result.code == 1
    assert "did you mean" not in result.error


def test_a_folder_may_have_a_name_like_a_command(picture):
    Path("fits").mkdir()
    picture.rename(Path("fits", picture.name))
    assert call("fits", *SMALL, "--steps", 1).code == 0


# -- help and version ------------------------------------------------------------------------------------


def test_version():
    result = call("--version")
    assert (result.code, result.out) == (0, f"coordfit {coordfit.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = call(command, "--help")
    assert result.code == 0
    assert result.out.startswith(f"usage: coordfit {command}")
    assert not result.err


def test_help_names_every_command_and_exit_code():
    text = " ".join(call("--help").out.split())  # wherever the lines break
    assert all(command in text for command in COMMANDS)
    assert all(f"{code} " in text for code in (0, 1, 2, 3, 4, 5, 130))


def test_help_offers_every_setting():
    text = call("fit", "--help").out
    assert all("--" + field.name.replace("_", "-") in text for field in dataclasses.fields(FitConfig))


def test_help_waits_for_no_array_library():
    script = f"""
import sys
from coordfit.cli import main
for words in [["--help"], ["--version"]] + [[command, "--help"] for command in {COMMANDS}]:
    assert main(words) == 0
heavy = ("numpy", "cupy", "matplotlib", "PIL", "tqdm", "safetensors")
print([name for name in sys.modules if name.partition(".")[0] in heavy], file=sys.stderr)
"""
    result = run(code=script)
    assert (result.code, result.err) == (0, "[]\n")


# -- exit codes ------------------------------------------------------------------------------------------

USAGE = {
    "unknown option": ["--stepz", "3"],
    "abbreviated option": ["--learning", "1"],
    "no number": ["--steps", "many"],
    "out of range": ["--depth", "0"],
    "not finite": ["--learning-rate", "nan"],
    "not among the choices": ["--encoding", "fourier"],
    "unknown recipe": ["--recipe", "papper"],
    "unknown device": ["--device", "tpu"],
    "device index of the cpu": ["--device", "cpu:1"],
    "no threads": ["--threads", "0"],
    "bad size": ["--size", "12x"],
    "size of nothing": ["--size", "0"],
    "resume without a folder": ["--resume"],
    "resume and overwrite": ["--resume", "--overwrite", "--out", "x"],
    "missing configuration": ["--config", "nothing.toml"],
}


@pytest.mark.parametrize("words", USAGE.values(), ids=USAGE)
def test_wrong_usage_is_2_with_one_line(words):
    result = call("fit", *([] if "--device" in words else ["--device", "cpu"]), *words)
    assert (result.code, result.out) == (2, "")
    assert result.error
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", ["render", "info"])
def test_a_missing_word_is_2(command):
    result = call(command)
    assert result.code == 2
    assert "required: MODEL" in result.error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.png"], "there is no file nothing.png"),
        (["info", "nothing.safetensors"], "nothing.safetensors"),
        (["render", "nothing.safetensors", "--device", "cpu"], "nothing.safetensors"),
    ],
)
def test_a_missing_file_is_1_and_named(words, said):
    words = [*words, "--device", "cpu"] if words[0] == "nothing.png" else words
    result = call(*words)
    assert (result.code, result.out) == (1, "")
    assert said in result.error


def test_a_file_that_is_no_picture_is_1(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    result = fit("text.png")
    assert result.code == 1
    assert "text.png" in result.error


def no_gpu():
    return bool(coordfit.available_backends()["cupy"])


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU here")
@pytest.mark.parametrize("device", ["gpu", "cuda:1"])
def test_a_device_that_is_not_there_is_3_and_never_a_fallback(device):
    result = fit("--device", device)
    assert (result.code, result.out) == (3, "")
    assert result.error
    assert not Path("runs").exists()


def test_a_device_index_that_is_not_there_is_3_everywhere():
    assert fit("--device", "gpu:99").code == 3


DIVERGING = ["--optimizer", "sgd", "--learning-rate", 1e6, "--output-activation", "identity", "--steps", 50]


def test_divergence_is_4_and_saves_the_last_good_state(picture):
    result = fit(picture, *DIVERGING, "--no-progress")
    assert result.code == 4
    assert "diverged" in result.error
    assert "lower --learning-rate" in result.error
    assert read_json(Path("runs/001/metrics.json"))["stopped"] == "diverged"
    assert np.isfinite(parameters(Path("runs/001"))).all()


@pytest.fixture
def wrong_derivative(monkeypatch):
    monkeypatch.setattr(
        coordfit.network.activations.Tanh, "backward", lambda self, xp, dy, saved: dy * (1.01 - saved * saved)
    )


@pytest.fixture
def few_checks(monkeypatch):
    """By both methods, of one network and of three: of one activation, and in all."""
    some = {"LOSSES": ("mse", "mae"), "ACTIVATIONS": ("relu", "tanh"), "ENCODINGS": ("none", "gaussian")}
    for module, (name, values) in itertools.product((gradcheck, coordfit.cli.commands.gradcheck), some.items()):
        monkeypatch.setattr(module, name, values)
    of_one = 2 * 2 * 2 * 2
    return of_one, 2 * of_one


def test_a_wrong_gradient_is_5_and_shown(few_checks, wrong_derivative):
    of_one, in_all = few_checks
    result = call("gradcheck", "--fused", "never", "--device", "cpu")
    assert result.code == 5
    table = [line for line in result.out.splitlines() if "!" in line]
    assert [line.split()[:2] for line in table] == [[loss, "tanh"] for loss in gradcheck.LOSSES]
    assert "FAILED" in result.out
    assert f"\n{of_one} of {in_all} checks failed" in result.out


def test_out_of_memory_is_1_with_advice(monkeypatch):
    def too_much(*args, **kwargs):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("coordfit.tasks.jobs.network.Trainer", too_much)
    result = fit()
    assert result.code == 1
    assert "Unable to allocate 9 TiB" in result.error
    assert "--batch-size" in result.error


def test_an_unexpected_error_is_1_and_one_line(monkeypatch):
    monkeypatch.setattr("coordfit.tasks.jobs.network.Trainer", lambda *a: 1 / 0)
    result = fit()
    assert result.code == 1
    assert (
        result.error == "unexpected error, ZeroDivisionError: division by zero (COORDFIT_DEBUG=1 shows where)"
    )


@pytest.mark.parametrize("how", ["-v", "COORDFIT_DEBUG"])
def test_an_unexpected_error_shows_its_place_on_request(monkeypatch, how):
    monkeypatch.setattr("coordfit.tasks.jobs.network.Trainer", lambda *a: 1 / 0)
    if how == "COORDFIT_DEBUG":
        monkeypatch.setenv(how, "1")
    with pytest.raises(ZeroDivisionError):
        fit(*(["-v"] if how == "-v" else []))


def test_ctrl_c_before_training_is_130(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("coordfit.tasks.jobs.network.Trainer", interrupted)
    result = fit()
    assert (result.code, result.error) == (130, "interrupted")


# -- streams ---------------------------------------------------------------------------------------------


def test_results_go_to_stdout_and_all_else_to_stderr(finished):
    folder, said = finished
    assert said.last_line == str(folder)
    assert said.out.startswith("PSNR ")
    assert "step 0/5" in said.err
    assert "step" not in said.out.replace("steps  ", "")


def test_held_out_pixels_and_baselines_are_told_apart(finished):
    metrics = read_json(finished[0] / "metrics.json")
    for name, words in {
        "psnr": "all pixels",
        "psnr_train": "training pixels",
        "psnr_held_out": "held-out pixels",
        "psnr_held_out_bilinear": "held-out pixels by bilinear interpolation",
        "psnr_held_out_bicubic": "held-out pixels by bicubic interpolation",
    }.items():
        assert re.search(rf" {metrics[name]:.2f} dB, {words}\n", finished[1].out)


def test_quiet_leaves_errors_alone(picture):
    result = fit(picture, "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert fit("missing.png", "--quiet").error.startswith("there is no file missing.png")
    diverged = fit(picture, "--quiet", *DIVERGING)
    assert (diverged.code, diverged.out) == (4, "")
    assert diverged.error.startswith("diverged: ")
    assert set(fit(picture, "--quiet", "--json").document) == {"folder", "metrics", "config"}


@pytest.mark.parametrize(
    ("words", "variable", "driver", "told"),
    [
        ((), None, False, False),
        ((), None, True, True),
        (("--device", "auto"), None, False, True),
        ((), "auto", False, True),
    ],
    ids=["no GPU", "a driver", "asked for", "by a variable"],
)
def test_a_machine_without_a_gpu_computes_on_its_cpu_without_a_word(
    picture, monkeypatch, tmp_path, words, variable, driver, told
):
    monkeypatch.setattr("coordfit.tasks.jobs.settings.get_backend", fallen_back)
    monkeypatch.setattr("coordfit.cli.session._NVIDIA_DRIVER", (tmp_path / "nvidiactl",))
    monkeypatch.setattr("coordfit.cli.session.find_spec", lambda name: None)
    monkeypatch.delenv("COORDFIT_DEVICE", raising=False)
    if driver:
        (tmp_path / "nvidiactl").touch()
    if variable:
        monkeypatch.setenv("COORDFIT_DEVICE", variable)
    result = call(picture.name, *words, *SMALL[:-2], "--steps", 1)
    assert ("running on the CPU: no driver" in result.err) == told


def test_no_progress_leaves_messages(picture, monkeypatch):
    monkeypatch.setattr("coordfit.tasks.jobs.settings.get_backend", fallen_back)
    result = fit(picture, "--no-progress", "--device", "auto")
    assert result.error == "running on the CPU: no driver"


def fallen_back(device, **options):
    backend = coordfit.get_backend("cpu", **options)
    backend.fallback_reason = "no driver; install one"
    return backend


def test_json_is_one_strict_document(picture):
    result = fit(picture, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.document["folder"] == str(Path("runs", "001"))
    assert result.document["metrics"] == read_json(Path("runs/001/metrics.json"))
    assert result.document["config"] == read_json(Path("runs/001/config.json"))["config"]


ERRORS = {
    "wrong usage": (2, ["--stepz"]),
    "mistyped command": (2, ["rendr"]),
    "missing picture": (1, ["nothing.png", "--device", "cpu"]),
    "no such GPU": (3, ["--device", "gpu:99"]),
    "missing model": (1, ["info", "nothing.safetensors"]),
}


@pytest.mark.parametrize(("code", "words"), ERRORS.values(), ids=ERRORS)
def test_json_tells_errors_too(code, words):
    result = call(*words, "--json")
    assert result.code == code
    assert result.document == {"error": result.error, "exit_code": code}


def test_json_tells_divergence_as_a_result(picture):
    result = fit(picture, *DIVERGING, "--json")
    assert result.code == 4
    assert result.document["metrics"]["stopped"] == "diverged"


def test_a_perfect_fit_is_strict_json_too(tmp_path):
    """The PSNR of equal pictures is infinite, which JSON has no word for."""
    Image.new("L", (8, 8), 0).save(tmp_path / "black.png")
    result = fit("black.png", "--output-activation", "relu", "--learning-rate", 0, "--json", "--steps", 0)
    assert result.code == 0
    assert "psnr" in result.document["metrics"]


@posix
def test_nobody_reading_is_no_reason_for_a_traceback(model_file):
    read, write = os.pipe()
    os.close(read)
    try:
        process = subprocess.run(
            **in_shell("info", model_file), stdout=write, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write)
    assert process.stderr == b""


def test_a_terminal_without_the_letters_of_a_name_gets_escapes(picture):
    result = run("fit", *SMALL, "--steps", 1, "--out", "é", "--no-progress", PYTHONIOENCODING="ascii")
    assert result.code == 0, result.err
    assert result.last_line == r"\xe9"


# -- progress --------------------------------------------------------------------------------------------


def test_progress_is_a_few_lines_where_no_terminal_is(picture):
    result = fit(picture, "--steps", 200, "--evaluate-every", 1)
    lines = result.err.splitlines()
    assert 10 <= len(lines) <= 12
    assert all(re.match(r"step \d+/200: loss [\d.e+-]+, PSNR [\d.]+ dB", line) for line in lines)
    assert "steps/s" in lines[1]


@posix
def test_progress_is_a_bar_on_a_terminal(picture):
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    words = ["fit", *SMALL, picture, "--steps", 50]
    with subprocess.Popen(**in_shell(*words), stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = read_all(ours)
        out = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0
    assert "100%|" in shown
    assert "50/50" in shown
    assert "PSNR" in shown
    assert "step 0/50" not in shown
    assert out.splitlines()[-1] == str(Path("runs", "001"))


def read_all(descriptor):
    """All that a program writes to a pseudo-terminal; its end is an error on Linux and nothing elsewhere."""
    text = b""
    with contextlib.suppress(OSError):
        while select.select([descriptor], [], [], 60)[0] and (piece := os.read(descriptor, 4096)):
            text += piece
    return text.decode()


# -- the run folder --------------------------------------------------------------------------------------


def test_a_run_folder_holds_these_files_and_nothing_else(finished):
    assert {path.name for path in finished[0].iterdir()} == FILES


def test_metrics_have_the_promised_keys(finished):
    metrics = read_json(finished[0] / "metrics.json")
    promised = (
        "psnr psnr_train psnr_held_out ssim loss steps seconds device backend fused parameters bits_per_pixel "
        "other_bits_per_pixel"
    )
    assert set(promised.split()) <= set(metrics)
    assert (metrics["steps"], metrics["device"]) == (5, "cpu")
    assert metrics["backend"] in ("numpy", "numba")
    assert metrics["fused"]["linear"]["fused"] > 0
    assert (metrics["width"], metrics["height"]) == (WIDTH, HEIGHT)
    assert metrics["seconds"] > 0.0


def test_figures_without_a_meaning_are_null(picture):
    fit(picture)
    metrics = read_json(Path("runs/001/metrics.json"))
    assert metrics["psnr_held_out"] is None
    assert metrics["psnr_held_out_bicubic"] is None


def test_the_configuration_is_whole(finished):
    document = read_json(finished[0] / "config.json")
    assert set(document["config"]) == {field.name for field in dataclasses.fields(FitConfig)}
    assert document["config"]["hidden_size"] == 8
    assert document["image"] == str(finished[0].parent / "picture.png")
    assert document["coordfit"] == coordfit.__version__


def test_the_history_has_a_row_for_each_evaluation(finished):
    rows = read_rows(finished[0] / "history.csv")
    assert ",".join(rows[0]) == "step,seconds,loss,psnr_train,psnr_held_out,psnr,learning_rate"
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert float(rows[-1]["psnr_held_out"]) > 0.0


def test_the_pictures_have_their_sizes(finished):
    assert pixels(finished[0] / "reconstruction.png").shape == (HEIGHT, WIDTH, 3)
    assert pixels(finished[0] / "comparison.png").shape[1] > 3 * WIDTH


def test_the_curves_are_a_drawing(finished):
    text = (finished[0] / "curves.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    assert text.rstrip().endswith("</svg>")


def test_the_model_gives_the_reconstruction(finished, model_file):
    model = coordfit.load(model_file, device="cpu")
    np.testing.assert_array_equal(quantize(model.render()), pixels(finished[0] / "reconstruction.png"))
    assert model.metrics["psnr"] == read_json(finished[0] / "metrics.json")["psnr"]


def test_runs_are_numbered(picture):
    assert [fit(picture, "--steps", 0).last_line for _ in range(3)] == [
        str(Path("runs", f"00{n}")) for n in (1, 2, 3)
    ]


def test_names_may_have_spaces_and_any_letters(tmp_path):
    place = tmp_path / "ein Ordner – größer 图"
    place.mkdir()
    make_picture(place / "süß 猫.png")
    result = fit(place / "süß 猫.png", "--out", place / "läuft gut")
    assert (result.code, result.last_line) == (0, str(place / "läuft gut"))
    assert {path.name for path in (place / "läuft gut").iterdir()} == FILES


# -- a folder that holds a run already -------------------------------------------------------------------


def everything_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_is_not_written_over(picture):
    fit(picture, "--out", "a")
    before = everything_in(Path("a"))
    result = fit(picture, "--out", "a", "--seed", 1)
    assert result.code == 1
    assert "--overwrite" in result.error
    assert "--resume" in result.error
    assert everything_in(Path("a")) == before


def test_overwrite_replaces_a_run(picture):
    fit(picture, "--out", "a")
    before = everything_in(Path("a"))
    assert fit(picture, "--out", "a", "--seed", 1, "--overwrite").code == 0
    changed = {name for name, content in everything_in(Path("a")).items() if content != before[name]}
    assert changed == FILES - {"curves.svg"}


def test_overwrite_leaves_no_checkpoint_of_the_run_before(picture, monkeypatch):
    """A run that is killed early must not go on from the state of the run that it replaced."""
    fit(picture, "--out", "a")
    monkeypatch.setattr("coordfit.training.trainer.Trainer.run", lambda *a, **k: 1 / 0)
    fit(picture, "--out", "a", "--seed", 1, "--overwrite")
    assert not Path("a/checkpoint.safetensors").exists()


def test_a_file_in_the_place_of_the_folder_is_1(picture):
    Path("a").write_text("")
    result = fit(picture, "--out", "a")
    assert result.code == 1
    assert "a file is in its place" in result.error


# -- going on --------------------------------------------------------------------------------------------


def interrupt_after(steps, monkeypatch):
    """Have the next run interrupted after that step, as by Ctrl-C, with time enough for all its figures."""
    from coordfit.training.trainer import Trainer

    monkeypatch.setattr("coordfit.cli.interrupts.PATIENCE", 600)

    take_steps = Trainer.take_steps

    def step_and_interrupt(self, limit):
        before = self.step
        take_steps(self, limit)
        if before < steps <= self.step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "take_steps", step_and_interrupt)


@pytest.mark.parametrize(
    "optimizer", [["adam"], ["sgd", "--momentum", "0.9", "--nesterov"]], ids=["adam", "sgd"]
)
def test_a_resumed_run_equals_an_unbroken_one(picture, monkeypatch, optimizer):
    words = [picture, "--steps", 40, "--optimizer", *optimizer]
    fit(*words, "--out", "whole")
    with monkeypatch.context() as patch:
        interrupt_after(14, patch)
        stopped = fit(*words, "--out", "broken")
    assert stopped.code == 130
    assert "go on with --resume" in stopped.err
    metrics = read_json(Path("broken/metrics.json"))
    assert metrics["stopped"] == "interrupted"
    assert 14 <= metrics["steps"] < 40

    resumed = call("--resume", "--out", "broken", "--threads", 1, "--device", "cpu")
    assert resumed.code == 0
    assert f"going on from step {metrics['steps']}" in resumed.err
    np.testing.assert_array_equal(parameters(Path("broken")), parameters(Path("whole")))
    without_time = [
        [{**row, "seconds": ""} for row in read_rows(Path(n, "history.csv"))] for n in ("broken", "whole")
    ]
    assert without_time[0] == without_time[1]


def test_a_finished_run_goes_on_with_a_larger_budget(picture):
    words = [picture, "--schedule", "constant", "--evaluate-every", 5]
    fit(*words, "--steps", 20, "--out", "whole")
    fit(*words, "--steps", 10, "--out", "longer")
    assert fit("--resume", "--out", "longer", "--steps", 20).code == 0
    np.testing.assert_array_equal(parameters(Path("longer")), parameters(Path("whole")))


def test_the_picture_is_remembered_wherever_one_resumes_from(picture, tmp_path, monkeypatch):
    fit(picture.name, "--out", "a")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert fit("--resume", "--out", tmp_path / "a", "--steps", 6).code == 0


def test_resume_refuses_other_settings(picture):
    fit(picture, "--out", "a")
    result = fit(picture, "--out", "a", "--resume", "--seed", 7)
    assert result.code == 2
    assert result.error == "cannot resume with seed 7: the run has 0 (only budgets may change)"


def test_resume_refuses_another_picture(picture, tmp_path):
    fit(picture, "--out", "a")
    result = fit(make_picture(tmp_path / "other.png", seed=1), "--out", "a", "--resume")
    assert result.code == 2
    assert "other.png is not the picture that the run was trained on" in result.error


def change_config(folder, **changes):
    document = read_json(Path(folder, "config.json"))
    changed = {name: value for name, value in {**document, **changes}.items() if value is not None}
    Path(folder, "config.json").write_text(json.dumps(changed))


PLANTED = {
    "another picture": ({}, "private.png is not the picture that the run was trained on"),
    "another without a digest": ({"picture_digest": None}, "the one in config.json has no digest; name it"),
    "one on a network": (
        {"image": r"\\server\share\p.png"},
        "the one in config.json is on a network; name it",
    ),
}


@pytest.mark.parametrize("tiles", [[], ["--tiles", 8]], ids=["one network", "tiles"])
@pytest.mark.parametrize(("changes", "said"), PLANTED.values(), ids=PLANTED)
def test_a_folder_of_a_stranger_chooses_no_picture(picture, tmp_path, monkeypatch, tiles, changes, said):
    private = make_picture(tmp_path / "private.png", seed=1)
    call("fit", picture, *SMALL[:2], *SMALL[-4:], "--steps", 2, *tiles, "--out", "a")
    for path in Path("a").iterdir():  # without a checkpoint nothing else knows the picture
        if path.name != "config.json":
            path.unlink()
    change_config("a", **{"image": str(private), **changes})
    before = everything_in(Path("a"))
    for trainer in ("coordfit.tasks.jobs.network.Trainer", "coordfit.tasks.jobs.tiles.TiledFit"):
        monkeypatch.setattr(trainer, None)
    result = call("--resume", "--out", "a", "--device", "cpu")
    assert (result.code, said in result.err.splitlines()[-1]) == (2, True), result.err
    assert everything_in(Path("a")) == before


@pytest.mark.parametrize("tiles", [[], ["--tiles", 8]], ids=["one network", "tiles"])
def test_the_picture_that_the_user_names_is_read_whatever_config_json_says(picture, tmp_path, tiles):
    words = [*SMALL[:2], *SMALL[-4:], "--steps", 2, *tiles]
    call("fit", picture, *words, "--out", "a")
    moved = picture.rename(tmp_path / "moved.png")
    assert "picture.png" in call("--resume", "--out", "a", "--device", "cpu").error
    resumed = call(moved, "--resume", "--out", "a", "--device", "cpu")
    assert (resumed.code, "as config.json has it" in resumed.err) == (0, False)
    if not tiles:  # tiles that are finished write nothing
        assert read_json(Path("a/config.json"))["image"] == str(moved)
        assert f"the picture is {moved}, as config.json has it" in call("--resume", "--out", "a").err


@posix
@pytest.mark.parametrize(
    "content", ["[]", "5", "[" * 100_000, '{"config": {}}', " " * 2**23, "pipe", "tiles"], ids=range(7)
)
def test_a_config_json_that_is_none_is_refused_in_one_line(picture, content):
    call("fit", picture, *SMALL[:2], *SMALL[-4:], "--steps", 2, "--tiles", 8, "--out", "a")
    path = Path("a/config.json")
    if content == "tiles":
        facts = read_json(path)["tiles"]
        for name in facts:
            change_config("a", tiles=facts | {name: ["x"]})
            assert "cannot be told from config.json" in call("--resume", "--out", "a").error
        return
    path.unlink()
    os.mkfifo(path) if content == "pipe" else path.write_text(content)
    assert "config.json cannot be read" in call("--resume", "--out", "a").error


def test_resume_says_that_the_picture_is_gone(picture):
    fit(picture, "--out", "a")
    picture.unlink()
    result = fit("--out", "a", "--resume")
    assert result.code == 1
    assert str(picture) in result.error


@pytest.mark.parametrize("words", [["--resume"], ["--overwrite"], ["--overwrite", "--tiles", 8]], ids=str)
def test_a_folder_has_one_writer(picture, words):
    def again():
        return call("fit", picture, *SMALL[:2], *SMALL[-4:], "--steps", 5, "--out", "a", *words)

    call("fit", picture, *SMALL[:2], *SMALL[-4:], "--steps", 5, "--out", "a")
    before = {path: path.read_bytes() for path in Path("a").iterdir()}
    with locked(Path("a")):
        refused = again()
    assert refused.code == 1
    assert refused.err.endswith("coordfit: another process is writing a; wait for it or use another --out\n")
    assert {path: path.read_bytes() for path in Path("a").iterdir()} == before
    assert again().code == 0


@pytest.mark.parametrize(
    "words",
    [["compare"], ["inpaint", "--missing", 0.5], ["experiments", "losses"], ["sweep", "--depth", "2,3"]],
    ids=str,
)
def test_every_command_leaves_the_folder_of_another_as_it_is(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    Path("a/metrics.json").write_text("{}")
    with locked(Path("a")):
        refused = call(*words, "--device", "cpu", "--out", "a", "--overwrite")
    assert refused.code == 1
    assert refused.err.endswith("coordfit: another process is writing a; wait for it or use another --out\n")
    assert [path.name for path in Path("a").iterdir()] == ["metrics.json"]


def test_resume_of_nothing_begins_and_says_so(picture):
    result = fit(picture, "--out", "a", "--resume")
    assert result.code == 0
    assert "coordfit: no run to resume in a: a new one begins there" in result.err
    assert {path.name for path in Path("a").iterdir()} == FILES


def test_a_run_killed_before_its_first_checkpoint_begins_again_as_it_was(picture):
    fit(picture, "--seed", 3, "--out", "a")
    before = parameters(Path("a"))
    for path in Path("a").iterdir():
        if path.name != "config.json":
            path.unlink()
    again = call("--resume", "--out", "a", "--threads", 1, "--device", "cpu")
    assert again.code == 0
    assert "coordfit: the run in a had saved nothing yet: it begins again" in again.err
    np.testing.assert_array_equal(parameters(Path("a")), before)


def test_a_killed_run_goes_on_though_its_last_history_line_is_cut(picture):
    fit(picture, "--out", "a")
    history = Path("a/history.csv")
    history.write_bytes(history.read_bytes()[:-9])
    assert fit("--out", "a", "--resume", "--steps", 6).code == 0


@pytest.mark.parametrize("name", ["config.json", "checkpoint.safetensors", "history.csv"])
def test_a_damaged_file_of_the_run_is_named(picture, name):
    fit(picture, "--out", "a")
    Path("a", name).write_bytes(b"step\nthis is not it\n")
    result = fit("--out", "a", "--resume")
    assert result.code == 1
    assert name in result.error


def test_a_checkpoint_without_its_configuration_is_not_begun_anew(picture):
    fit(picture, "--out", "a")
    Path("a/config.json").unlink()
    result = fit(picture, "--out", "a", "--resume")
    assert result.code == 1
    assert "config.json cannot be read" in result.error


# -- signals ---------------------------------------------------------------------------------------------

# No machine comes to the end before the signal does; and no step depends on how many there are.
LONG = ["--size", "16", "--steps", "1000000", "--evaluate-every", "100", "--schedule", "constant"]


def start(*words):
    return subprocess.Popen(
        **in_shell("fit", *SMALL, *LONG, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def signal_in_the_middle(process, number):
    """Send a signal once training has begun, and wait for the end."""
    with process:
        lines = iter(process.stderr.readline, "")
        assert any(re.match(r"step [1-9]", line) for line in lines)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out, err)


@posix
def test_ctrl_c_saves_and_the_rest_equals_an_unbroken_run():
    broken = signal_in_the_middle(start("--out", "broken"), signal.SIGINT)
    assert broken.code == 130
    assert (
        broken.err.splitlines()[-1]
        == "coordfit: interrupted; the run so far is saved, go on with --resume --out broken"
    )
    assert {"checkpoint.safetensors", "config.json", "history.csv"} <= {
        p.name for p in Path("broken").iterdir()
    }
    steps = load_checkpoint(Path("broken/checkpoint.safetensors"))[1].step
    assert steps > 0

    assert fit(*LONG, "--steps", steps + 150, "--out", "broken", "--resume").code == 0
    assert fit(*LONG, "--steps", steps + 150, "--out", "whole").code == 0
    np.testing.assert_array_equal(parameters(Path("broken")), parameters(Path("whole")))


@pytest.mark.slow
@posix
def test_sigterm_saves_and_is_143():
    result = signal_in_the_middle(start("--out", "a"), signal.SIGTERM)
    assert result.code == 143
    assert Path("a/checkpoint.safetensors").exists()


@posix
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(second):
    script = f"""
import signal
from coordfit.cli.interrupts import GracefulStop
with GracefulStop() as stop:
    signal.raise_signal(signal.SIGINT)
    print(stop.signal == signal.SIGINT, flush=True)
    signal.raise_signal({int(second)})
    print("still here", flush=True)
"""
    result = run(code=script)
    assert (result.code, result.out) == (-second, "True\n")


def test_signals_are_given_back(picture):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    fit(picture)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.slow
@posix
def test_a_killed_run_keeps_its_history():
    with start("--out", "a") as process:
        assert any(re.match(r"step [1-9]", line) for line in iter(process.stderr.readline, ""))
        process.kill()
    assert len(read_rows(Path("a/history.csv"))) >= 2


# -- where settings come from ----------------------------------------------------------------------------


def learning_rate_of(*words):
    result = fit("--steps", 0, "--json", *words)
    assert result.code == 0, result.err
    return result.document["config"]["learning_rate"]


def test_a_flag_wins_over_environment_file_recipe_and_default(monkeypatch):
    Path("file.toml").write_text('recipe = "seed-sgd-32"\n')
    assert learning_rate_of("--size", 16) == FitConfig().learning_rate
    assert learning_rate_of("--config", "file.toml") == 0.02
    Path("file.toml").write_text('recipe = "seed-sgd-32"\nlearning_rate = 0.03\n')
    assert learning_rate_of("--config", "file.toml") == 0.03
    monkeypatch.setenv("COORDFIT_LEARNING_RATE", "0.04")
    assert learning_rate_of("--config", "file.toml") == 0.04
    assert learning_rate_of("--config", "file.toml", "--learning-rate", 0.05) == 0.05


def test_a_recipe_on_the_command_line_wins_over_the_files(picture):
    Path("file.toml").write_text('recipe = "seed-sgd-32"\nsize = 16')
    assert learning_rate_of("--config", "file.toml", "--recipe", "seed-adam-32") == 0.0075


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "3", 3),
        ("encoding", "none", "none"),
        ("batch_size", "full", None),
        ("size", "8x4", [8, 4]),
        ("nesterov", "1", True),
        ("nesterov", "no", False),
    ],
)
def test_every_setting_has_a_variable(monkeypatch, picture, name, text, value):
    monkeypatch.setenv(f"COORDFIT_{name.upper()}", text)
    result = call(picture, "--hidden-size", 8, "--device", "cpu", "--target-psnr", 1, "--json")
    assert result.code == 0
    assert result.document["config"][name] == value


@pytest.mark.parametrize("name", ["steps", "encoding", "nesterov", "fused", "device", "threads"])
def test_a_senseless_variable_is_2(monkeypatch, name):
    monkeypatch.setenv(f"COORDFIT_{name.upper()}", "fish")
    result = call()
    assert result.code == 2
    assert "fish" in result.error


def test_an_unknown_key_in_a_file_is_2_with_the_nearest_name():
    Path("file.toml").write_text("learning_rat = 1e-3\n")
    result = fit("--config", "file.toml")
    assert result.code == 2
    assert result.error == "unknown option 'learning_rat' in file.toml; did you mean 'learning_rate'?"


@pytest.mark.parametrize("text", ["steps = \n", "steps = 'many'\n", "[network]\ndepth = 2\n", b"\xff\xfe"])
def test_a_file_that_makes_no_sense_is_2(text):
    Path("file.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = call("--device", "cpu", "--config", "file.toml")
    assert result.code == 2
    assert result.error


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs(recipe):
    words = ["--recipe", recipe, "--device", "cpu", "--steps", 3, "--json"]
    result = call(*words, *(["--size", 32] if recipe == "paper" else []))
    assert result.code == 0, result.err
    assert result.document["metrics"]["steps"] == 3
    assert result.document["metrics"]["psnr"] > 5.0


# -- render ----------------------------------------------------------------------------------------------


def render(*words):
    return call("render", *words, "--device", "cpu")


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ([], (WIDTH, HEIGHT)),
        (["--size", 48], (48, 32)),
        (["--size", "10x20"], (10, 20)),
        (["--scale", 3], (72, 48)),
        (["--scale", 0.5], (12, 8)),
        (["--scale", 2, "--crop", "5,6,7,8"], (7, 8)),
    ],
)
def test_render_takes_any_size(model_file, words, size):
    result = render(model_file, *words, "--out", "x.png")
    assert (result.code, result.out) == (0, "x.png\n")
    assert pixels("x.png").shape == (size[1], size[0], 3)


def test_render_equals_the_models_own_rendering(model_file):
    render(model_file, "--size", "100x60", "--crop", "10,20,30,25", "--out", "x.png")
    expected = coordfit.load(model_file, device="cpu").render(60, 100, crop=(10, 20, 30, 25))
    np.testing.assert_array_equal(pixels("x.png"), quantize(expected))


def test_render_names_its_file_by_the_size(model_file, tmp_path):
    copy = tmp_path / "cat.safetensors"
    copy.write_bytes(model_file.read_bytes())
    assert render(copy, "--size", "8x4").last_line == str(tmp_path / "cat-8x4.png")


def test_render_writes_other_formats_by_their_suffix(model_file):
    assert render(model_file, "--out", "x.jpg").code == 0
    with Image.open("x.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (WIDTH, HEIGHT))


def test_render_replaces_a_file_only_where_told_to(model_file):
    Path("x.png").write_text("mine")
    refused = render(model_file, "--out", "x.png")
    assert refused.code == 1
    assert "--overwrite" in refused.error
    assert Path("x.png").read_text() == "mine"
    assert render(model_file, "--out", "x.png", "--overwrite").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--crop", "0,0,25,4"], 2, "does not lie inside"),
        (["--crop", "0,0,4"], 2, "is no crop"),
        (["--size", "4x"], 2, "is no size"),
        (["--size", "4", "--scale", "2"], 2, "not allowed with"),
        (["--scale", "0"], 2, "scale must be"),
        (["--scale", "nan"], 2, "scale must be"),
        (["--out", "x.xyz"], 1, "suffix"),
        (["--out", "nowhere/x.png"], 1, "nowhere does not exist"),
    ],
)
def test_render_refuses_what_makes_no_sense(model_file, words, code, said):
    result = render(model_file, *words)
    assert result.code == code
    assert said in result.error


def test_render_json(model_file):
    result = render(model_file, "--size", "8x4", "--out", "x.png", "--json")
    size = {"width": 8, "height": 4}
    assert result.document == {"picture": "x.png", **size, "method": "function", "device": "cpu"}
    assert result.err == ""


@pytest.mark.slow
def test_a_large_rendering_needs_little_memory(model_file):
    """As float32 the picture would take 72 MB, as PNG levels 18 MB."""
    tracemalloc.start()
    try:
        assert render(model_file, "--size", "3000x2000", "--out", "x.png", "--threads", 1).code == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6
    with Image.open("x.png") as picture:
        assert picture.size == (3000, 2000)


# -- gradcheck, info, doctor -----------------------------------------------------------------------------


@pytest.mark.parametrize("fused", ["always", "never"])
def test_gradcheck_prints_a_table(few_checks, fused):
    result = call("gradcheck", "--device", "cpu", "--fused", fused)
    assert (result.code, result.err) == (0, "")
    rows = [line.split()[:2] for line in result.out.splitlines()[2:-1]]
    assert rows == [[loss, activation] for loss in gradcheck.LOSSES for activation in gradcheck.ACTIVATIONS]
    assert result.last_line == f"all {few_checks[1]} checks passed (tolerance 1e-07, float64, cpu)"


def test_gradcheck_json(few_checks, wrong_derivative):
    result = call("gradcheck", "--device", "cpu", "--fused", "never", "--json", "--seed", 1)
    assert result.code == 5
    document = result.document
    found = (document["device"], document["failed"], len(document["checks"]))
    assert found == ("cpu", *few_checks)
    assert {check["activation"] for check in document["checks"] if not check["passed"]} == {"tanh"}


def test_info(model_file):
    result = call("info", model_file)
    assert (result.code, result.err) == (0, "")
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in result.out.splitlines() if "  " in line)
    assert facts["picture"] == "picture.png"
    assert facts["layers"] == "8-8-3"
    assert (facts["width"], facts["height"]) == (str(WIDTH), str(HEIGHT))
    assert facts["steps"] == "5"


def test_info_json(model_file):
    document = call("info", model_file, "--json").document
    assert document["bytes"] == model_file.stat().st_size
    assert document["config"]["train_on"] == "every-second"
    assert document["metrics"]["steps"] == 5


def test_info_reads_checkpoints_too(finished):
    assert call("info", finished[0] / "checkpoint.safetensors").code == 0


def test_info_of_a_damaged_file_is_1(model_file):
    data = bytearray(model_file.read_bytes())
    data[-5] ^= 1
    Path("damaged.safetensors").write_bytes(data)
    result = call("info", "damaged.safetensors")
    assert result.code == 1
    assert "cannot load damaged.safetensors" in result.error


def test_doctor():
    result = call("doctor")
    assert (result.code, result.err) == (0, "")
    assert [line for line in result.out.splitlines() if line[0] != " "][:4] == [
        "versions",
        "machine",
        "cpu",
        "backends",
    ]
    assert f"numpy            {np.__version__}" in result.out


def test_doctor_json():
    document = call("doctor", "--json").document
    assert document["versions"]["coordfit"] == coordfit.__version__
    assert document["backends"]["numpy"] == "ready"
    assert document["cpu"]["threads"] >= 1


# -- the same through a shell ----------------------------------------------------------------------------


def test_python_m_coordfit_in_a_process_of_its_own(picture):
    result = run(picture, *SMALL, "--steps", 3)
    assert result.code == 0, result.err
    assert result.last_line == str(Path("runs", "001"))
    assert {path.name for path in Path("runs/001").iterdir()} == FILES


def test_exit_codes_reach_the_shell():
    assert run("--stepz").code == 2


def test_the_parser_answers_with_plain_settings():
    options = parse(["fit", "a.png", "--steps", "3", "--size", "8x4", "--no-nesterov"])
    assert (options.command, options.images) == ("fit", ["a.png"])
    assert options.settings == {"steps": 3, "size": (8, 4), "nesterov": False}
    with pytest.raises(UsageError):
        parse(["fit", "--steps"])
