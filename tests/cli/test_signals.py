"""Ctrl-C and SIGTERM at any moment, and the death of a parent: one line, the right code, nothing left."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.cases import slow

import coordfit
from coordfit.backends import get_backend
from coordfit.cli import main
from coordfit.cli.interrupts import CutShortError, GracefulStop, SignalsAsErrors
from coordfit.config import make_config
from coordfit.files.lock import locked
from coordfit.images import bundled_picture
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

ROOT = Path(coordfit.__file__).parents[1]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="signals of POSIX, and /proc")


def start(*words, **options):
    command = [sys.executable, "-m", "coordfit", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
    return found


def temporaries(folder):
    return list(folder.glob(".coordfit-*"))


def children(process):
    """Processes that it started and that still run."""
    try:
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in found]


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    Trainer([Job(bundled_picture(32), make_config({"steps": 0}))], get_backend("numpy")).model.save(path)
    return path


@pytest.mark.parametrize(("number", "threads"), [(signal.SIGINT, 2), *slow((signal.SIGTERM, 1))])
def test_a_rendering_that_is_interrupted_leaves_nothing(model_file, tmp_path, number, threads):
    words = [
        "--size",
        "6000x6000",
        "--out",
        tmp_path / "a.png",
        "--threads",
        threads,
        "--device",
        "cpu",
        "--json",
    ]
    with start("render", model_file, *words) as process:
        wait_for(lambda: temporaries(tmp_path))
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
    assert process.returncode == CODES[number]
    assert json.loads(out) == {"error": word, "exit_code": CODES[number]}
    assert err == f"coordfit: {word}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", CODES)
def test_a_second_signal_ends_a_command_at_once(number):
    script = f"""
import signal, time
from coordfit.cli.interrupts import SignalsAsErrors
with SignalsAsErrors():
    try:
        signal.raise_signal({int(number)})
    except KeyboardInterrupt:
        print("once", flush=True)
        signal.raise_signal({int(number)})
        print("still here", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (-number, "once\n")


def swallowed(number):
    """Let a signal come where Python ignores what its handler raises."""

    class Object:
        def __del__(self):
            signal.raise_signal(number)

    Object()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(
    "later",
    [lambda: time.sleep(600), lambda: GracefulStop().__enter__(), lambda: {}["a name that was not imported"]],
    ids=["other work", "a loop", "an error that came of it"],
)
def test_a_signal_whose_error_is_swallowed_ends_the_command_all_the_same(monkeypatch, capsys, number, later):
    def command(options):
        swallowed(number)
        later()

    monkeypatch.setattr("coordfit.cli.commands.doctor.run", command)
    assert main(["doctor"]) == CODES[number]
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
    assert capsys.readouterr().err == f"coordfit: {word}\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_command_is_cut_short_though_the_first_error_is_swallowed(monkeypatch):
    monkeypatch.setattr("coordfit.cli.interrupts.PATIENCE", 0.1)

    class Slow:
        def __del__(self):
            time.sleep(0.2)

    began = time.monotonic()
    with GracefulStop() as stop:
        signal.raise_signal(signal.SIGTERM)
        Slow()
        time.sleep(600)
    assert stop.exit_code == 143
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("around", [SignalsAsErrors, GracefulStop])
def test_an_import_is_not_cut_short(monkeypatch, tmp_path, around):
    """A library of C++ that is left half imported turns the error into another one, or crashes at the end."""
    monkeypatch.setattr("coordfit.cli.interrupts.PATIENCE", 0.1)
    (tmp_path / "slowly_imported.py").write_text("import time\ntime.sleep(1)\nis_whole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    ended = []
    with around():
        timer.start()
        try:
            importlib.import_module("slowly_imported")
            time.sleep(600)
        except KeyboardInterrupt as error:
            ended.append(type(error))
    timer.join()
    assert ended == [KeyboardInterrupt if around is SignalsAsErrors else CutShortError]
    assert sys.modules.pop("slowly_imported").is_whole


def test_an_error_that_cutting_short_became_is_no_other_error(monkeypatch):
    monkeypatch.setattr("coordfit.cli.interrupts.PATIENCE", 0.1)
    with GracefulStop() as stop:
        signal.raise_signal(signal.SIGTERM)
        try:
            time.sleep(600)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error
    assert stop.exit_code == 143


@pytest.fixture
def sweep_of_two(tmp_path):
    """A sweep on two processes that both are at work."""
    words = ["--size", "32", "--jobs", "2", "--steps", "100000", "--depth", "2,3,4", "--device", "numpy"]
    with start("sweep", *words, "--out", tmp_path, "--no-progress", start_new_session=True) as process:
        try:
            wait_for(lambda: len(children(process)) >= 3)  # the two, and Python's own keeper of semaphores
            workers = children(process)
            yield process, workers
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_processes_of_a_sweep_end_with_a_parent_that_is_killed(sweep_of_two):
    process, workers = sweep_of_two
    process.kill()
    process.wait(30)
    wait_for(lambda: not any(map(is_alive, workers)), 30)


@pytest.mark.parametrize("number", CODES)
def test_an_interrupted_sweep_takes_its_processes_with_it(sweep_of_two, number):
    process, workers = sweep_of_two
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == CODES[number]
    assert "interrupted; 0 finished rows are kept, go on with --resume --out" in err.splitlines()[-1]
    assert "Traceback" not in err
    wait_for(lambda: not any(map(is_alive, workers)), 30)


@pytest.mark.slow
def test_a_sweep_tells_that_a_process_was_killed(sweep_of_two):
    process, workers = sweep_of_two
    for worker in workers[1:]:
        os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a process of the executor was killed" in err.splitlines()[-1]


def is_locked_by(process, folder):
    """Whether a process has a folder, asked without taking it."""
    inode = f":{folder.stat().st_ino}" if folder.exists() else "none"
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(row[1] == "FLOCK" and row[4] == str(process.pid) and row[5].endswith(inode) for row in rows)


WRITERS = {
    "fit": ["--steps", 500000],
    "compare": ["--encoding", "none,basic", "--steps", 500000],
    "inpaint": ["--missing", 0.5, "--steps", 500000],
    "sweep": ["--depth", "2,3", "--steps", 500000],
    "experiments": [],
}


@pytest.mark.skipif(not os.access("/proc/locks", os.R_OK), reason="/proc tells of no locks")
@pytest.mark.parametrize("command", WRITERS)
def test_a_folder_has_one_writer_and_is_free_when_it_dies(command, tmp_path, capsys):
    size = [] if command == "experiments" else ["--size", 32]
    words = [*map(str, [command, *size, *WRITERS[command]]), "--device", "numpy", "--out", str(tmp_path / "a")]
    with start(*words, "--no-progress", "--quiet") as process:
        try:
            wait_for(lambda: is_locked_by(process, tmp_path / "a"))
            assert main([*words, "--overwrite"]) == 1
            assert "another process is writing" in capsys.readouterr().err
            assert process.poll() is None
        finally:
            process.kill()
    with locked(tmp_path / "a"):
        pass


def test_a_long_wait_for_the_next_evaluation_is_cut_short(tmp_path):
    words = ["--size", "32", "--depth", "2", "--steps", "500000", "--device", "numpy"]
    with start("sweep", *words, "--evaluate-every", "500000", "--out", tmp_path) as process:
        assert any("0/500000" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 143
    assert (tmp_path / "rows.jsonl").read_text() == ""
