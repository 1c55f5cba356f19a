"""What a user types: near misses, help, run folders in place of files, completion by the shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import coordfit
from coordfit.cli import main
from coordfit.cli.option_types import UsageError
from coordfit.cli.options import parse
from coordfit.cli.parser import COMMANDS, make_parser
from coordfit.config import FitConfig
from coordfit.fit_options import EncodingName
from coordfit.option_checks import did_you_mean

SMALL = ["--hidden-size", "8", "--depth", "2", "--num-frequencies", "4", "--device", "numpy", "--steps", "1"]


@pytest.fixture(autouse=True)
def a_place_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capsys):
    """Run a command in this process; return exit code, stdout and stderr."""

    def run(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def test_a_refused_value_names_its_option_once(call):
    assert call("fit", "--activation", "softplus")[2].startswith("coordfit: --activation must be one of relu, ")
    told = call("fit", "--output-activation", "softplus")[2]
    assert told.startswith("coordfit: --output-activation must be one of ")
    told = call("inpaint", "--missing", "2")[2]
    assert told.startswith("coordfit: --missing must be a number between 0 and 1, not '2'; see `coord")


# -- did you mean ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--sigm", "3"], "--sigma"),
        (["--verison"], "--version"),
        (["--encoding", "gausian"], "gaussian"),
        (["--lr", "3"], "--learning-rate"),
        (["--lr=3"], "--learning-rate"),
        (["photo.png", "--learn", "3"], "--learning-rate"),
        (["--optimiser", "adam"], "--optimizer"),
        (["--hidden_size", "3"], "--hidden-size"),
        (["--encoding", "Gaussian"], "gaussian"),
        (["--recipe", "sharpp"], "sharp"),
        (["--fused", "alwys"], "always"),
        (["compare", "--encoding", "none,gausian"], "gaussian"),
        (["sweep", "--optimizer", "adam,muo"], "muon"),
        (["sweep", "--sort-by", "pnsr"], "psnr"),
        (["inpaint", "--missng", "0.5"], "--missing"),
        (["render", "--scal=2"], "--scale"),  # and not that MODEL is missing
        (["experiments", "encodngs"], "encodings"),
        (["help", "rendr"], "render"),
        (["hlep"], "help"),
        (["--print-completion", "bsh"], "bash"),
    ],
)
def test_a_near_miss_is_answered_with_what_was_meant(call, words, meant):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert f"did you mean '{meant}'?" in err
    assert err.count("\n") == 1


def test_a_hint_names_the_command_whose_help_says_more(call):
    assert call("render", "--scal", 2)[2].endswith("did you mean '--scale'? see `coordfit render --help`\n")
    assert call("fit", "--qqqq")[2].endswith("unrecognized arguments: --qqqq; see `coordfit fit --help`\n")
    assert call("inpaint", "a.png", "b.png")[2].endswith("arguments: b.png; see `coordfit inpaint --help`\n")


def test_values_and_words_after_two_dashes_are_no_options():
    assert parse(["inpaint", "--text", "-- what --sigm is", "a.png"]).text == "-- what --sigm is"
    assert parse(["fit", "--", "--sigm"]).images == ["--sigm"]
    with pytest.raises(UsageError, match="--sigm"):
        parse(["fit", "--sigm", "--", "a.png"])


def test_every_setting_is_found_from_a_slip():
    names = list(vars(FitConfig()))
    for name in names:
        for slip in (name + "q", name.upper().replace("_", "-")):
            assert did_you_mean(slip, names) == f"; did you mean {name!r}?"


def test_python_has_the_same_hints():
    with pytest.raises(coordfit.ConfigError, match="unknown option 'lr'; did you mean 'learning_rate'"):
        coordfit.fit("photo.png", lr=3)


# -- help ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_two_spellings(call, command):
    assert call("help", command) == call(command, "--help")


def test_help_alone_is_that_of_all(call):
    assert call("help") == call("--help")
    assert "help" in call("help")[1]


# -- run folders -----------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(call):
    code, out, _ = call("fit", "--size", 32, *SMALL)
    assert code == 0
    return Path(out.splitlines()[-1])  # what fit prints last


def test_the_last_line_of_fit_can_be_told_and_drawn(call, run_folder):
    assert call("info", run_folder) == call("info", run_folder / "model.safetensors")
    code, out, _ = call("render", run_folder, "--size", 9, "--device", "numpy")
    assert (code, out) == (0, f"{run_folder / 'model-9x9.png'}\n")
    np.testing.assert_array_equal(
        coordfit.load(run_folder, device="numpy").render(5),
        coordfit.load(run_folder / "model.safetensors", device="numpy").render(5),
    )


def test_a_killed_run_is_drawn_from_its_checkpoint(call, run_folder):
    (run_folder / "model.safetensors").unlink()
    assert call("render", run_folder, "--device", "numpy", "--out", "drawn.png")[0] == 0
    assert coordfit.load_picture("drawn.png").levels.shape == (32, 32, 3)


def test_a_folder_of_many_models_or_of_none_is_refused_with_the_cure(call, run_folder):
    Path("many").mkdir()
    for name in ("model-none", "model-basic"):
        shutil.copy(run_folder / "model.safetensors", Path("many", f"{name}.safetensors"))
    code, _, err = call("info", "many")
    assert code == 1
    assert "2 models; name one of its files (model-basic.safetensors, model-none.safetensors)" in err
    Path("many", "model-none.safetensors").unlink()
    assert call("info", "many")[0] == 0
    Path("empty").mkdir()
    assert "name the folder of a finished run" in call("info", "empty")[2]


# -- completion ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shells_get_a_completion(call, shell):
    pytest.importorskip("shtab")
    code, out, err = call("--print-completion", shell)
    assert (code, err) == (0, "")
    assert all(command in out for command in COMMANDS)


@pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("sw", ["sweep"]),
        ("fit --sig", ["--sigma"]),
        ("fit --encoding ''", list(get_args(EncodingName))),
        ("render ph", ["photo.safetensors"]),
        ("inpaint --mask ph", ["photo.safetensors"]),
        ("help in", ["inpaint", "info"]),
    ],
)
def test_bash_completes_commands_options_choices_and_files(call, words, found):
    pytest.importorskip("shtab")
    Path("photo.safetensors").touch()
    Path("completion").write_text(call("--print-completion", "bash")[1])
    script = f"""
source completion
words=(coordfit {words}); COMP_WORDS=("${{words[@]}}"); COMP_CWORD=$((${{#words[@]}} - 1))
_shtab_coordfit coordfit "${{words[-1]}}" "${{words[-2]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == found


def test_completion_without_shtab_says_what_to_install(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, _, err = call("--print-completion", "bash")
    assert code == 2
    assert "needs shtab: pip install shtab" in err


def test_no_other_command_loads_shtab(monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert make_parser().commands.keys() == {*COMMANDS, "help"}
