"""Skip tests for parts that a machine lacks, or fail them if `COORDFIT_REQUIRE` names the part.

So a machine that is used for its compiler or its libraries cannot pass by skipping.
"""

import importlib
import os
import sys

import pytest

KNOWN = {
    "packaging": "hatchling, its plugin and the repository, for the wheel",
    "cublaslt": "a cublasLt library, for the numbers of its attributes",
    "kernels": "g++, which runs the CUDA kernels on the CPU",
    "tsan": "ThreadSanitizer beside it",
    "cupy": "the real CuPy, for its names and what it says without a driver",
    "nvrtc": "NVRTC, which compiles the kernels for GPUs",
    "docs": "Sphinx and its extensions, for the site of the documentation",
    "dask": "Dask's local cluster, an executor of other processes",
    "torch": "PyTorch, which computes the same steps and gradients",
    "jax": "JAX, which finds the same derivatives",
}
REQUIRED = {name.strip() for name in os.environ.get("COORDFIT_REQUIRE", "").split(",")} - {""}

if unknown := REQUIRED - set(KNOWN):
    raise pytest.UsageError(f"COORDFIT_REQUIRE names {sorted(unknown)}; known: {', '.join(KNOWN)}")


def skip(need, reason):
    """Skip a test for a missing part, or fail it if COORDFIT_REQUIRE names the part."""
    if need in REQUIRED:
        pytest.fail(f"COORDFIT_REQUIRE asks for {need}: {reason}")
    pytest.skip(reason)


def library(name, need=None):
    """Return a library that a test needs; `need` is its part in `KNOWN` if that has another name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        return skip(need or name, f"{name} is not installed ({error})")


def file_name(name):
    """Return the name, or skip if the locale has no letters for it."""
    try:
        name.encode(sys.getfilesystemencoding())
    except UnicodeEncodeError:
        pytest.skip(f"file names are {sys.getfilesystemencoding()} here")
    return name
