"""A command whose streams are missing or cannot be written, and figures in a foreign Matplotlib."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from support.cases import very_slow

import coordfit
from coordfit.cli import main
from coordfit.report.curves import save_curves
from coordfit.report.svg import own_style

ROOT = Path(coordfit.__file__).parents[1]
RUN = ["fit", "--size", "32", "--steps", "1", "--hidden-size", "8", "--device", "numpy", "--out", "run"]
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
posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX systems")


@pytest.fixture(autouse=True)
def a_place_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_in_shell(redirections="", **variables):
    """Run a small fit as a shell does; return the finished process."""
    words = " ".join(["exec", sys.executable, "-m", "coordfit", *RUN, redirections])
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(words, shell=True, env=environment, capture_output=True, text=True, check=False)


@posix
@pytest.mark.parametrize("redirections", ["<&- >&- 2>&-", *very_slow("2>&-", ">&-", "2>/dev/full")])
def test_a_run_needs_no_standard_streams(redirections):
    if "full" in redirections and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = run_in_shell(redirections)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in Path("run").iterdir()} == FILES


@posix
def test_a_full_disk_below_stdout_is_still_told():
    """A result that is lost is a failure, unlike a message."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    assert run_in_shell("--json >/dev/full").returncode == 1


def test_streams_that_are_none_stay_none(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(RUN) == 0
    assert main(["fit", "missing.png"]) == 1
    assert sys.stdout is None
    assert sys.stderr is None


@pytest.mark.parametrize("kind", ["the backend of a notebook", *very_slow("no backend", "not text")])
def test_a_foreign_matplotlib_changes_no_curve(kind):
    variables = {
        "the backend of a notebook": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        "no backend": {"MPLBACKEND": "nonsense"},
        "not text": {"MATPLOTLIBRC": "foreign"},
    }[kind]
    Path("foreign").mkdir()
    Path("foreign/matplotlibrc").write_bytes(b"axes.facecolor: \xff\xfe\n")
    done = run_in_shell(**variables)
    assert done.returncode == 0, done.stderr
    curves = Path("run/curves.svg").read_bytes()
    with Path("run/history.csv").open() as file:
        rows = np.genfromtxt(file, delimiter=",", names=True)
    history = [{name: float(row[name]) for name in rows.dtype.names} for row in rows]
    save_curves("again.svg", history)
    assert Path("again.svg").read_bytes() == curves


def test_mplbackend_is_left_for_the_figures_of_others():
    code = """
import os
from coordfit.report.svg import own_style
with own_style():
    pass
import matplotlib
assert os.environ["MPLBACKEND"] == "pdf"
assert matplotlib.get_backend() == "pdf"
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "pdf"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_figures_of_two_threads_leave_the_settings_as_they_were():
    """Of two contexts that overlap the second would put the first one's settings back."""
    entered, may_end = threading.Event(), threading.Event()
    before = dict(matplotlib.rcParams)

    def second():
        with own_style():
            entered.set()
            may_end.wait(10)

    thread = threading.Thread(target=second)
    with own_style({"axes.grid": False}):
        thread.start()
        entered.wait(0.2)
    may_end.set()
    thread.join(10)
    assert dict(matplotlib.rcParams) == before
