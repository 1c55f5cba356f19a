"""Device words, the fallback of `auto`, and every reason for a missing GPU, with a pretended CuPy."""

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from coordfit.backends.cupy_backend import why_unavailable
from coordfit.backends.cupy_backend.backend import CupyBackend
from coordfit.backends.cupy_backend.checks import CHECKS
from coordfit.backends.numpy_backend.backend import NumpyBackend
from coordfit.backends.numpy_backend.host_cores import limits, usable_cores
from support import needs

from coordfit.backends import DeviceUnavailableError, available_backends, get_backend
from coordfit.backends import get_backend as get_backend_through_the_guard

TESTS = Path(__file__).parents[1]


class CUDARuntimeError(RuntimeError):
    """As CuPy's: an error code and its text."""


class CompileException(Exception):  # noqa: N818 - CuPy's name
    """As CuPy's: no RuntimeError."""


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


class PretendedArray(np.ndarray):
    """NumPy's array under another name."""


def pretended_cupy(names=("NVIDIA H200", "NVIDIA A100"), driver=13000, built=12090, local=12080):
    """A module that answers like CuPy on a machine with these GPUs, and logs its calls."""
    log = []

    class Logged:
        def __init__(self, name):
            self.name = name
            log.append(f"make {name}")

        def __enter__(self):
            log.append(f"enter {self.name}")
            return self

        def __exit__(self, *error):
            log.append(f"leave {self.name}")

        def synchronize(self):
            log.append(f"wait for {self.name}")

    def properties(index):
        return {"name": names[index].encode(), "major": 9, "minor": 0, "totalGlobalMem": 141 << 30}

    runtime = types.SimpleNamespace(
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: built,
        getDeviceCount=lambda: len(names),
        getDeviceProperties=properties,
    )
    cupy = types.ModuleType("cupy")
    cupy.__version__, cupy.ndarray, cupy.log = "14.2.0", PretendedArray, log
    cupy.float32, cupy.float64 = np.float32, np.float64
    cupy.asarray = lambda a, dtype=None: np.asarray(a, dtype).view(PretendedArray)
    cupy.asnumpy = lambda a: np.array(a)
    cupy.zeros = cupy.empty = lambda shape, dtype: np.zeros(shape, dtype).view(PretendedArray)
    cupy.matmul = np.matmul
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(used_bytes=lambda: 512)
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime,
        get_local_runtime_version=lambda: local,
        Device=lambda index: Logged(f"device {index}"),
        Stream=lambda non_blocking: Logged(f"stream non_blocking={non_blocking}"),
        compiler=types.SimpleNamespace(CompileException=CompileException),
    )
    return cupy


