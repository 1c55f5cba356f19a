"""Several pictures: together equal to one by one, told as they finish, skipped and gone on with."""

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import coordfit
from coordfit.cli import main
from coordfit.errors import ConfigError, OutputError, PictureError
from coordfit.images.collecting import picture_files
from coordfit.tasks.folders.many_folder import safe_name, unique_names
from coordfit.training.trainer import Trainer

SMALL = {
    "hidden_size": 8,
    "depth": 2,
    "num_frequencies": 4,
    "batch_size": 64,
    "steps": 20,
    "evaluate_every": 10,
}
MACHINE = {"device": "numpy", "threads": 1}
WORDS = [
    word for name, value in (SMALL | MACHINE).items() for word in ("--" + name.replace("_", "-"), str(value))
]


def pixels(seed, height=24, width=20):
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Five pictures of two sizes, two of one stem, and one that is broken."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["a.png", "b.png", "sub/a.png", "c.tif"]):
        Path(name).parent.mkdir(exist_ok=True)
        coordfit.save_picture(name, pixels(number, 24, 20 if number < 3 else 28))
    Path("broken.png").write_bytes(b"no picture")
    return ["a.png", "b.png", "broken.png", "sub/a.png", "c.tif"]


@pytest.fixture
def batches(monkeypatch):
    """The number of networks of each trainer that was made."""
    seen, begin = [], Trainer.__init__

    def counted(trainer, jobs, *arguments):
        seen.append(len(jobs))
        begin(trainer, jobs, *arguments)

    monkeypatch.setattr(Trainer, "__init__", counted)
    return seen


def call(capsys, *words):
    code = main(["fit", *map(str, words)])
    return code, *capsys.readouterr()


def test_together_they_equal_each_alone(batches):
    pictures = [pixels(0), pixels(1, 16, 16), pixels(2), pixels(3)]
    told = []
    fits = coordfit.fit_many(pictures, on_result=lambda name, _: told.append(name), **SMALL, **MACHINE)
    assert batches == [3, 1]  # of one shape
    assert told == ["picture", "picture-3", "picture-4", "picture-2"]
    for picture, result in zip(pictures, fits, strict=True):
        alone = coordfit.fit(picture, **SMALL, **MACHINE)
        np.testing.assert_allclose(result.render(), alone.render(), atol=2e-5)
        assert [row["step"] for row in result.history] == [row["step"] for row in alone.history]
    assert fits.table["psnr"] == [result.metrics["psnr"] for result in fits]
    assert fits["picture-2"] is fits[1]


def test_each_chooses_its_own_sigma(batches):
    pictures = [pixels(0), np.tile(np.linspace(0, 1, 20, dtype=np.float32)[:, None], (24, 1, 3))]
    options = SMALL | MACHINE | {"sigma": "auto", "seed": 1}
    fits = coordfit.fit_many(pictures, **options)
    assert batches[-1] == 2
    for picture, result in zip(pictures, fits, strict=True):
        assert result.config.sigma == coordfit.fit(picture, **options).config.sigma


@pytest.mark.parametrize(
    "options",
    [
        {"steps": None, "target_psnr": 5},
        {"steps": None, "seconds": 0.1},
        {"average": 3},
        {"optimizer": "gauss-newton", "steps": 1},
        {"hidden_size": 256, "depth": 4, "batch_size": None},
    ],
)
def test_what_would_differ_in_a_batch_or_gain_nothing_is_fitted_alone(batches, options):
    """A batch shares its seconds, and ends when all have reached a target."""
    assert len(coordfit.fit_many([pixels(0), pixels(1)], **SMALL | options, **MACHINE)) == 2
    assert 2 not in batches


def test_memory_limits_a_batch(batches, monkeypatch):
    from coordfit.backends.numpy_backend.backend import NumpyBackend

    from coordfit.models import memory

    backend = coordfit.get_backend("numpy", threads=1)
    need = memory.need_of_training(coordfit.make_config(SMALL), coordfit.load_picture(pixels(0)), backend, 2)
    free = need.total + need.pixels + 1000
    monkeypatch.setattr(NumpyBackend, "free_memory", lambda _: free)
    assert len(coordfit.fit_many([pixels(n) for n in range(5)], **SMALL, **MACHINE)) == 5
    assert batches == [2, 2, 1]


