"""One `backend` fixture over every backend of support/backend_matrix.py, and one table of tolerances."""

import contextlib
import os
import signal
from dataclasses import dataclass

import hypothesis
import numpy as np
import pytest
from support import backend_matrix

from coordfit.backends import Backend, available_backends, get_backend

STRICT_ARITHMETIC = "COORDFIT_STRICT_ARITHMETIC" in os.environ

# Of one primitive against its float64 oracle, relative to the largest element (or to 1, if that is more):
# the elements of a product are sums that may cancel, and their error goes with what was summed.
TOLERANCES = {"float32": 4e-6, "float64": 2e-14}

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def compiled_code(request):
    """Numba's code is on disk before the first test: commands say it where they have to compile."""
    of_gpu = all(item.get_closest_marker("gpu") for item in request.session.items)
    if not of_gpu and not available_backends()["numba"]:
        backend = get_backend("numba", threads=1)
        if backend.preparation:
            row = np.zeros((1, 1), np.float32)
            backend.take_rows(row, np.zeros(1, np.int64))


@pytest.fixture(autouse=True)
def arithmetic():
    """With COORDFIT_STRICT_ARITHMETIC, overflow, division by zero and invalid results are errors.

    But inside a backend's steps, which may diverge, and for underflow, which rounds to the right result.
    """
    with np.errstate(all="raise", under="ignore") if STRICT_ARITHMETIC else contextlib.nullcontext():
        yield


def pytest_configure(config):
    backend_matrix.check_required()
    if not os.access(config.rootpath, os.W_OK):  # nowhere to keep examples that failed: no reason to fail
        hypothesis.settings.register_profile("read-only", database=None)
        hypothesis.settings.load_profile("read-only")


def pytest_terminal_summary(terminalreporter):
    for reason in dict.fromkeys(backend_matrix.LEFT_OUT.values()):
        names = [name for name, why in backend_matrix.LEFT_OUT.items() if why == reason]
        terminalreporter.write_line(f"LEFT OUT {', '.join(names)}: {reason}")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    """Mark what runs on a device as `gpu`: not what pretends one. `gpu_smoke` is left to those in float32."""
    for item in items:
        chosen = item.callspec.params if hasattr(item, "callspec") else {}
        is_on_device = chosen.get("idle_backend") == "cupy"
        if is_on_device:
            item.add_marker(pytest.mark.gpu)
        if not is_on_device or chosen.get("dtype") == "float64":
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "gpu_smoke"]


@pytest.fixture(params=backend_matrix.CHOSEN)
def idle_backend(request):
    """Every backend in turn, not activated."""
    return backend_matrix.make_or_skip(request.param)


@pytest.fixture
def backend(idle_backend):
    """Every backend in turn, activated for the test."""
    with idle_backend.activate():
        yield idle_backend


@pytest.fixture(params=TOLERANCES)
def dtype(request):
    return request.param


@dataclass
class Check:
    """Assertions about arrays of one backend and dtype."""

    backend: Backend
    dtype: str

    def lives_on_backend(self, array):
        """The array is of the backend's own library, and on its device."""
        library = type(array).__module__.partition(".")[0]
        own = self.backend.xp.__name__.removeprefix("array_api_compat.")
        assert library == own.partition(".")[0], f"an array of {library}, not of {own}"
        if hasattr(array, "device"):
            assert array.device == self.backend.zeros((), self.dtype).device

    def like(self, array, shape):
        """The array lives on the backend and has the dtype and this shape."""
        self.lives_on_backend(array)
        assert array.shape == tuple(shape)
        assert array.dtype == self.backend.dtype(self.dtype)

    def close(self, array, expected):
        """The array agrees with a host array in shape, in the dtype asked for and, to tolerance, in value."""
        assert isinstance(expected, (np.ndarray, np.generic)), "what is expected must be on the host"
        self.like(array, expected.shape)
        bound = TOLERANCES[self.dtype] * max(1.0, np.max(np.abs(expected), initial=0.0))
        np.testing.assert_allclose(self.backend.to_numpy(array), expected, rtol=0.0, atol=bound)

    def equal(self, array, expected):
        """The array agrees with a host array bit by bit."""
        assert isinstance(expected, (np.ndarray, np.generic)), "what is expected must be on the host"
        self.like(array, expected.shape)
        np.testing.assert_array_equal(self.backend.to_numpy(array), expected)


@pytest.fixture
def check(backend, dtype):
    return Check(backend, dtype)