@pytest.fixture
def put_cupy(monkeypatch):
    """Make `import cupy` find a pretended CuPy, without variables of the environment."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def put(cupy):
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        return cupy

    return put


@pytest.fixture
def no_cupy(put_cupy):
    put_cupy(None)


def raises(error):
    def function(*args, **kwargs):
        raise error

    return function


# -- words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["cpu", "numpy"])
def test_words_for_the_cpu(word):
    backend = get_backend(word, threads=3, fused="never")
    assert isinstance(backend, NumpyBackend)
    assert (backend.device, backend.threads, backend.fused) == ("cpu", 3, "never")
    assert backend.fallback_reason is None
    assert get_backend(word).threads == usable_cores()


@pytest.mark.parametrize(
    "word", ["gpu", "cuda", "cupy", "gpu:0", "cuda:0", "cupy:0", "gpu:1", "cuda:1", "cupy:1"]
)
def test_words_for_a_gpu(put_cupy, word):
    put_cupy(pretended_cupy())
    backend = get_backend(word, fused="never")
    assert isinstance(backend, CupyBackend)
    assert backend.device == f"gpu:{int(word.endswith('1'))}"
    assert backend.fused == "never"


WRONG_WORDS = [
    "",
    "GPU",
    "tpu",
    "gpu:",
    "gpu:-1",
    "gpu:x",
    "gpu: 1",
    "gpu:1 ",
    "gpu:1\n",
    "gpu1",
    "cpu:0",
    "auto:0",
]


@pytest.mark.parametrize("word", [*WRONG_WORDS, "numpy:1", "gpu:1000", "gpu:\N{ARABIC-INDIC DIGIT ONE}"])
def test_words_that_are_none(word):
    with pytest.raises(ValueError, match=r"unknown device .*; use one of: auto, cpu, numpy, numba, gpu, gpu:N"):
        get_backend(word)


@pytest.mark.parametrize("word", ["gpu", "auto"])
def test_a_precision_is_handed_to_the_gpu_and_told(put_cupy, word):
    put_cupy(pretended_cupy())
    assert get_backend(word).describe()["precision"] == "float32"
    assert get_backend(word, precision="tf32").describe()["precision"] == "tf32"


@pytest.mark.parametrize("word", ["gpu", "auto", "cpu"])
def test_an_unknown_precision_is_refused(word):
    with pytest.raises(ValueError, match="precision must be one of float32, tf32, bf16, fp16, not 'int8'"):
        get_backend(word, precision="int8")


@pytest.mark.parametrize("threads", [0, -1])
@pytest.mark.parametrize("word", ["auto", "cpu", "gpu"])
def test_threads_below_one_are_refused(word, threads):
    with pytest.raises(ValueError, match=f"threads must be 1 or more, not {threads}"):
        get_backend(word, threads=threads)


@pytest.mark.parametrize("word", ["auto", "cpu"])
def test_an_unknown_fused_mode_is_refused(no_cupy, word):
    with pytest.raises(ValueError, match="fused must be one of auto, always, never, not 'perhaps'"):
        get_backend(word, fused="perhaps")


def test_the_door_gives_the_same_function():
    assert get_backend_through_the_guard is get_backend


# -- auto, gpu and the list ------------------------------------------------------------------------------


def test_auto_takes_the_gpu_where_one_answers(put_cupy):
    put_cupy(pretended_cupy())
    backend = get_backend("auto", threads=2)
    assert backend.device == "gpu:0"
    assert backend.fallback_reason is None
    assert list(available_backends()) == ["numpy", "numba", "cupy", "torch"]
    assert available_backends()["cupy"] == ""


def test_auto_falls_back_and_keeps_the_reason(no_cupy):
    backend = get_backend("auto", threads=2, fused="never")
    assert (backend.device, backend.threads, backend.fused) == ("cpu", 2, "never")
    assert backend.fallback_reason.startswith("CuPy is not installed")
    assert available_backends()["cupy"] == backend.fallback_reason


@pytest.mark.parametrize("installed", [True, False])
def test_the_cpu_has_compiled_loops_where_numba_is_installed(monkeypatch, no_cupy, installed):
    reason = "" if installed else "Numba is not installed"
    monkeypatch.setattr("coordfit.backends.numba_backend.why_unavailable", lambda index=0: reason)
    if installed:
        pytest.importorskip("numba")
    expected = "numba" if installed else "numpy"
    assert [get_backend(word).name for word in ("cpu", "auto")] == [expected, expected]
    assert get_backend("numpy").name == "numpy"
    if not installed:
        with pytest.raises(DeviceUnavailableError, match="Numba is not installed"):
            get_backend("numba")


CGROUPS = {
    "version 2": ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "250000 100000\n"}, 3),
    "a group above": ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 1),
    "version 1": (
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/c\n",
            "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    "no quota": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, None),
    "nonsense": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "-1 0\n"}, None),
}


@pytest.mark.parametrize("case", CGROUPS)
def test_a_containers_quota_is_a_limit(tmp_path, case):
    files, cores = CGROUPS[case]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = [count for count, source in limits(tmp_path) if "quota" in source]
    assert found == ([] if cores is None else [cores])


@pytest.mark.parametrize(
    ("name", "value", "cores"),
    [
        *(("OMP_NUM_THREADS", "1", 1), ("OMP_NUM_THREADS", "1,4", 1), ("PYTHON_CPU_COUNT", "1", 1)),
        *(
            ("OMP_NUM_THREADS", "0", None),
            ("PYTHON_CPU_COUNT", "default", None),
            ("OMP_NUM_THREADS", "100000", None),
        ),
    ],
)
def test_variables_of_the_environment_are_limits(monkeypatch, name, value, cores):
    for variable in ("OMP_NUM_THREADS", "PYTHON_CPU_COUNT"):
        monkeypatch.delenv(variable, raising=False)
    before = usable_cores()
    monkeypatch.setenv(name, value)
    assert usable_cores() == (cores or before)
    facts = get_backend("numpy").describe()
    assert (facts["cores"], facts["threads"]) == (cores or before, cores or before)
    assert (facts["cores_by"] == name) == (cores is not None and before > 1)


@pytest.mark.parametrize("error", ["ImportError", "SystemError"])
def test_a_numba_that_cannot_be_imported_leaves_numpy(tmp_path, error):
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(f"raise {error}('Numba needs NumPy 2.3 or less')")
    program = (
        "from coordfit import backends; print(backends.get_backend('cpu').name); backends.get_backend('numba')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "numpy\n", done.stderr
    said = (
        "Numba is installed but cannot be imported: Numba needs NumPy 2.3 or less; try: pip install --upgrade"
    )
    assert said in done.stderr


def test_a_gpu_that_is_not_there_is_never_replaced(put_cupy):
    put_cupy(pretended_cupy(names=()))
    for word in ("gpu", "cuda:0", "cupy"):
        with pytest.raises(DeviceUnavailableError, match="shows no GPU"):
            get_backend(word)


# -- the reasons -----------------------------------------------------------------------------------------


def broken_count(text):
    cupy = pretended_cupy()
    cupy.cuda.runtime.getDeviceCount = raises(CUDARuntimeError(text))
    return cupy


def broken_kernel(error):
    cupy = pretended_cupy()
    cupy.asarray = raises(error)
    return cupy


def broken_product(product):
    cupy = pretended_cupy()
    cupy.matmul = product
    return cupy


def silent_driver():
    cupy = pretended_cupy()
    cupy.cuda.runtime.driverGetVersion = raises(CUDARuntimeError("cudaErrorSystemDriverMismatch: 803"))
    return cupy


def another_module():
    other = types.ModuleType("cupy")
    other.__file__ = "/somewhere/cupy.py"
    return other


def wrong_sum():
    cupy = pretended_cupy()
    cupy.asarray = lambda a, dtype=None: np.zeros_like(a)
    return cupy


CUDA12, CUDA13 = r"pip install 'coordfit\[cuda12\]'", r"pip install 'coordfit\[cuda13\]'"
# What is wrong: the CuPy that shows it, and what the line must say, in this order.
FAULTS = {
    "not CuPy": (another_module, ["/somewhere/cupy.py", "not CuPy", CUDA12]),
    "no driver": (lambda: pretended_cupy(driver=0), ["no NVIDIA driver here", "nvidia-smi", "--device cpu"]),
    "silent driver": (silent_driver, ["driver does not answer", "cudaErrorSystemDriverMismatch", "nvidia-smi"]),
    "driver one major behind": (
        lambda: pretended_cupy(driver=12040, built=13020, local=13020),
        ["driver is too old", r"CUDA 12\.4", r"CUDA 13\.2", "update the driver", CUDA12],
    ),
    "driver far behind": (
        lambda: pretended_cupy(driver=11080),
        ["driver is too old", r"CUDA 11\.8", r"CUDA 12\.9", "update the driver$"],
    ),
    "toolkit of another major": (
        lambda: pretended_cupy(local=13000),
        [r"built for CUDA 12\.9", r"13\.0", CUDA12],
    ),
    "toolkit 12 for a CuPy 13": (
        lambda: pretended_cupy(built=13020, local=12080),
        [r"built for CUDA 13\.2", r"12\.8", CUDA13],
    ),
    "no device": (lambda: pretended_cupy(names=()), ["no GPU", "counts 0", "CUDA_VISIBLE_DEVICES", "not set"]),
    "no device, told by an error": (
        lambda: broken_count("cudaErrorNoDevice: no CUDA-capable device is detected"),
        ["no GPU", "cudaErrorNoDevice", "nvidia-smi", "CUDA_VISIBLE_DEVICES"],
    ),
    "kernel does not compile": (
        lambda: broken_kernel(CompileException("\n/tmp/x.cu(1): error: no\nsecond line")),
        [
            "gpu:0 cannot run a one-element kernel",
            r"/tmp/x\.cu\(1\): error: no \(",
            r"driver for CUDA 13\.0",
            CUDA12,
        ],
    ),
    "kernel lacks a library": (
        lambda: broken_kernel(ImportError("libnvrtc.so.12: cannot open shared object file")),
        ["one-element kernel", r"libnvrtc\.so\.12", CUDA12],
    ),
    "kernel fails": (
        lambda: broken_kernel(CUDARuntimeError("cudaErrorNoKernelImageForDevice: no kernel image")),
        ["one-element kernel", "cudaErrorNoKernelImageForDevice"],
    ),
    "kernel cache cannot be written": (
        lambda: broken_kernel(PermissionError(13, "Permission denied", "/home/nobody/.cupy")),
        ["one-element kernel", "Permission denied"],
    ),
    "kernel counts wrongly": (wrong_sum, ["one-element kernel", "result is wrong"]),
    "device is full": (
        lambda: broken_kernel(OutOfMemoryError("Out of memory allocating 512 bytes")),
        ["gpu:0 has no memory even for a one-element kernel", "Out of memory", "nvidia-smi"],
    ),
    "product lacks a library": (
        lambda: broken_product(raises(RuntimeError("cublas is not there"))),
        ["2x2 matrix product", "cublas is not there", CUDA12],
    ),
    "product is wrong": (lambda: broken_product(lambda a, b: a + b), ["2x2 matrix product", "wrong"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_line_and_cure(put_cupy, fault):
    make, parts = FAULTS[fault]
    put_cupy(make())
    with pytest.raises(DeviceUnavailableError, match="(?s)" + ".*".join(parts)) as raised:
        get_backend("gpu")
    assert "\n" not in str(raised.value)
    assert get_backend("auto").fallback_reason == str(raised.value)
    assert available_backends()["cupy"] == str(raised.value)


def test_every_check_has_a_fault_that_it_alone_tells(put_cupy):
    """Each check is the first to report some fault above, so none is useless."""
    first = {
        next(check for check in CHECKS if check(put_cupy(cupy), 0))
        for cupy in (make() for make, _ in FAULTS.values())
    }
    assert first == set(CHECKS)


@pytest.mark.parametrize(("driver", "built", "local"), [(12020, 12090, 12090), (13000, 12090, 12000)])
def test_versions_that_go_together(put_cupy, driver, built, local):
    put_cupy(pretended_cupy(driver=driver, built=built, local=local))
    assert why_unavailable() == ""


def test_a_runtime_library_that_is_not_found_is_left_to_the_kernel_to_tell(put_cupy):
    cupy = put_cupy(pretended_cupy())
    cupy.cuda.get_local_runtime_version = raises(RuntimeError("libcudart.so not found"))
    assert why_unavailable() == ""


@pytest.mark.parametrize("visible", [None, "", "0,1"])
def test_an_index_out_of_range_lists_what_is_there(put_cupy, monkeypatch, visible):
    put_cupy(pretended_cupy())
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    setting = "not set" if visible is None else repr(visible)
    expected = rf"no gpu:7; seen here: gpu:0 \(NVIDIA H200\), gpu:1 \(NVIDIA A100\); .*VISIBLE.* is {setting}$"
    with pytest.raises(DeviceUnavailableError, match=expected):
        get_backend("gpu:7")


BANNER = """
================================================================
Failed to import CuPy.