def test_a_callback_ends_the_fit_and_those_that_would_follow(tmp_path):
    pictures = [pixels(0), pixels(1, 16, 16)]
    fits = coordfit.fit_many(pictures, out=tmp_path / "all", callback=lambda p: True, **SMALL, **MACHINE)
    assert [result.stopped for result in fits] == ["interrupted"]
    again = coordfit.fit_many(pictures, out=tmp_path / "all", resume=True, **SMALL, **MACHINE)
    assert [result.stopped for result in again] == ["steps", "steps"]
    whole = coordfit.fit_many(pictures, **SMALL, **MACHINE)
    for one, other in zip(again, whole, strict=True):
        np.testing.assert_allclose(one.render(), other.render(), atol=2e-5)


# -- the folder ------------------------------------------------------------------------------------------


def test_each_has_the_folder_of_a_fit_of_its_own(photos, capsys):
    code, _, err = call(capsys, *photos, *WORDS, "--out", "all", "-q")
    assert code == 1
    assert err.splitlines()[0].startswith("coordfit: broken: ")
    assert err.splitlines()[-1] == "coordfit: 1 of 5 pictures failed: broken"
    assert {path.name for path in Path("all").iterdir()} == {
        *("a", "b", "a-2", "c", "pictures.json", "metrics.json", "table.md", "table.csv")
    }
    for file, name in (("b.png", "b"), ("sub/a.png", "a-2")):
        assert call(capsys, file, *WORDS, "--out", "one", "--overwrite", "-q")[0] == 0
        assert {path.name for path in Path("all", name).iterdir()} == {
            path.name for path in Path("one").iterdir()
        }
        ours, theirs = (
            json.loads(Path(folder, "config.json").read_text()) for folder in (f"all/{name}", "one")
        )
        assert ours == theirs
        np.testing.assert_allclose(
            coordfit.load(f"all/{name}").render(), coordfit.load("one").render(), atol=2e-5
        )


def test_rows_are_printed_as_they_finish_and_kept(photos, capsys):
    code, out, _ = call(capsys, "*.png", "c.tif", *WORDS, "--out", "all", "--no-progress")
    lines = out.splitlines()
    assert code == 1
    assert lines[0].split() == ["name", "size", "psnr", "ssim", "seconds", "file"]
    assert [line.split()[:2] for line in lines[1:-1]] == [["a", "20x24"], ["b", "20x24"], ["c", "28x24"]]
    with Path("all/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stopped"] for row in rows] == ["steps", "steps", "failed", "steps"]
    assert float(rows[0]["psnr"]) == json.loads(Path("all/a/metrics.json").read_text())["psnr"]


def test_json_is_one_document(photos, capsys):
    code, out, _ = call(capsys, ".", *WORDS, "--out", "all", "--json")
    document = json.loads(out)
    assert code == 1
    assert [row["name"] for row in document["rows"]] == ["a", "b", "broken", "c"]
    assert list(document["failed"]) == ["broken"]


def test_resume_skips_what_is_finished_and_goes_on_with_the_rest(photos, capsys, batches):
    assert call(capsys, *photos, *WORDS, "--out", "all", "-q")[0] == 1
    for name in ("checkpoint.safetensors", "model.safetensors", "metrics.json"):
        Path("all/b", name).unlink()  # as after a power cut
    before = [Path("all", name, "model.safetensors").stat() for name in ("a", "a-2", "c")]
    batches.clear()
    coordfit.save_picture("broken.png", pixels(9))
    code, out, _ = call(capsys, *photos, *WORDS, "--out", "all", "--resume", "--no-progress")
    assert code == 0
    assert batches == [2]  # b and the one that was broken
    after = [Path("all", name, "model.safetensors").stat() for name in ("a", "a-2", "c")]
    assert [file.st_mtime_ns for file in after] == [file.st_mtime_ns for file in before]
    assert [line.split()[0] for line in sorted(out.splitlines()[1:-1])] == ["a", "a-2", "b", "broken", "c"]
    batches.clear()
    more = [*WORDS, "--steps", 30]
    assert call(capsys, *photos, *more, "--out", "all", "--resume", "-q")[0] == 0
    assert batches == [1] * 5  # each from its own checkpoint
    assert json.loads(Path("all/c/metrics.json").read_text())["steps"] == 30


