"""What a machine may lack: tests skip then, or fail if `COORDFIT_REQUIRE` names it.

So a machine that is there for its compiler or its libraries cannot pass by skipping.
"""

import os
import sys

import pytest

KNOWN = {
    "packaging": "hatchling and the repository, for the wheel",
    "cublaslt": "a cublasLt library, for the numbers of its attributes",
    "kernels": "g++, which runs the CUDA kernels on the CPU",
    "tsan": "ThreadSanitizer beside it",
    "cupy": "the real CuPy, for its names and what it says without a driver",
    "nvrtc": "NVRTC, which compiles the kernels for GPUs",
    "dask": "Dask's local cluster, an executor of other processes",
}
REQUIRED = {name.strip() for name in os.environ.get("COORDFIT_REQUIRE", "").split(",")} - {""}

if unknown := REQUIRED - set(KNOWN):
    raise pytest.UsageError(f"COORDFIT_REQUIRE names {sorted(unknown)}; known: {', '.join(KNOWN)}")


def skip(need, reason):
    """Skip a test for what this machine lacks; fail it where COORDFIT_REQUIRE names that."""
    if need in REQUIRED:
        pytest.fail(f"COORDFIT_REQUIRE asks for {need}: {reason}")
    pytest.skip(reason)


def file_name(name):
    """The name, or a skip where the locale has no letters for it."""
    try:
        name.encode(sys.getfilesystemencoding())
    except UnicodeEncodeError:
        pytest.skip(f"file names are {sys.getfilesystemencoding()} here")
    return name
