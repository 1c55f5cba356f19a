"""Fixtures of the kernels' tests: the compiled kernels, and memory with guards around it."""

import numpy as np
import pytest
import simt
from support import needs


@pytest.fixture(scope="session")
def shim(request, tmp_path_factory):
    """All kernels, compiled by g++ and kept in pytest's cache between runs, by a hash of their sources."""
    if reason := simt.why_no_compiler():
        needs.skip("kernels", reason)
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("coordfit-kernels") if cache else tmp_path_factory.mktemp("kernels")
    shim = simt.Shim(folder)
    shim.compile_all()
    return shim


@pytest.fixture
def launch(shim):
    """Launches kernels by name on NumPy arrays."""
    yield simt.launcher(shim)
    shim.with_threads = shim.backwards = False


@pytest.fixture
def memory():
    memory = simt.Memory()
    yield memory
    memory.check()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=simt.DTYPES)
def stored(request):
    """Every type in which numbers are stored."""
    return request.param


CASES = [("float", 1, 1), ("float", 3, 0), ("double", 3, 1), ("bf16", 3, 1), ("half", 3, 0)]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    """(stored type, K, own): one member; three with their own operands; three that share them (own is 0)."""
    return request.param