def test_a_signal_ends_it_and_what_is_finished_is_kept(photos, capsys, monkeypatch):
    from coordfit.cli.commands import fit_pictures

    class Interrupting(fit_pictures.ProgressReport):
        def __call__(self, progress):
            if progress.step and Path("all/c").exists():
                os.kill(os.getpid(), signal.SIGINT)

    words = [*photos[:2], "c.tif", *WORDS, "--steps", 3000, "--out", "all", "--no-progress"]
    with monkeypatch.context() as patch:
        patch.setattr(fit_pictures, "ProgressReport", Interrupting)
        patch.setattr("coordfit.cli.interrupts.PATIENCE", 600)
        code, out, err = call(capsys, *words)
    assert code == 130
    assert err.endswith("go on with --resume --out all and the same words\n")
    assert [line.split()[0] for line in out.splitlines()] == ["name", "a", "b", "all"]
    code, out, _ = call(capsys, *words, "--resume")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["name", "a", "b", "c", "all"])


def test_pictures_keep_their_names_when_others_come(photos, capsys):
    call(capsys, "sub/a.png", "b.png", *WORDS, "--out", "all", "-q")
    assert call(capsys, "a.png", "b.png", "sub/a.png", *WORDS, "--out", "all", "--resume", "-q")[0] == 0
    paths = json.loads(Path("all/pictures.json").read_text())
    assert {name: Path(path).relative_to(Path.cwd()).as_posix() for name, path in paths.items()} == {
        "a": "sub/a.png",
        "b": "b.png",
        "a-2": "a.png",
    }


def test_what_is_there_is_not_lost(photos):
    coordfit.fit_many(photos[:2], out="all", **SMALL, **MACHINE)
    with pytest.raises(OutputError, match="overwrite=True"):
        coordfit.fit_many(photos[:2], out="all", **SMALL, **MACHINE)
    Path("all/pictures.json").write_text('{"../../evil": "a.png"}')
    with pytest.raises(OutputError, match=r"pictures\.json cannot be read"):
        coordfit.fit_many(photos[:2], out="all", resume=True, **SMALL, **MACHINE)
    fits = coordfit.fit_many(photos[:3], out="all", overwrite=True, **SMALL, **MACHINE)
    assert (len(fits), list(fits.failed)) == (2, ["broken"])


def test_large_pictures_are_functions_of_few_bits_one_after_another(tmp_path, batches):
    large = [pixels(n, 257, 256) for n in range(2)]
    told = []
    coordfit.fit_many(large, out=tmp_path / "all", callback=lambda p: told.append(p.steps) or True)
    assert batches == []
    assert {path.name for path in (tmp_path / "all/picture").iterdir()} >= {"model.cfc.checkpoint"}
    assert not (tmp_path / "all/picture-2").exists()


# -- names and words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Straße 7", "Straße_7"),
        ("../../etc", "_.._etc"),
        ("con", "_con"),
        ("COM1.old", "_COM1.old"),
        ("-rf", "_-rf"),
        ("a\nb:c*", "a_b_c_"),
        ("...", "picture"),
        ("x" * 300, "x" * 80),
    ],
)
def test_names_are_safe(name, safe):
    assert safe_name(name) == safe
    assert safe_name(safe) == safe


def test_names_differ_on_file_systems_without_case():
    assert unique_names(["a.png", "x/A.png", "a-2.png", "a.jpg"]) == ["a", "A-2", "a-2-2", "a-3"]


def test_folders_and_patterns_are_resolved(photos):
    assert picture_files(["*.png", "sub"]) == [
        Path(name) for name in ("a.png", "b.png", "broken.png", "sub/a.png")
    ]
    assert picture_files(["**/a.png"]) == [Path("a.png"), Path("sub/a.png")]
    assert picture_files(["a.png", "a.png"]) == [Path("a.png")]
    Path("odd[1].png").write_bytes(Path("a.png").read_bytes())
    assert picture_files(["odd[1].png"]) == [Path("odd[1].png")]
    Path("empty").mkdir()
    for nothing in ("empty", "*.gif"):
        with pytest.raises(PictureError, match="there is no picture in"):
            picture_files([nothing])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--animate", "x.gif"], 2, "one picture"),
        (["--hidden-size", "0"], 2, "hidden_size"),
        (["--resume"], 2, "--resume needs --out"),
    ],
)
def test_what_is_wrong_for_all_is_said_once(photos, capsys, words, code, said):
    found, out, err = call(capsys, "a.png", "b.png", *words)
    assert (found, out, len(err.splitlines())) == (code, "", 1)
    assert said in err


def test_a_setting_that_is_wrong_raises():
    with pytest.raises(ConfigError, match="hidden_size"):
        coordfit.fit_many([pixels(0)], hidden_size=0)
    with pytest.raises(ConfigError, match="need out"):
        coordfit.fit_many([pixels(0)], resume=True)
