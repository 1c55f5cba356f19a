"""The backends that tests run on: all that can run here, and those that `COORDFIT_REQUIRE_BACKENDS` names.

What a library that is not installed, or a GPU that is not there, would only skip is not collected. A backend
that is named and cannot run fails its tests, so that a machine bought for its GPU cannot pass by skipping.
"""

import os

import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend

from coordfit.backends import DeviceUnavailableError, available_backends, get_backend

REQUIRE = "COORDFIT_REQUIRE_BACKENDS"
REQUIRED = {name.strip() for name in os.environ.get(REQUIRE, "").split(",")} - {""}


def make_strict():
    pytest.importorskip("array_api_strict", exc_type=ImportError)
    from support.strict_backend import StrictBackend

    return StrictBackend()


def make_numba_without_blas():
    backend = get_backend("numba", threads=1)
    backend.host.gemm = None  # as where no name of the BLAS's products is known
    return backend


def make_cupy_on_host():
    from support import fake_cupy

    if reason := fake_cupy.why_unavailable():
        pytest.skip(reason)
    return fake_cupy.CupyOnHost()


def maker_of(name):
    return lambda: get_backend(name)


MAKERS = {
    "numpy": lambda: NumpyBackend(threads=1),
    "numpy-2-threads": lambda: NumpyBackend(threads=2),
    "numba-2-threads": lambda: get_backend("numba", threads=2),
    "numpy-generic": lambda: NumpyBackend(fused="never"),
    "numba-without-blas": make_numba_without_blas,
    "strict": make_strict,
    "cupy-on-host": make_cupy_on_host,
} | {name: maker_of(name) for name in available_backends() if name != "numpy"}

LIBRARIES = {"numba-2-threads": "numba", "numba-without-blas": "numba"}
MISSING = {library: reason for library, reason in available_backends().items() if reason}
LEFT_OUT = {
    name: MISSING[LIBRARIES.get(name, name)]
    for name in MAKERS
    if LIBRARIES.get(name, name) in MISSING and name not in REQUIRED
}
CHOSEN = [name for name in MAKERS if name not in LEFT_OUT]


def check_required():
    """A name that is not known is an error, not a passed test."""
    if unknown := sorted(REQUIRED - set(MAKERS)):
        raise pytest.UsageError(f"{REQUIRE} names unknown backends {unknown}; known: {', '.join(MAKERS)}")


def on(*names):
    """Run a test on these backends, and on a GPU if there is one; NumPy stands in for a missing Numba."""
    instead = {"numba": "numpy"} if "numba" in LEFT_OUT else {}
    chosen = dict.fromkeys(instead.get(name, name) for name in (*names, "cupy"))
    return pytest.mark.parametrize("idle_backend", [n for n in chosen if n not in LEFT_OUT], indirect=True)


def make_or_skip(name):
    """A new backend of that name; skips the test where it cannot run, or fails it where it must."""
    try:
        return MAKERS[name]()
    except (DeviceUnavailableError, pytest.skip.Exception) as reason:
        if name in REQUIRED:
            pytest.fail(f"{REQUIRE} asks for {name!r}, which cannot run here: {reason}")
        pytest.skip(str(reason))
