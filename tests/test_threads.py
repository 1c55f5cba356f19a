"""Public objects from many threads at once: results are those of one thread, and no setting is left behind."""

import concurrent.futures
import contextlib
import functools
import os
import random
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import threadpoolctl
from coordfit.backends.numpy_backend.blas_threads import ONE_BLAS_THREAD, blas_libraries
from PIL import Image
from support.cases import slow

import coordfit
from coordfit.backends import get_backend
from coordfit.images import bundled_picture, load_picture

THREADS = 16
SETTINGS = {"num_frequencies": 8, "sigma": 3.0, "hidden_size": 32, "depth": 3, "batch_size": 128, "steps": 20}


@pytest.fixture(params=["numpy", "numba"])
def device(request):
    if request.param == "numba":
        pytest.importorskip("numba")
    return request.param


def make_model(device, **options):
    return coordfit.fit(bundled_picture(32).pixels, device=device, threads=2, **(SETTINGS | options)).model


def settings_of_the_process():
    return {
        "BLAS threads": [library.get_num_threads() for library in blas_libraries().lib_controllers],
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "floating point": np.geterr(),
    }


@contextlib.contextmanager
def nothing_is_left_behind():
    before, threads = settings_of_the_process(), threading.active_count()
    yield
    assert settings_of_the_process() == before
    assert threading.active_count() == threads


def in_threads(calls, count=THREADS):
    """The results of calls, in their order, from threads that begin together."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return [future.result(timeout=120) for future in [pool.submit(call) for call in calls]]


def test_a_model_is_drawn_by_many_threads_at_once(device):
    model = make_model(device, hidden_size=64)
    sizes = [(side, side + 8) for side in (40, 96, 160, 250)]
    wanted = {size: model.render(*size) for size in sizes}
    points = np.random.default_rng(0).uniform(size=(1000, 2))
    at_points = model(points)
    with nothing_is_left_behind():
        drawn = in_threads([functools.partial(model.render, *size) for size in sizes * THREADS])
        coloured = in_threads([lambda: model(points)] * THREADS)
    for size, found in zip(sizes * THREADS, drawn, strict=True):
        np.testing.assert_array_equal(found, wanted[size])
    assert all(np.array_equal(found, at_points) for found in coloured)


def jobs(device):
    """Calls of every kind, each with a result that can be compared."""
    picture = bundled_picture(32).pixels
    common = {"device": device, "threads": 2} | SETTINGS
    tiled = {"device": device, "threads": 2, "hidden_size": 8, "num_frequencies": 8, "steps": 5}
    model = make_model(device)

    def swept():
        table = coordfit.sweep(picture, **common | {"sigma": [1.0, 3.0]})
        return np.array([row["psnr"] for row in table.rows])

    return {
        "fit": lambda: coordfit.fit(picture, **common).reconstruction,
        "fit of all pixels": lambda: coordfit.fit(picture, **common | {"batch_size": None}).reconstruction,
        "fit in closed form": lambda: coordfit.fit(picture, polish="ridge", **common).reconstruction,
        "gauss-newton": lambda: (
            coordfit.fit(
                picture, **common | {"optimizer": "gauss-newton", "batch_size": None, "steps": 2}
            ).reconstruction
        ),
        "tiles": lambda: coordfit.fit(picture, tiles=8, **tiled).reconstruction,
        "render": lambda: model.render(70, 90),
        "sweep": swept,
        "inpaint": lambda: coordfit.inpaint(picture, missing=0.5, **common).reconstruction,
    }


@pytest.mark.parametrize("device", ["numba", *slow("numpy")], indirect=True)
def test_fits_sweeps_and_inpaintings_overlap(device):
    calls = jobs(device)
    wanted = {
        name: call() for name, call in calls.items()
    }  # libraries that are imported here set what they like
    with nothing_is_left_behind():
        names = list(calls) * 4
        random.Random(0).shuffle(names)
        found = in_threads([calls[name] for name in names])
    unequal = {n for n, r in zip(names, found, strict=True) if not np.array_equal(r, wanted[n])}
    assert not unequal


def test_a_fit_in_a_callback_of_a_fit_changes_neither(device):
    calls, inner = jobs(device), []

    def callback(progress):
        if progress.step == 20:
            inner.extend(in_threads([calls["fit"]], 1))
            inner.append(calls["fit"]())

    outer = coordfit.fit(
        bundled_picture(32).pixels, device=device, threads=2, callback=callback, evaluate_every=5, **SETTINGS
    )
    alone = calls["fit"]()
    assert len(inner) == 2
    assert all(np.array_equal(found, alone) for found in (outer.reconstruction, *inner))


def test_pictures_are_read_by_many_threads_at_once(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    Image.fromarray(levels).convert("P").save(tmp_path / "b.gif")
    names = [tmp_path / name for name in ("a.png", "b.gif")] * 4 * THREADS
    alone = [load_picture(name).levels for name in names[:2]]
    with nothing_is_left_behind():
        found = in_threads([functools.partial(load_picture, name) for name in names])
    assert all(np.array_equal(p.levels, alone[i % 2]) for i, p in enumerate(found))


def test_blas_threads_come_back_in_whatever_order_they_are_left():
    before = settings_of_the_process()
    first, second = (ONE_BLAS_THREAD.held(blas_libraries().lib_controllers) for _ in range(2))
    first.__enter__()
    in_threads([second.__enter__], 1)
    first.__exit__(None, None, None)
    assert set(settings_of_the_process()["BLAS threads"]) == {1}
    in_threads([lambda: second.__exit__(None, None, None)], 1)
    assert settings_of_the_process() == before


def test_a_thread_that_does_not_steer_the_blas_computes_with_one_thread_too():
    # For threadpoolctl this thread is the one that may set them from now on.
    threadpoolctl.threadpool_limits(2).restore_original_limits()
    seen = []

    def look():
        with get_backend("numpy", threads=2).activate():
            seen.extend(settings_of_the_process()["BLAS threads"])

    in_threads([look], 1)
    assert set(seen) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_process_that_is_forked_in_the_middle_of_a_fit_computes_the_same(device):
    call = jobs(device)["fit"]
    wanted, codes = call(), []

    def callback(progress):
        if progress.step != 10:
            return
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                code = 0 if np.array_equal(call(), wanted) else 2
            os._exit(code)
        deadline = time.monotonic() + 60
        done = (0, 0)
        while done[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
            done = os.waitpid(child, os.WNOHANG)
        if done[0] == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        codes.append(os.waitstatus_to_exitcode(done[1]) if done[0] else "it hangs")

    outer = coordfit.fit(
        bundled_picture(32).pixels, device=device, threads=2, callback=callback, evaluate_every=5, **SETTINGS
    )
    assert codes == [0]
    np.testing.assert_array_equal(outer.reconstruction, wanted)


def test_a_model_on_a_gpu_is_drawn_by_many_threads_one_after_the_other(monkeypatch):
    fake_cupy = pytest.importorskip("support.fake_cupy")
    if reason := fake_cupy.why_unavailable():
        pytest.skip(reason)
    monkeypatch.setattr(fake_cupy, "machine", fake_cupy.Machine())
    backend = fake_cupy.CupyOnHost()
    inside, most = [], []

    def work():
        with backend.activate(), backend.activate():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    in_threads([work] * THREADS)
    assert set(most) == {1}
