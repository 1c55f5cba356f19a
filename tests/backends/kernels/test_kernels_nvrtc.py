"""Every kernel compiles for every architecture with NVIDIA's compiler, which needs no GPU; none spills.

`COORDFIT_REQUIRE=nvrtc` turns the skip where there is no NVRTC into a failure.
"""

import ctypes
import ctypes.util
import importlib.util
import itertools
import os
import re
from pathlib import Path

import pytest
import simt
from coordfit.backends.cupy_backend.kernels import FILES, KERNELS, OPTIONS, source
from support import needs

pytestmark = pytest.mark.slow

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
ALL_INSTANCES_ON = 90  # elsewhere the first and the last of each kernel, to be done in seconds


def libraries():
    """Yield possible paths of NVRTC: in wheels of any CUDA version, then in a toolkit."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec else ():
        for pattern in ("*/lib/libnvrtc.so.[0-9]*", "*/bin/**/nvrtc64*_0.dll"):
            yield from sorted(map(str, Path(folder).glob(pattern)), reverse=True)
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        if root := os.environ.get(variable):
            yield from map(str, Path(root).glob("lib64/libnvrtc.so.[0-9]*"))
    if name := ctypes.util.find_library("nvrtc"):
        yield name


class Nvrtc:
    """The few calls of NVRTC that compile a text."""

    def __init__(self, library):
        self.library = library
        count = ctypes.c_int()
        self._check(library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        found = (ctypes.c_int * count.value)()
        self._check(library.nvrtcGetSupportedArchs(found))
        self.architectures = [a for a in ARCHITECTURES if a in set(found)]

    @staticmethod
    def _check(code):
        assert code == 0, f"NVRTC returns {code}"

    def compile(self, text, expressions, options):
        """Return whether a text compiles, and the log."""
        nvrtc, program, size = self.library, ctypes.c_void_p(), ctypes.c_size_t()
        self._check(
            nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
        )
        try:
            for expression in expressions:
                self._check(nvrtc.nvrtcAddNameExpression(program, expression.encode()))
            words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            code = nvrtc.nvrtcCompileProgram(program, len(options), words)
            self._check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
            log = ctypes.create_string_buffer(size.value)
            self._check(nvrtc.nvrtcGetProgramLog(program, log))
        finally:
            nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
        return code == 0, log.value.decode()


@pytest.fixture(scope="module")
def nvrtc():
    for path in libraries():
        try:
            # The wheel of CUDA 13.0 does not look for these beside itself.
            for builtins in Path(path).parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))
            return Nvrtc(ctypes.CDLL(path))
        except OSError:
            continue
    return needs.skip("nvrtc", "NVRTC is not installed (pip install nvidia-cuda-nvrtc)")


FORMULAS = [*simt.ACTIVATIONS, *simt.LOSSES, *simt.RULES, *itertools.chain(*simt.OUTSIDE)]


def expressions_of(file, every):
    """Return all instances and every formula, or the first and last of each kernel."""
    found = []
    for kernel in (kernel for kernel in KERNELS.values() if kernel.file == file):
        own = [
            kernel.expression(i, fs)
            for i in kernel.instances
            for n, fs in enumerate(simt.formulas_of(kernel.name, i))
            # Every formula in double, which takes the most registers, and one in the other types.
            if n == 0 or (i[0] == "double" and kernel.name != "head_step")
        ]
        found += own if every else dict.fromkeys((own[0], own[-1]))
    return found


def options(architecture):
    # What CuPy adds, and the report of ptxas.
    return (
        *OPTIONS,
        f"-arch=sm_{architecture}",
        "-ftz=true",
        "--device-as-default-execution-space",
        "--ptxas-options=-v",
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_source_compiles_and_keeps_its_registers(nvrtc, architecture):
    if architecture not in nvrtc.architectures:
        pytest.skip(f"this NVRTC knows no sm_{architecture}")
    for file in FILES:
        expressions = expressions_of(file, architecture == ALL_INSTANCES_ON)
        compiled, log = nvrtc.compile(source(file, FORMULAS), expressions, options(architecture))
        assert compiled, log
        assert not re.search(r"\b(warning|error)\b", log), log
        spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
        assert len(spilled) >= len(expressions), log
        assert set(spilled) == {("0", "0")}, log


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__global__ void k(float* x) { x[0] = y; }", '"y" is undefined'),
        ("__global__ void k(float* x) { int unused; }", "warning"),
    ],
)
def test_the_compiler_tells_what_is_wrong(nvrtc, text, said):
    _, log = nvrtc.compile(text, ["k"], options(nvrtc.architectures[0]))
    assert said in log


def test_spills_are_seen_where_there_are_some(nvrtc):
    text = """__global__ void __launch_bounds__(1024) k(float* x) {
        float v[200];
        #pragma unroll
        for (int i = 0; i < 200; i++) v[i] = x[i];
        #pragma unroll
        for (int i = 0; i < 200; i++) x[i] = v[i] * v[199 - i];
    }"""
    _, log = nvrtc.compile(text, ["k"], options(nvrtc.architectures[-1]))
    assert re.search(r"[1-9]\d* bytes spill stores", log), log
