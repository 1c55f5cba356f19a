"""The cache of compiled code is never stale, never of another type, and never ends a run."""

import errno
import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordfit import backends
from coordfit.network.activations import Sine

pytest.importorskip("numba", reason="Numba is not installed")
cache = importlib.import_module("coordfit.backends.numba_backend.compiled.cache")

INNER = "@jit\ndef inner(x):\n    return x * {}\n"
# It holds the code of another file, as the interpreter's loop holds that of all primitives.
OUTER = "from inner import inner\n\n@jit\ndef outer(x):\n    return inner(x) + 1\n"


class Program:
    """Two sources and their cache; `run` imports them and calls the function, as a new process would."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.cache, self.monkeypatch = folder, folder / "__pycache__", monkeypatch
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        self.write("inner", INNER.format(10))
        self.write("outer", OUTER)
        monkeypatch.setattr(cache, "sources", lambda: sorted(folder.glob("*.py")))

    def write(self, name, text):
        (self.folder / f"{name}.py").write_text(
            f"from coordfit.backends.numba_backend.compiled.addresses import jit\n{text}"
        )

    def run(self, number=1):
        """Return the function's result, and the number of cache hits."""
        cache.version.cache_clear()
        importlib.invalidate_caches()
        for name in ("inner", "outer"):
            self.monkeypatch.delitem(sys.modules, name, raising=False)
        outer = importlib.import_module("outer").outer
        return outer(number), sum(outer.stats.cache_hits.values())

    def files(self, suffix):
        return [path for path in self.cache.glob("outer.outer-*") if path.suffix == suffix]


@pytest.fixture
def program(tmp_path, monkeypatch):
    yield Program(tmp_path, monkeypatch)
    cache.version.cache_clear()


def test_code_is_found_again_for_each_type(program):
    assert program.run() == (11, 0)
    assert program.run() == (11, 1)
    assert program.run(0.5) == (6.0, 0)
    assert program.run(0.5) == (6.0, 1)


def test_a_change_of_another_file_that_is_compiled_in_is_seen(program):
    program.run()
    program.write("inner", INNER.format(20))
    assert program.run() == (21, 0)
    assert program.run() == (21, 1)
    assert len(program.files(".nbi")) == len(program.files(".nbc")) == 1  # those of the old source are gone


def test_every_file_that_compiles_counts():
    folder = Path(backends.__file__).parent
    compiling = {path for path in folder.rglob("*.py") if "@jit" in path.read_text(encoding="utf-8")}
    assert len(compiling) > 5
    assert compiling <= set(cache.sources())


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [b"", b"\x80\x04\x95", b"no pickle"])
def test_a_damaged_file_is_made_anew(program, suffix, left):
    program.run()
    (file,) = program.files(suffix)
    file.write_bytes(left)
    assert program.run() == (11, 0)
    assert program.run() == (11, 1)


def test_code_of_another_type_is_not_taken(program):
    """Two processes that compile for two types may write into one file; the later one remains."""
    program.run(1)
    (whole,) = program.files(".nbc")
    program.run(0.5)
    (real,) = {*program.files(".nbc")} - {whole}
    real.write_bytes(whole.read_bytes())
    assert program.run(0.5) == (6.0, 0)


def test_a_full_disk_is_no_reason_to_fail(program, monkeypatch):
    @contextmanager
    def full(self, path):
        raise OSError(errno.ENOSPC, "No space left on device", path)
        yield

    monkeypatch.setattr(cache.caching.IndexDataCacheFile, "_open_for_write", full)
    assert program.run() == (11, 0)
    assert program.run() == (11, 0)


def test_nowhere_to_write_is_no_reason_to_fail(program, monkeypatch, tmp_path):
    program.cache.touch()  # a file in the place of the folder
    monkeypatch.setenv("XDG_CACHE_HOME", str(program.cache / "no"))
    assert program.run() == (11, 0)
    assert program.run() == (11, 0)
    assert program.cache.is_file()


# -- kernels of formulas ---------------------------------------------------------------------------------


def compiled_kernel():
    """Return the kernel of a formula as a new process gets it."""
    kernels = importlib.import_module("coordfit.backends.numba_backend.compiled.kernels")
    text = kernels.backward_text(kernels.lowered_activation(Sine()).formula, "float32")
    return kernels._compiled.__wrapped__(text, 6)


def test_a_kernel_is_compiled_once_for_all_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert compiled_kernel()._cache_hits == 0
    assert compiled_kernel()._cache_hits == 1
    (source,) = (tmp_path / "coordfit" / "formulas").glob("*.py")
    source.write_text("raise SystemExit")  # the file only names the place of the code: it is never run
    assert compiled_kernel().address


def test_a_kernel_needs_no_place_to_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kernel = compiled_kernel()
    assert kernel._cache_hits == 0
    assert kernel.address
