"""Sweeps and comparisons: every combination once, in batches, with rows that survive."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import pytest
from PIL import Image
from support import needs

import coordfit
from coordfit.cli import main
from coordfit.config import make_config
from coordfit.encoders.registry import ENCODINGS
from coordfit.errors import ConfigError, CoordfitError
from coordfit.images import bundled_picture
from coordfit.tasks.compare import jobs_for
from coordfit.tasks.folders.sweep_folder import SweepFolder
from coordfit.tasks.jobs.settings import Device, Settings
from coordfit.tasks.sweep import FIGURES, execute, plan_sweep
from coordfit.tiles.plan import TileOptions

SMALL = {"steps": 6, "num_frequencies": 4, "hidden_size": 8, "depth": 2, "batch_size": 64}
WORDS = [
    "--size",
    "32",
    "--steps",
    "6",
    "--num-frequencies",
    "4",
    "--hidden-size",
    "8",
    "--batch-size",
    "64",
    "--no-progress",
]


@pytest.fixture(scope="module")
def cat():
    return bundled_picture(32)


# -- from Python ---------------------------------------------------------------------------------------------


def test_a_sweep_has_a_row_for_every_combination(cat):
    table = coordfit.sweep(
        cat,
        device="numpy",
        threads=1,
        sigma=[1.0, 4.0],
        loss=["mse", "mae"],
        depth=[2, 3],
        **{name: value for name, value in SMALL.items() if name != "depth"},
    )
    assert table.columns == ("picture", "sigma", "loss", "depth", *FIGURES)
    assert {(r["sigma"], r["loss"], r["depth"]) for r in table} == {
        (s, name, d) for s in (1.0, 4.0) for name in ("mse", "mae") for d in (2, 3)
    }
    assert table["psnr"] == sorted(table["psnr"], reverse=True)
    assert set(table["networks"]) == {4}  # two depths, each one batch of four
    for row in table:
        options = SMALL | {name: row[name] for name in ("sigma", "loss", "depth")}
        alone = coordfit.fit(cat, device="numpy", threads=1, **options)
        assert row["psnr"] == pytest.approx(alone.metrics["psnr"], abs=1e-3)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_each_row_comes_with_its_model(cat, elsewhere):
    models = {}
    with ThreadPoolExecutor(1) as pool:
        table = coordfit.sweep(
            cat,
            device="numpy",
            executor=pool if elsewhere else None,
            on_model=lambda row, model: models.update({(row["loss"], row["depth"]): model}),
            loss=["mse", "mae"],
            **SMALL | {"depth": [2, 3]},
        )
    assert len(table) == len(models) == 4
    for row in table:
        rendered = models[row["loss"], row["depth"]].render()
        assert coordfit.psnr(rendered, cat.pixels) == pytest.approx(row["psnr"], abs=1e-6)


def test_several_pictures_are_one_batch(cat):
    pictures = [coordfit.load_picture(pixels) for pixels in (cat.pixels.copy(), cat.pixels[::-1].copy())]
    table = coordfit.sweep(pictures, device="numpy", sigma=[1.0, 2.0], **SMALL)
    assert set(table["networks"]) == {4}


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_any_executor_takes_the_groups(cat, pool):
    varied = {"depth": [2, 3], "sigma": [1.0, 2.0]}
    runs = plan_sweep([cat], [SMALL], varied)
    here = {run.key: outcome.row["psnr"] for run, outcome in execute(runs, Device("numpy", 1))}
    options = {"mp_context": get_context("spawn")} if pool is ProcessPoolExecutor else {}
    with pool(2, **options) as executor:
        there = {
            run.key: outcome.row["psnr"]
            for run, outcome in execute(runs, Device("numpy", 1), executor=executor)
        }
    assert there == here
    assert len(there) == 4


@pytest.mark.parametrize("moment", ["handed over", "done"])
def test_a_process_that_was_killed_is_told(cat, moment):
    class Broken(Executor):
        def submit(self, function, *arguments):
            if moment == "handed over":
                raise BrokenProcessPool
            future = Future()
            future.set_exception(BrokenProcessPool())
            return future

    runs = plan_sweep([cat], [SMALL], {"depth": [2, 3]})
    with pytest.raises(CoordfitError, match="a process of the executor was killed"):
        list(execute(runs, Device("numpy", 1), executor=Broken()))


def test_a_dask_cluster_takes_the_groups(cat):
    distributed = needs.library("distributed", "dask")
    options = SMALL | {"depth": [2, 3], "sigma": [1.0, 2.0], "device": "numpy", "threads": 1}
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = coordfit.sweep(cat, executor=client.get_executor(pure=False), **options)
    here = coordfit.sweep(cat, **options)
    assert sorted(map(_figures, there)) == sorted(map(_figures, here))
    assert set(there["networks"]) == {2}  # two depths, each one batch of two


def _figures(row):
    return row["depth"], row["sigma"], row["psnr"]


def test_impossible_sweeps_are_refused(cat):
    for varied, message in [
        ({"sigma": []}, "sigma was given no value"),
        ({"sigma": [1.0, 1.0]}, "sigma has a value twice"),
        ({"loss": ["mse", "msf"]}, "loss must be one of mse, mae, huber.*, not 'msf'"),
        ({"sigmo": [1, 2]}, "unknown option 'sigmo'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            plan_sweep([cat], [SMALL], varied)


def test_keys_tell_runs_apart(cat):
    runs = plan_sweep([cat], [SMALL], {"sigma": [1.0, 2.0], "seed": [0, 1]})
    assert len({run.key for run in runs}) == 4
    assert [run.key for run in plan_sweep([cat], [SMALL], {"sigma": [1.0], "seed": [0]})] == [runs[0].key]


def names_of_all(*gaussian):
    """The names of all encodings, with these networks in the place of the Gaussian one."""
    lists = ([*gaussian] if name == "gaussian" else [name] for name in ENCODINGS)
    return [name for names in lists for name in names]


def test_compare_trains_all_encodings_as_one_batch(cat):
    comparison = coordfit.compare(cat, device="numpy", train_on="every-second", sigmas=[1.0, 5.0], **SMALL)
    assert list(comparison.results) == names_of_all("gaussian 1", "gaussian 5")
    together = {name: result.metrics["networks"] for name, result in comparison.results.items()}
    for name in [name for name, encoding in ENCODINGS.items() if encoding.learns]:
        assert together.pop(name) == 1  # it learns its features, and is a batch of its own
    assert set(together.values()) == {len(together)}
    assert comparison.table["encoding"] == list(comparison.results)
    image = comparison.picture_of_all()
    assert min(image.size) > 200
    assert comparison._repr_png_().startswith(b"\x89PNG")


def test_compare_shows_a_sigma_too_small_one_right_and_one_too_large(cat):
    jobs = jobs_for(cat, Settings(), TileOptions(), ["none", "gaussian"], None)
    assert {name: job.config.resolved_sigma for name, job in jobs.items() if name != "none"} == {
        "gaussian 2": 2.0,
        "gaussian 10": 10.0,
        "gaussian 50": 50.0,
    }


# -- the folder ----------------------------------------------------------------------------------------------


def test_rows_survive_and_half_a_line_does_not(tmp_path):
    config = make_config(SMALL)
    with SweepFolder(tmp_path, keep=False) as folder:
        folder.append("a", {"psnr": 1.0}, config)
        folder.append("b", {"psnr": float("inf")}, config)
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b'{"key": "c", "row": {"ps')
    with SweepFolder(tmp_path, keep=True) as folder:
        assert list(folder.rows) == ["a", "b"]
        folder.append("d", {"psnr": 2.0}, config)
    assert [json.loads(line)["key"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == [
        "a",
        "b",
        "d",
    ]
    with SweepFolder(tmp_path, keep=False) as folder:
        assert not folder.rows


def test_a_row_is_on_disk_when_it_is_appended(tmp_path, monkeypatch):
    on_disk = []
    with SweepFolder(tmp_path, keep=False) as folder:
        monkeypatch.setattr("os.fsync", lambda descriptor: on_disk.append(folder.rows_file.read_text()))
        for key in ("a", "b"):
            folder.append(key, {"psnr": 1.0}, make_config(SMALL))
            assert on_disk[-1] == folder.rows_file.read_text()
    assert [text.count("\n") for text in on_disk] == [1, 2]


# -- the command line ----------------------------------------------------------------------------------------


def test_sweep_writes_a_table_and_goes_on(tmp_path, capsys):
    out = str(tmp_path / "s")
    assert main(["sweep", *WORDS, "--sigma", "1,4", "--depth", "2,3", "--out", out, "--models"]) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[-1] == out
    assert {p.name for p in (tmp_path / "s").iterdir()} >= {
        "rows.jsonl", "metrics.json", "table.csv", "table.md", "heat_map.svg", "models"
    }  # fmt: skip
    models = sorted((tmp_path / "s" / "models").iterdir())
    assert len(models) == 4
    assert coordfit.load(models[0], device="numpy").render(8, 8).shape == (8, 8, 3)

    before = (tmp_path / "s" / "rows.jsonl").read_text()
    assert main(["sweep", *WORDS, "--sigma", "1,4", "--depth", "2,3", "--out", out]) == 1  # a run is there
    capsys.readouterr()
    assert (
        main(["sweep", *WORDS, "--sigma", "1,4,9", "--depth", "2,3", "--out", out, "--resume", "--json"]) == 0
    )
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 6
    assert (tmp_path / "s" / "rows.jsonl").read_text().startswith(before)  # finished rows stay


def test_a_sweep_says_which_sigma_was_chosen(tmp_path, capsys):
    assert main(["sweep", *WORDS, "--sigma", "1,auto", "--seed", "1,2", "--out", str(tmp_path / "s")]) == 0
    said = capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "s" / "rows.jsonl").read_text().splitlines()]
    chosen = {row["config"]["sigma"] for row in rows if row["row"]["sigma"] == "auto"}
    assert len(chosen) == 1  # once for all seeds
    assert said.count("sigma auto: ") == said.count("for chelsea") == 1
    assert f"sigma auto: {chosen.pop():g} for chelsea" in said


def test_sweep_refuses_what_it_cannot_do(tmp_path, capsys):
    out = ["--out", str(tmp_path / "no")]
    for words, code, message in [
        ([*out, "--sigma", "1,x"], 2, "argument --sigma"),
        ([*out, "--sigma", "1,2", "--sort-by", "beauty"], 2, "--sort-by must be one of"),
        ([*out, "--encoding", "none,nine"], 2, "encoding must be one of"),
        ([*out, "--nesterov", "perhaps"], 2, "neither true nor false"),
        (["--resume"], 2, "--resume needs --out"),
        ([*out, "no-such.png"], 1, "no-such.png"),
    ]:
        assert main(["sweep", *WORDS, *words]) == code
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["compare", "--encoding", "basic,gaussian"], ["sweep", "--sigma", "1,2"]])
def test_a_printed_table_has_figures_of_held_out_pixels_only_if_some_are(tmp_path, capsys, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "200")
    for train_on, are_shown in (("all", False), ("every-second", True)):
        out = tmp_path / train_on
        assert main([*words, *WORDS, "--train-on", train_on, "--out", str(out)]) == 0
        printed = capsys.readouterr().out.split()
        assert "psnr" in printed
        assert ("psnr_train" in printed) == ("psnr_held_out" in printed) == are_shown
    if words[0] == "sweep":
        header = (tmp_path / "all" / "table.csv").read_text().splitlines()[0].split(",")
        assert {"psnr_train", "psnr_held_out"} <= set(header)


def test_compare_writes_pictures_and_figures(tmp_path, capsys):
    out = tmp_path / "c"
    animation = tmp_path / "film.png"
    assert (
        main(["compare", *WORDS, "--sigma", "1,4", "--out", str(out), "--json", "--animate", str(animation)])
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert list(document["results"]) == names_of_all("gaussian 1", "gaussian 4")
    with Image.open(animation) as animation:
        assert animation.n_frames > 3
    for name in ("comparison.png", "curves.svg", "metrics.json", "model-gaussian-4.safetensors"):
        assert (out / name).stat().st_size > 0
    assert main(["compare", *WORDS, "--encoding", "none,nine", "--out", str(out)]) == 2
    assert "encoding must be one of" in capsys.readouterr().err


def test_compare_tells_the_sigma_that_was_chosen(tmp_path, capsys):
    assert (
        main(["compare", *WORDS, "--encoding", "basic,gaussian", "--sigma", "auto,1", "--out", str(tmp_path)])
        == 0
    )
    out, err = capsys.readouterr()
    chosen = json.loads((tmp_path / "config.json").read_text())["gaussian auto"]["sigma"]
    assert f"sigma auto: {chosen:g}\n" in err
    assert f"gaussian auto  {chosen:>5.4g} " in out


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupted_sweep_keeps_finished_rows(tmp_path):
    words = [
        "--size",
        "32",
        "--hidden-size",
        "8",
        "--num-frequencies",
        "4",
        "--device",
        "numpy",
        "--threads",
        "1",
    ]
    sweep = [sys.executable, "-m", "coordfit", "sweep", *words, "--steps", "3000", "--depth", "2,3,4,5"]
    process = subprocess.Popen(
        [*sweep, "--out", str(tmp_path)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    rows = tmp_path / "rows.jsonl"
    deadline = time.monotonic() + 60
    while not (rows.exists() and rows.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    kept = [json.loads(line)["row"]["depth"] for line in rows.read_text().splitlines()]
    assert 1 <= len(kept) < 4
    assert all(json.loads(line)["row"]["stopped"] == "steps" for line in rows.read_text().splitlines())


def test_a_sweep_runs_on_the_library_that_was_named():
    from argparse import Namespace

    from coordfit.backends.numpy_backend.backend import NumpyBackend

    from coordfit.cli.commands.sweep import _device

    backend = NumpyBackend(threads=4)
    assert _device(Namespace(threads=None, jobs=1, fused="auto"), backend) == Device("numpy", None, "auto")
    assert _device(Namespace(threads=None, jobs=2, fused="never"), backend) == Device("numpy", 2, "never")
    assert _device(Namespace(threads=3, jobs=2, fused="auto"), backend) == Device("numpy", 3, "auto")
