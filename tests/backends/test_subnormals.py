"""A CPU backend computes without subnormal numbers, which take processors a hundred times longer."""

import platform
import sys
import threading

import numpy as np
import pytest
from coordfit.backends.numpy_backend import host, subnormals
from support import needs

import coordfit

TINY = np.float32(np.finfo(np.float32).tiny)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="subnormals are flushed on Linux with x86-64 alone",
)


def halves():
    """Halves of the smallest normal numbers, as a result and as an operand."""
    numbers = np.full(16, TINY)
    with np.errstate(under="ignore"):
        return float((numbers * np.float32(0.5)).max()), float((np.full(16, TINY / 2) * np.float32(2.0)).max())


OFF, ON = (float(TINY) / 2, float(TINY)), (0.0, 0.0)


def test_they_are_flushed_in_every_thread_that_computes_and_in_no_other():
    seen, others, is_active = {}, [], threading.Event()
    backend = host.Host(threads=3)
    together = threading.Barrier(3, timeout=60)

    def look(number):
        together.wait()  # so that each thread takes one
        seen[number] = halves(), threading.get_ident()

    outside = threading.Thread(target=lambda: (is_active.wait(60), others.append(halves())))
    outside.start()
    with backend.activate():
        is_active.set()
        outside.join()
        backend.run_workers([lambda k=k: look(k) for k in range(3)])
    assert [found for found, _ in seen.values()] == [ON] * 3
    assert len({thread for _, thread in seen.values()}) == 3
    assert [*others, halves()] == [OFF, OFF]


def test_the_setting_is_restored_after_nested_blocks_and_errors():
    with subnormals.flushed():
        with subnormals.flushed():
            assert halves() == ON
        assert halves() == ON
    assert halves() == OFF

    def fail():
        with subnormals.flushed():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert halves() == OFF


@pytest.mark.parametrize("device", ["numpy", "numba"])
def test_units_that_no_pixel_activates_leave_none_in_the_optimizer(device, monkeypatch):
    """Their momentum halves at each step; without the setting the fit is the same, but for such numbers."""
    if device == "numba":
        needs.library("numba")
    options = {"encoding": "none", "hidden_size": 32, "depth": 3, "batch_size": 64, "steps": 220, "seed": 3}
    options |= {"optimizer": "adam", "beta1": 0.5, "device": device, "threads": 1}
    picture = np.random.default_rng(0).random((16, 16, 3))
    flushed = coordfit.fit(picture, **options)
    monkeypatch.setattr(subnormals, "_exchange", lambda: None)
    left = coordfit.fit(picture, **options)
    counts = [count_subnormals(result.learned.optimizer["first_moment"]) for result in (flushed, left)]
    assert counts[0] == 0
    assert counts[1] > 0  # the test would see them
    np.testing.assert_allclose(flushed.reconstruction, left.reconstruction, rtol=0, atol=1e-6)


def count_subnormals(numbers):
    return np.count_nonzero((numbers != 0) & (np.abs(numbers) < TINY))
