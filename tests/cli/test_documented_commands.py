"""Every command line of README.md, docs, bench/README.md and their like works as it is written."""

import argparse
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.as_main import run_as_main

import coordfit
import coordfit.cli.commands.experiments
from coordfit.cli import EXIT_INTERRUPTED, main
from coordfit.cli.parser import COMMANDS

ROOT = Path(__file__).parents[2]
NAMES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md", "docs/**/*.md"]
LOOKED_AT = {"coordfit", "python", "pytest", ".venv/bin/pytest", "asv", "cp"}
# What pip is told is looked at in test_packaging.py; others are simple, or not ours.
NOT_LOOKED_AT = {
    "pip",
    ".venv/bin/pip",
    "python3",
    ".",
    "mkdir",
    "pre-commit",
    "ruff",
    "mypy",
    ".ci/run",
    "twine",
    "check-wheel-contents",
    "argparse-manpage",
}


def shell_lines(text):
    """Commands in the ```sh blocks of a Markdown text, lines that end in a backslash joined."""
    for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


def spans(text):
    """Commands in backticks outside of blocks; a name alone, as `coordfit info`, is a mention."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"(?<!`)`((?:coordfit|python|pip|pytest)\s[^`]+)`", prose):
        if span not in [f"coordfit {name}" for name in COMMANDS]:
            yield " ".join(span.split())


def commands(line):
    """The words of each command of a shell line."""
    words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&|;")
    words.whitespace_split = True
    found = [[]]
    for word in words:
        if word and set(word) <= set("&|;"):
            found.append([])
        elif found[-1] or not re.fullmatch(r"[A-Z_]+=\S*", word):
            found[-1].append(word)
    return [words for words in found if words]


def documented():
    """Every command once, by the first file that has it and by its text."""
    files = [path for name in NAMES for path in sorted(ROOT.glob(name))]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}
    found = {
        shlex.join(words): (name, words)
        for name, text in reversed(texts.items())
        for line in [*shell_lines(text), *spans(text)]
        for words in commands(line)
    }
    return {f"{name}: {text}": words for text, (name, words) in sorted(found.items())}


DOCUMENTED = documented()


def of(*programs):
    """The documented commands of some programs, for `parametrize`."""
    return [pytest.param(words[1:], id=name) for name, words in DOCUMENTED.items() if words[0] in programs]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("coordfit photo.jpg --steps 5  # a comment", [["coordfit", "photo.jpg", "--steps", "5"]]),
        (
            "$ python -m coordfit --device gpu | head",
            [["python", "-m", "coordfit", "--device", "gpu"], ["head"]],
        ),
        ("A=1 coordfit && coordfit doctor", [["coordfit"], ["coordfit", "doctor"]]),
        ("coordfit info 'a & b'", [["coordfit", "info", "a & b"]]),
        ('pytest -m ""', [["pytest", "-m", ""]]),
        ("# nothing", []),
    ],
)
def test_commands_are_found_in_shell_lines(line, words):
    assert commands(line) == words


def test_every_documented_program_is_known():
    """So that a new kind of command is not passed over."""
    assert {words[0] for words in DOCUMENTED.values()} <= LOOKED_AT | NOT_LOOKED_AT
    assert min(len(of("coordfit")), len(of("python"))) > 30


# -- the shell -------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="README's shell is that of POSIX systems")
@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_what_is_typed_first_leaves_a_shell_with_the_commands_that_follow(tmp_path, name):
    """With `python3` that makes an environment without pip, and `pip` that installs `coordfit` alone."""
    first = re.search(r"^```sh\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.M | re.S)[1]
    stubs = {
        "python3": f'exec "{sys.executable}" -m venv --without-pip "$3"',
        "pip": 'printf "#!/bin/sh\\n" > "$VIRTUAL_ENV/bin/coordfit"; chmod +x "$VIRTUAL_ENV/bin/coordfit"',
        "pre-commit": "",
    }
    for program, text in stubs.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / program).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    script = f"set -e\n{first}\nunset PYTHONHOME; command -v coordfit"
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / ".venv" / "bin" / "coordfit")


# -- coordfit --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a reader's own pictures, and with what README's first command leaves."""
    folder, rng = tmp_path_factory.mktemp("clone"), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    (folder / "photos").mkdir()
    for name in ("other.png", "photos/one.png"):
        Image.fromarray(pixels).save(folder / name)
    Image.fromarray(np.uint8(255) * (rng.random((20, 24)) < 0.8)).save(folder / "mask.png")
    (folder / "frames").mkdir()
    for k in range(2):
        Image.fromarray(pixels).save(folder / "frames" / f"{k}.png")
    np.save(folder / "volume.npy", rng.random((6, 7, 8)))
    tifffile.imwrite(folder / "stack.tif", rng.random((4, 9, 8)).astype(np.float32), photometric="minisblack")
    with wave.open(str(folder / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(rng.integers(-9000, 9000, 200).astype("<i2").tobytes())
    small = {"steps": 1, "hidden_size": 4, "num_frequencies": 4, "device": "numpy", "threads": 1}
    coordfit.fit(pixels, average=2, **small, out=folder / "runs" / "001")
    coordfit.compress(pixels, steps=1).save(folder / "photo.cfc")
    return folder


@pytest.fixture
def in_place(place, tmp_path, monkeypatch):
    for variable in [name for name in os.environ if name.startswith("COORDFIT_")]:
        monkeypatch.delenv(variable)
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("words", of("coordfit"))
def test_a_documented_command_of_coordfit_runs(in_place, capsys, monkeypatch, words):
    """One step each on the CPU; the study stops before its first experiment, the demo before a picture."""
    monkeypatch.setattr(coordfit.cli.commands.experiments, "run_experiment", lambda *_: None)
    monkeypatch.setenv("COORDFIT_STEPS", "1")
    monkeypatch.setenv("COORDFIT_DEVICE", "numpy")
    monkeypatch.setattr("coordfit.codec.Compressor.train", lambda *_: True)
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    monkeypatch.setattr("tempfile.tempdir", os.curdir)
    for module in ("coordfit.gradcheck", "coordfit.cli.commands.gradcheck"):
        monkeypatch.setattr(f"{module}.ENCODINGS", ("none",))  # tests/test_gradcheck.py has all of them
    monkeypatch.setattr("coordfit.tasks.zoom._RATE", 1)  # frames per second
    for library in {"onnx", "torch"} & {*words}:
        pytest.importorskip(library)
    if any(word.endswith(".mp4") for word in words):
        pytest.importorskip("av")
    if words[:1] == ["demo"]:
        monkeypatch.setattr("coordfit.cli.commands.demo.GracefulStop.is_asked_for", lambda _: True)
    if words[:1] == ["compress"]:
        Path("photo.cfc").unlink()
    code = main(["1" if before == "--steps" else word for before, word in itertools.pairwise(["", *words])])
    said = capsys.readouterr()
    if words == ["--device", "gpu"]:
        assert code in (0, 3)
    elif words[:1] in (["experiments"], ["demo"]):
        assert code == EXIT_INTERRUPTED, said.err
    else:
        assert code == 0, said.err


def python_of(page):
    """The ```python blocks of a page, one behind the other."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


PYTHON = {
    page.relative_to(ROOT).as_posix(): python_of(page)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}


MAIN = 'if __name__ == "__main__":'  # programs of several processes, which have a test of their own


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, code in PYTHON.items() if code and MAIN not in code])
def test_the_python_of_a_page_runs(in_place, monkeypatch, page):
    """One step for each fit."""
    monkeypatch.setattr(coordfit.FitConfig, "resolved_steps", lambda config, pixels: 1)
    monkeypatch.setattr("coordfit.codec.Compressor.train", lambda *_: True)
    exec(PYTHON[page], {"__name__": "page"})


def test_readme_has_python():
    assert PYTHON["README.md"]


# -- python, pytest, asv ---------------------------------------------------------------------------------


class Started(BaseException):
    """The options were read; what would take long comes next."""


@pytest.mark.parametrize("words", of("python"))
def test_a_documented_command_of_python_starts(monkeypatch, capsys, words):
    """With the real parser, in the clone; nothing is run after it."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(*args, **options):
        parse(*args, **options)
        raise Started

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    try:
        run_as_main(monkeypatch, words)
    except Started:
        return
    except SystemExit as end:
        pytest.fail(f"exit {end.code}: {capsys.readouterr().err}")
    except ImportError as error:
        pytest.skip(str(error))
    pytest.fail("it reads no options")


COLLECT = """
import json, sys, pytest
for words in json.load(sys.stdin):
    named = any(word.endswith(".py") for word in words)
    more = ["--collect-only", "-q", "-p", "no:cacheprovider", *([] if named else ["--ignore-glob=*"])]
    expected = pytest.ExitCode.OK if named else pytest.ExitCode.NO_TESTS_COLLECTED
    assert pytest.main([*words, *more]) == expected, words
"""


@pytest.mark.very_slow
def test_pytest_knows_what_it_is_told():
    """Files that are named are collected, and else nothing; an unknown option has another exit code."""
    every = [words[1:] for words in DOCUMENTED.values() if words[0] in ("pytest", ".venv/bin/pytest")]
    assert len(every) > 5
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-c", COLLECT]
    told = {"input": json.dumps(every), "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(command, cwd=ROOT, env=own, check=False, **told)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", of("asv"))
def test_asv_knows_what_it_is_told(words):
    asv = pytest.importorskip("asv.commands", exc_type=ImportError)
    options = asv.make_argparser()[0].parse_args(words)
    assert (ROOT / options.config).exists()


def test_what_is_copied_is_there():
    sources = [words[-2] for words in DOCUMENTED.values() if words[0] == "cp"]
    assert sources
    assert all((ROOT / source).exists() for source in sources)