If you installed CuPy via wheels, make sure that the package matches.

Original error:
  ImportError: libcublas.so.12: cannot open shared object file
================================================================
"""


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (
            f"try:\n    raise ImportError('libcublas.so.12: no such file')\n"
            f"except ImportError as error:\n    raise ImportError({BANNER!r}) from error",
            [r"cannot be imported: Failed to import CuPy \(libcublas\.so\.12: no such file\)", CUDA12, CUDA13],
        ),
        ("import no_such_module_of_cupy", ["cannot be imported: No module named 'no_such_module_of_cupy'"]),
        ("raise ValueError('numpy.dtype size changed')", ["cannot be imported: numpy.dtype size changed"]),
        ("raise ImportError", ["cannot be imported: ImportError"]),
    ],
    ids=["banner", "missing part", "wrong NumPy", "no text"],
)
def test_a_cupy_that_does_not_import(monkeypatch, tmp_path, source, parts):
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text(source)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeviceUnavailableError, match=".*".join(parts)) as raised:
        get_backend("gpu")
    assert "\n" not in str(raised.value)


def test_no_cupy_names_both_extras(no_cupy):
    with pytest.raises(DeviceUnavailableError, match=f"CuPy is not installed.*{CUDA12}.*{CUDA13}"):
        get_backend("gpu:7")


@pytest.fixture
def real_cupy():
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        return needs.skip("cupy", f"CuPy is not installed ({error})")


def test_the_real_cupy_has_every_name_that_is_asked_of_it(real_cupy):
    sources = "".join(
        path.read_text()
        for folder in ("backends", "coordfit")
        for path in (Path(__file__).parents[2] / folder).rglob("*.py")
        if "compiled" not in path.parts
    )
    for pattern, owner in ((r"\bxp\.(\w+)", real_cupy), (r"\bcuda\.(\w+)", real_cupy.cuda)):
        asked = set(re.findall(pattern, sources)) - {"cuda", "bindings", "pathfinder"}
        assert len(asked) > 8
        assert sorted(name for name in asked if not hasattr(owner, name)) == []


def test_the_pretended_cupy_has_no_name_that_the_real_one_lacks(real_cupy):
    fake = importlib.import_module("support.fake_cupy")
    for kind in (fake.cuda.Stream, fake.cuda.Event, fake.cuda.Device, fake.cuda.MemoryPool, fake.ndarray):
        owner = getattr(real_cupy.cuda, kind.__name__, None) or getattr(real_cupy, kind.__name__)
        assert sorted(name for name in vars(kind) if name[0] != "_" and not hasattr(owner, name)) == []
    assert sorted(name for name in vars(fake.cuda) if not hasattr(real_cupy.cuda, name)) == []


def test_the_real_cupy_without_a_driver(real_cupy):
    if real_cupy.cuda.runtime.driverGetVersion() > 0:
        pytest.skip("there is a driver here")
    with pytest.raises(DeviceUnavailableError, match=r"^no NVIDIA driver here .*nvidia-smi"):
        get_backend("gpu")
    backend = get_backend("auto")
    assert backend.device == "cpu"
    assert backend.fallback_reason.startswith("no NVIDIA driver here")


# -- the CuPy backend on the pretended library -----------------------------------------------------------


def test_arrays_are_made_on_the_device_that_was_asked_for(put_cupy):
    cupy = put_cupy(pretended_cupy())
    backend = get_backend("gpu:1")
    for work in (
        lambda: backend.asarray([1.0, 2.0], "float32"),
        lambda: backend.zeros((2,), "float32"),
        lambda: backend.to_numpy(np.zeros(2)),
        backend.memory_in_use,
    ):
        cupy.log.clear()
        work()
        assert cupy.log == ["make device 1", "enter device 1", "leave device 1"]
    assert backend.asarray([1.0], "float32").dtype == np.float32
    assert isinstance(backend.zeros((2, 3), "float64"), PretendedArray)
    assert type(backend.to_numpy(backend.zeros((2,), "float32"))) is np.ndarray
    assert backend.memory_in_use() == 512
    assert isinstance(backend.scratch((2, 2), "float32"), PretendedArray)


def test_activate_waits_before_and_after_and_keeps_one_stream(put_cupy):
    cupy = put_cupy(pretended_cupy())
    backend = get_backend("gpu:1")
    cupy.log.clear()
    with contextlib.suppress(KeyError), backend.activate():
        cupy.log.append("work")
        raise KeyError
    stream = "stream non_blocking=True"
    assert [line for line in cupy.log if line != "make device 1"] == [
        *["enter device 1", "wait for device 1", f"make {stream}", f"enter {stream}", "work"],
        *[f"wait for {stream}", f"leave {stream}", "leave device 1"],
    ]
    with backend.activate(), backend.activate():
        pass
    assert cupy.log.count(f"make {stream}") == 1


def test_describe_names_the_gpu_and_the_versions(put_cupy):
    put_cupy(pretended_cupy())
    assert get_backend("gpu:1").describe() == {
        "backend": "cupy",
        "device": "gpu:1",
        "library": "14.2.0",
        "gpu": "NVIDIA A100",
        "compute_capability": "9.0",
        "total_memory": 141 << 30,
        "cuda_driver": "13.0",
        "cuda_runtime": "12.9",
        "precision": "float32",
    }


# -- the list of required backends -----------------------------------------------------------------------


def run_on_every_backend(folder, required):
    """Run a test that only uses the fixture, in a folder with this one's conftest."""
    shutil.copy(TESTS / "conftest.py", folder)
    (folder / "test_one.py").write_text("def test_one(backend): pass")
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"],
        cwd=folder,
        env=os.environ | {"COORDFIT_REQUIRE_BACKENDS": required, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_a_required_backend_that_is_not_known_is_an_error(tmp_path):
    result = run_on_every_backend(tmp_path, "numpy,cuda")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "COORDFIT_REQUIRE_BACKENDS names unknown backends ['cuda']" in result.stdout + result.stderr


@pytest.mark.very_slow
def test_a_required_backend_fails_where_others_skip(tmp_path):
    reason = why_unavailable()
    if not reason:
        pytest.skip("CuPy runs here, so that nothing can be missing")
    result = run_on_every_backend(tmp_path, "numpy, cupy")
    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    assert "COORDFIT_REQUIRE_BACKENDS asks for 'cupy', which cannot run here" in result.stdout
    assert run_on_every_backend(tmp_path, "numpy").returncode == pytest.ExitCode.OK
