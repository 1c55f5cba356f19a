"""Where and what a run writes: nothing elsewhere, no secrets of the input, one clear line on a full disk."""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin
from support.cases import slow, very_slow
from support.own_process import ROOT, environment

import coordfit
from coordfit.cli import main
from coordfit.experiments.common import Drawing, Outcome
from coordfit.report.heatmap import heat_map_svg
from coordfit.report.table import Table

SMALL = ["--steps", "6", "--hidden-size", "8", "--num-frequencies", "4", "--device", "numpy", "--no-progress"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and mounts of Linux")


def run(*words, before=(), folder=None, **options):
    """A command in a process of its own; `before` are words in front of Python's."""
    command = [*before, sys.executable, "-m", "coordfit", *map(str, words)]
    return subprocess.run(
        command,
        env=environment(**options.pop("env", {})),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def only_line(done):
    (line,) = done.stderr.splitlines()
    return line


def make_picture(path, **options):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 12, 3), np.uint8)).save(path, **options)
    return path


# -- full and protected disks ----------------------------------------------------------------------------


def limit_files_to(size):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@linux
def test_where_the_disk_takes_no_more_the_old_model_survives(tmp_path):
    make_picture(tmp_path / "p.png")
    assert run("p.png", *SMALL, "--out", "a", folder=tmp_path).returncode == 0
    old = {name: (tmp_path / "a" / name).read_bytes() for name in ("model.safetensors", "metrics.json")}
    words = ["p.png", *SMALL, "--hidden-size", "64", "--out", "a", "--overwrite"]
    done = run(*words, folder=tmp_path, preexec_fn=lambda: limit_files_to(8192))
    assert done.returncode == 1
    assert "cannot write" in only_line(done)
    assert ".safetensors: " in only_line(done)
    assert {name: (tmp_path / "a" / name).read_bytes() for name in old} == old
    assert not list((tmp_path / "a").glob(".coordfit-*"))


def mounted(folder, options, *words, then=()):
    """The words to run a command where a small disk is mounted on a folder, and another one after it."""
    script = f'mount -t tmpfs -o {options} none "$0" && "$@"; code=$?; {" ".join(then)}; exit $code'
    return ["unshare", "-rm", "sh", "-c", script, str(folder), *words]


def can_mount(tmp_path):
    command = mounted(tmp_path, "size=64k", "true", then=["true"])
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@linux
@pytest.mark.parametrize(
    ("options", "said"), [("size=4k", "disk is full"), ("ro", "no permission to write in the folder")]
)
def test_a_disk_that_takes_nothing_is_found_before_training(tmp_path, options, said):
    if not can_mount(tmp_path):
        pytest.skip("no disk can be mounted here")
    words = ["--steps", "1000000", "--out", tmp_path / "run", "--device", "numpy"]
    done = run(*words, before=mounted(tmp_path, options, then=["true"]))
    assert done.returncode == 1
    assert said in only_line(done)


