"""Any executor gives what this process gives: of comparisons, tiles, many pictures; `test_sweep` has sweeps."""

import pickle
import re
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from support import needs

import coordfit
from coordfit.errors import ConfigError
from coordfit.executors import finished

HERE = {"device": "numpy", "threads": 1}
SMALL = HERE | {"hidden_size": 8, "depth": 2, "num_frequencies": 8, "steps": 6, "batch_size": 64}


class Pickling(Executor):
    """Runs tasks at once in this process, with what goes in and comes out pickled, and counts bytes."""

    def __init__(self):
        self.sent, self.returned = [], []

    def submit(self, function, /, *arguments, **options):
        task = pickle.dumps((function, arguments, options))
        self.sent.append(len(task))
        function, arguments, options = pickle.loads(task)
        future = Future()
        try:
            answer = pickle.dumps(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
            return future
        self.returned.append(len(answer))
        future.set_result(pickle.loads(answer))
        return future


def pictures(count=3, side=24):
    rng = np.random.default_rng(4)
    return [np.kron(rng.random((side // 8, side // 8, 3)), np.ones((8, 8, 1))) for _ in range(count)]


def the_fit(executor, **options):
    picture = coordfit.load_picture(coordfit.bundled_picture(32))
    return coordfit.fit(picture, tiles=8, steps=20, executor=executor, **(HERE | options))


TASKS = {
    "compare": lambda executor: {
        name: result.reconstruction
        for name, result in coordfit.compare(
            pictures(1)[0], encodings=["none", "basic"], executor=executor, **SMALL
        ).results.items()
    },
    "fit_many": lambda executor: {
        str(k): result.reconstruction
        for k, result in enumerate(coordfit.fit_many(pictures(), executor=executor, **SMALL))
    },
    "tiles": lambda executor: {"": the_fit(executor).reconstruction},
    "tiles to a target": lambda executor: {"": the_fit(executor, target_psnr=32).reconstruction},
    "tiles of an array": lambda executor: {
        "": coordfit.fit_array(
            np.sin(np.arange(256) / 9.0), "t", tiles=32, steps=8, executor=executor, **HERE
        ).reconstruction
    },
}


@pytest.mark.parametrize("task", TASKS)
def test_an_executor_gives_what_this_process_gives(task):
    executor = Pickling()
    there, here = TASKS[task](executor), TASKS[task](None)
    assert executor.sent
    assert there.keys() == here.keys()
    for name, wanted in here.items():
        np.testing.assert_array_equal(there[name], wanted)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_pools_take_tiles_in_any_order(monkeypatch, pool):
    monkeypatch.setattr("coordfit.tiles.fit.TASK_TILES", 3)
    options = {"mp_context": get_context("spawn")} if pool is ProcessPoolExecutor else {}
    steps = []
    with pool(2, **options) as executor:
        there = the_fit(executor, callback=lambda progress: steps.append(progress.step))
    # A target is for the mean of the tiles that are trained together: without one, chunks change nothing.
    np.testing.assert_allclose(there.reconstruction, the_fit(None).reconstruction, atol=1e-5)
    assert steps == [3, 6, 9, 12, 15, 16]
    assert there.metrics["tiles"] == 16
    assert there.metrics["steps"] == 20


def test_tiles_on_an_executor_stop_and_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr("coordfit.tiles.fit.TASK_TILES", 3)
    monkeypatch.setattr("coordfit.executors.MOST_WAITING", 2)
    executor = Pickling()
    begun = the_fit(executor, out=tmp_path / "run", callback=lambda progress: progress.step >= 6)
    assert begun.stopped == "interrupted"
    assert len(executor.sent) == 2
    again = Pickling()
    done = the_fit(again, out=tmp_path / "run", resume=True)
    assert len(again.sent) == 4
    np.testing.assert_array_equal(done.reconstruction, the_fit(Pickling()).reconstruction)


def test_many_pictures_on_an_executor_write_folders_and_tell_failures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k, picture in enumerate(pictures(2)):
        coordfit.save_picture(f"{k}.png", picture)
    (tmp_path / "2.png").write_text("no picture")
    told = []
    fits = coordfit.fit_many(
        ["0.png", "1.png", "2.png"],
        out="all",
        executor=Pickling(),
        on_result=lambda name, result: told.append(name),
        **SMALL,
    )
    assert told == ["0", "1"]
    assert list(fits.failed) == ["2"]
    assert fits.table["stopped"].count("steps") == 2
    assert (tmp_path / "all" / "1" / "model.safetensors").exists()
    assert (tmp_path / "all" / "1" / "history.csv").exists()


ON_128 = {"steps": 1, **HERE}
TOLD = {
    "sweep": lambda executor, _: coordfit.sweep(
        coordfit.bundled_picture(), sigma=[1, 3, 10], loss=["mse", "mae"], executor=executor, **ON_128
    ),
    "compare": lambda executor, _: coordfit.compare(coordfit.bundled_picture(), executor=executor, **ON_128),
    "fit_many": lambda executor, file: coordfit.fit_many([file], executor=executor, **ON_128),
    "fit": lambda executor, _: coordfit.fit(
        np.random.default_rng(0).random((184, 184, 3)), tiles=8, executor=executor, **ON_128
    ),
}
PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "clusters.md"


@pytest.mark.parametrize("call", TOLD)
def test_the_page_tells_the_bytes_of_a_task(call, tmp_path):
    """Its cells have the least and the most of a call, or the most alone."""
    [row] = re.findall(rf"^\| `{call}` .*\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    coordfit.save_picture(tmp_path / "picture.png", coordfit.bundled_picture().pixels)
    executor = Pickling()
    TOLD[call](executor, tmp_path / "picture.png")
    for cell, counts in zip(row.split("|")[3:5], (executor.sent, executor.returned), strict=True):
        *low, high, unit = re.match(r" (?:([\d.]+) to )?([\d.]+) ([kM])B", cell).groups()
        scale = {"k": 1e3, "M": 1e6}[unit]
        assert max(counts) == pytest.approx(float(high) * scale, rel=0.15, abs=700)
        if low[0]:
            assert min(counts) == pytest.approx(float(low[0]) * scale, rel=0.15, abs=700)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "executor trains tiles"), ({"tiles": 8, "seconds": 1.0}, "seconds is no budget of tiles on an exec")],
)
def test_what_an_executor_cannot_do_is_refused(options, reason):
    with pytest.raises(ConfigError, match=reason):
        coordfit.fit(pictures(1)[0], executor=Pickling(), **options, **HERE)


def test_an_error_of_a_task_is_raised_and_cancels_the_others():
    class Failing(Executor):
        futures = ()

        def submit(self, function, /, *arguments):
            self.futures += (Future(),)
            if len(self.futures) == 2:
                self.futures[1].set_exception(ValueError("of the second"))
            return self.futures[-1]

    executor = Failing()
    with pytest.raises(ValueError, match="of the second"):
        list(finished(executor, abs, [(-1,), (-2,), (-3,)]))
    assert [future.cancelled() for future in executor.futures] == [True, False, True]


def test_no_more_tasks_wait_than_memory_should_hold(monkeypatch):
    monkeypatch.setattr("coordfit.executors.MOST_WAITING", 2)
    drawn = []
    tasks = ((drawn.append(k) or -k,) for k in range(5))
    answers = finished(Pickling(), abs, tasks)
    next(answers)
    assert drawn == [0, 1]
    assert [number for number, _ in answers] == [1, 2, 3, 4]
    assert drawn == [0, 1, 2, 3, 4]


def test_a_dask_cluster_takes_tiles_and_pictures():
    distributed = needs.library("distributed", "dask")
    words = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**words) as cluster, distributed.Client(cluster) as client:
        executor = client.get_executor(pure=False)
        for task in ("tiles", "fit_many"):
            there, here = TASKS[task](executor), TASKS[task](None)
            for name, wanted in here.items():
                np.testing.assert_allclose(there[name], wanted, atol=1e-5)