@linux
def test_a_disk_that_fills_up_keeps_the_checkpoint(tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("no disk can be mounted here")
    picture = make_picture(tmp_path / "p.png")
    (tmp_path / "disk").mkdir()
    (tmp_path / "kept").mkdir()
    # Room for the checkpoint (parameters and two moments) and not for the model after it.
    words = ["fit", picture, *SMALL, "--hidden-size", "32", "--out", tmp_path / "disk" / "run"]
    then = [f'cp "$0"/run/* "{tmp_path}/kept"']
    done = run(*words, before=mounted(tmp_path / "disk", "size=60k", then=then))
    assert done.returncode == 1, done.stderr
    assert "disk is full" in only_line(done)
    resumed = run("fit", "--resume", "--out", tmp_path / "kept", *SMALL, "--hidden-size", "32")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from step" in resumed.stderr


# -- nothing else is written -----------------------------------------------------------------------------

WATCH = """
import os, sys
written = []

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, (str, bytes)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(os.path.abspath(os.fsdecode(path)))
    elif event in ("os.mkdir", "os.rename", "os.link", "os.symlink"):
        written.append(os.path.abspath(os.fsdecode(arguments[0 if event == "os.mkdir" else 1])))

sys.dont_write_bytecode = True
sys.addaudithook(watch)
from coordfit.cli import main
from coordfit.experiments.common import Drawing, Outcome
code = main(sys.argv[1:])
outside = {path for path in written if not path.startswith((os.path.abspath("runs"), os.devnull))}
print("OUTSIDE", sorted(outside), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("command", ["fit", *slow("compare", "sweep", "inpaint")])
def test_nothing_but_the_run_folder_is_written(tmp_path, command):
    make_picture(tmp_path / "p.png")
    places = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "MPLCONFIGDIR")}
    for place in places.values():
        Path(place).mkdir()
    more = {"sweep": ["--sigma", "1,2", "--depth", "2,3"], "inpaint": ["--missing", "0.5"]}.get(command, [])
    done = subprocess.run(
        [sys.executable, "-c", WATCH, command, "p.png", *SMALL, *more],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | places,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outside = next(line for line in done.stderr.splitlines() if line.startswith("OUTSIDE"))
    fonts = places["MPLCONFIGDIR"]  # Matplotlib's own list of the fonts there are, where Matplotlib keeps it
    assert [path for path in eval(outside[8:]) if not path.startswith(fonts)] == []
    assert {path.name for path in tmp_path.iterdir()} == {"p.png", "runs", *places}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"001"}


@linux
def test_a_home_that_cannot_be_written_is_no_matter(tmp_path):
    make_picture(tmp_path / "p.png")
    places = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    words = ["p.png", *SMALL, "--quiet", "--out", "a"]
    done = run(*words, folder=tmp_path, env=dict.fromkeys(places, "/dev/null/home"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a/curves.svg").exists()


@pytest.mark.parametrize("device", ["numpy", "numba"])
def test_threads_are_given_back(device, tmp_path):
    if device == "numba":
        pytest.importorskip("numba")
    before = set(threading.enumerate())

    def stop(progress):
        if progress.step > 0:
            raise ZeroDivisionError

    options = {"device": device, "threads": 2, "steps": 20, "batch_size": None, "hidden_size": 32}
    result = coordfit.fit(coordfit.images.bundled_picture(128), **options)
    result.model.render(300, 300)
    result.save(tmp_path / "m.safetensors")
    with pytest.raises(ZeroDivisionError):
        coordfit.fit(coordfit.images.bundled_picture(128), callback=stop, **options)
    assert set(threading.enumerate()) == before


# -- nothing is lost -------------------------------------------------------------------------------------

COMMANDS = {
    "fit": ["fit", "p.png", *SMALL],
    "fit by tiles": ["fit", "p.png", "--tiles", "8", "--steps", "2", *SMALL[4:]],
    "compare": ["compare", "p.png", *SMALL, "--encoding", "none,gaussian"],
    "sweep": ["sweep", "p.png", *SMALL, "--sigma", "1,2", "--depth", "2,3", "--models"],
    "inpaint": ["inpaint", "p.png", *SMALL, "--missing", "0.5"],
    "experiments": ["experiments", "losses", "--image", "p.png", "--quick", "--device", "numpy"],
}
WITH_RESUME = ("fit", "fit by tiles", "sweep")
_WRITTEN: list[str] = []


def note_what_is_written(event, arguments):
    if (
        event == "open"
        and isinstance(arguments[0], str)
        and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        _WRITTEN.append(arguments[0])
    elif event == "os.rename":
        _WRITTEN.append(os.fspath(arguments[1]))


@pytest.fixture
def instant_study(monkeypatch):
    """An experiment that is done at once, with a picture of each kind."""
    drawings = [Drawing("curves", "<svg/>", ""), Drawing("pictures", Image.new("RGB", (4, 4)), "")]

    def outcome_of(name, study):
        return Outcome(name, name, "What?", {}, Table([{"psnr": 1.0}]), drawings, "It is.")

    monkeypatch.setattr("coordfit.cli.commands.experiments.run_experiment", outcome_of)


def names_written_by(words, folder):
    """Names in the folder of a run that it writes, and be it for a while."""
    sys.addaudithook(note_what_is_written)  # it stays for ever, and does no harm
    _WRITTEN.clear()
    assert main([*words, "--out", str(folder)]) == 0
    places = [Path(os.path.abspath(path)) for path in _WRITTEN]  # noqa: PTH100 - links are not followed
    inside = {str(path.relative_to(folder)) for path in places if path.is_relative_to(folder)}
    return sorted(name for name in inside if ".coordfit-" not in name)


def plant(path, kind, precious):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_text("mine")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(precious if kind == "link" else precious.with_name("missing"))


@linux
@pytest.mark.parametrize("command", ["fit", *very_slow(*(name for name in COMMANDS if name != "fit"))])
def test_every_name_that_a_run_writes_is_looked_at_before_it_begins(
    command, tmp_path, capsys, monkeypatch, instant_study
):
    monkeypatch.chdir(tmp_path)
    make_picture(tmp_path / "p.png")
    words, precious = COMMANDS[command], tmp_path / "precious"
    names = names_written_by(words, tmp_path / "whole")
    assert len(names) >= 5
    precious.write_text("mine")
    ways = [("file", []), ("link", []), ("dangling link", []), ("pipe", []), ("link", ["--overwrite"])]
    ways += [("dangling link", ["--overwrite"]), ("folder", ["--overwrite"]), ("pipe", ["--overwrite"])]
    ways += [(kind, ["--resume"]) for kind in ("file", "link") if command in WITH_RESUME]
    for number, (name, (kind, more)) in enumerate(itertools.product(names, ways)):
        if (kind, more) == ("file", ["--resume"]) and name in BEGUN:
            continue  # this is a run that began
        folder = tmp_path / str(number)
        plant(folder / name, kind, precious)
        before = sorted(folder.rglob("*"))
        capsys.readouterr()
        assert main([*words, *more, "--out", str(folder)]) == 1, (name, kind, more)
        told = capsys.readouterr().err.splitlines()[-1]
        assert str(folder) in told or "cannot resume" in told, told
        assert sorted(folder.rglob("*")) == before, (name, kind, more)
        assert kind != "file" or (folder / name).read_text() == "mine"
        assert precious.read_text() == "mine"
        assert not (tmp_path / "missing").exists()


BEGUN = ("config.json", "checkpoint.safetensors", "tiles.json", "tiles.bin", "rows.jsonl")


@pytest.mark.parametrize("command", ["fit", "compare", "inpaint"])
def test_a_film_replaces_nothing_unasked(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_picture(tmp_path / "p.png")
    before = (tmp_path / "p.png").read_bytes()
    monkeypatch.setattr("coordfit.tasks.jobs.network.Trainer", None)  # none is to be trained
    for file, said in {
        "p.png": "p.png is there already",
        "out/comparison.png": "the run itself writes out/comparison.png",
        "no/film.gif": "no does not exist",
    }.items():
        assert main([*COMMANDS[command], "--out", "out", "--animate", file]) == 1
        assert said in capsys.readouterr().err
    assert (tmp_path / "p.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


@linux
@pytest.mark.parametrize("kind", ["dangling link", "link", "pipe", "folder"])
@pytest.mark.parametrize("more", [[], ["--overwrite"]], ids=str)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_rendering_goes_where_it_was_asked_to_and_nowhere_else(kind, more, suffix, tmp_path, capsys):
    model, out = tmp_path / "m.safetensors", tmp_path / f"out{suffix}"
    coordfit.fit(make_picture(tmp_path / "p.png"), steps=1, hidden_size=8, device="numpy").save(model)
    (tmp_path / "precious").write_text("mine")
    plant(out, kind, tmp_path / "precious")
    before = sorted(tmp_path.iterdir())
    assert main(["render", str(model), "--device", "numpy", "--out", str(out), *more]) == 1
    assert f"a {kind.split()[-1]} is in its place" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "precious").read_text() == "mine"


def test_names_are_looked_at_before_sigma_is_chosen(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("coordfit.tasks.jobs.plan.choose_sigma", None)
    (tmp_path / "curves.svg").write_text("mine")
    assert main(["fit", *SMALL, "--sigma", "auto", "--out", str(tmp_path)]) == 1
    assert "curves.svg is there already" in capsys.readouterr().err


# -- what the files and the terminal tell ----------------------------------------------------------------

SECRET = "48 degrees 51 minutes north"


def secretive_picture(path):
    """A picture with a place in its EXIF, its text and its XMP."""
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[ExifTags.Base.ImageDescription] = SECRET
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = SECRET
    text.add_text("Comment", SECRET)
    text.add_itxt("XML:com.adobe.xmp", SECRET)
    return make_picture(path, exif=exif, pnginfo=text)


@pytest.mark.parametrize("command", ["fit", "compare", "sweep", "inpaint"])
def test_no_file_of_a_run_tells_where_the_picture_was_taken(tmp_path, command, capsys):
    picture = secretive_picture(tmp_path / "p.png")
    assert SECRET.encode() in picture.read_bytes()
    more = {"sweep": ["--sigma", "1,2", "--models"], "inpaint": ["--missing", "0.5"]}.get(command, [])
    more += ["--animate", str(tmp_path / "run" / "film.webp")] if command != "sweep" else []
    assert main([command, str(picture), *SMALL, *more, "--out", str(tmp_path / "run")]) == 0, (
        capsys.readouterr()
    )
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) >= 4
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path.name
        if path.suffix in (".png", ".webp"):
            with Image.open(path) as written:
                assert not written.getexif()
                assert not set(written.info) & {"exif", "icc_profile", "Comment", "xmp", "XML:com.adobe.xmp"}


NAME = "\x1b[31mred\x07 <script>alert(1)</script> $x_$ & \u202e.png"


@pytest.mark.skipif(sys.platform == "win32", reason="no such names on Windows")
@pytest.mark.parametrize("command", ["fit", "compare", "sweep", "inpaint", "info", "render", "missing"])
def test_a_name_steers_no_terminal_and_spoils_no_file(tmp_path, capsys, command):
    folder = tmp_path / NAME.replace("/", "-")
    folder.mkdir()
    picture = make_picture(folder / NAME.replace("/", "-"))
    words = {
        "sweep": ["sweep", picture, *SMALL, "--sigma", "1,2", "--depth", "2,3"],
        "inpaint": ["inpaint", picture, *SMALL, "--missing", "0.5"],
        "missing": ["fit", folder / "no\x1b[31m.png"],
    }.get(command, ["fit" if command in ("info", "render") else command, picture, *SMALL])
    code = main([*map(str, words), "--out", str(folder / "run")])
    if command in ("info", "render"):
        code = main([command, str(folder / "run" / "model.safetensors")])
    assert code == (1 if command == "missing" else 0)
    told = "".join(capsys.readouterr())
    assert not [c for c in told if not c.isprintable() and c != "\n"]
    for path in folder.rglob("*.svg"):
        ElementTree.parse(path)
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())


def test_a_drawing_escapes_what_is_written_into_it():
    rows = [{"picture": NAME, "loss": "<b>&", "psnr": 1.0}]
    drawing = heat_map_svg(Table(rows), "picture", "loss", "psnr", title=f"{NAME} -- ]]> \x00")
    ElementTree.fromstring(drawing)
    assert "<script>" not in drawing


@linux
def test_json_is_one_document_when_interrupted():
    words = ["--json", "--steps", "1000000", "--evaluate-every", "20", "--device", "numpy", "--out"]
    command = [sys.executable, "-m", "coordfit", *words]
    with tempfile.TemporaryDirectory() as folder:
        variables = os.environ | {"PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen([*command, folder], env=variables, text=True, **pipes) as process:
            history = Path(folder) / "history.csv"
            while not (history.exists() and len(history.read_text().splitlines()) > 2):
                time.sleep(0.01)
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
        assert process.returncode == 143
        document = json.loads(out)  # with the figures, if there was time for them
        assert document.get("exit_code") == 143 or document["metrics"]["stopped"] == "interrupted"
