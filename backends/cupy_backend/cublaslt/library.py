"""The functions of cublasLt through ctypes: finding the library, calling it, and its errors."""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

SUCCESS, ARCH_MISMATCH, NOT_SUPPORTED = 0, 8, 15


class CublasLtError(RuntimeError):
    """A call of cublasLt returned an error status."""

    def __init__(self, call: str, status: int, text: str) -> None:
        super().__init__(f"{call}: {text}")
        self.call = call
        self.status = status
        self.text = text


class CublasLtUnavailableError(RuntimeError):
    """No cublasLt library can be loaded; the message lists the attempts."""


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t, 64 opaque bytes."""

    _fields_ = [("data", ctypes.c_uint64 * 8)]


class HeuristicResult(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm and its bytes of workspace."""

    _fields_ = [
        ("algorithm", Algorithm),
        ("workspace_bytes", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]


_STATUS = ctypes.c_int
_POINTER = ctypes.c_void_p
_OUT = ctypes.POINTER(ctypes.c_void_p)
_SET = [_POINTER, ctypes.c_int, _POINTER, ctypes.c_size_t]

# Result type and argument types of each function.
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "cublasLtGetVersion": (ctypes.c_size_t, []),
    "cublasLtGetStatusName": (ctypes.c_char_p, [_STATUS]),
    "cublasLtGetStatusString": (ctypes.c_char_p, [_STATUS]),
    "cublasLtCreate": (_STATUS, [_OUT]),
    "cublasLtDestroy": (_STATUS, [_POINTER]),
    # compute type, scale type
    "cublasLtMatmulDescCreate": (_STATUS, [_OUT, ctypes.c_int, ctypes.c_int]),
    "cublasLtMatmulDescDestroy": (_STATUS, [_POINTER]),
    "cublasLtMatmulDescSetAttribute": (_STATUS, _SET),
    # element type, rows, columns, leading dimension
    "cublasLtMatrixLayoutCreate": (
        _STATUS,
        [_OUT, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64],
    ),
    "cublasLtMatrixLayoutDestroy": (_STATUS, [_POINTER]),
    "cublasLtMatrixLayoutSetAttribute": (_STATUS, _SET),
    "cublasLtMatmulPreferenceCreate": (_STATUS, [_OUT]),
    "cublasLtMatmulPreferenceDestroy": (_STATUS, [_POINTER]),
    "cublasLtMatmulPreferenceSetAttribute": (_STATUS, _SET),
    # handle, operation, layouts of A, B, C, D, preference, wanted count, results, found count
    "cublasLtMatmulAlgoGetHeuristic": (
        _STATUS,
        [_POINTER] * 7 + [ctypes.c_int, ctypes.POINTER(HeuristicResult), ctypes.POINTER(ctypes.c_int)],
    ),
    # algorithm, attribute, buffer for its value, bytes of the buffer, bytes written
    "cublasLtMatmulAlgoConfigGetAttribute": (
        _STATUS,
        [ctypes.POINTER(Algorithm), ctypes.c_int, _POINTER, ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t)],
    ),
    # handle, operation, alpha, A, layout, B, layout, beta, C, layout, D, layout,
    # algorithm, workspace, its bytes, stream
    "cublasLtMatmul": (
        _STATUS,
        [_POINTER] * 12 + [ctypes.POINTER(Algorithm), _POINTER, ctypes.c_size_t, _POINTER],
    ),
}


class Library:
    """The functions of one cublasLt with their C types: of a ctypes.CDLL, or of a fake."""

    def __init__(self, functions: Any, path: str = "") -> None:
        self.functions = functions
        self.path = path
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(functions, name)
            function.restype, function.argtypes = result, arguments

    @property
    def version(self) -> tuple[int, int, int]:
        """Version as (major, minor, patch); major is that of CUDA."""
        number = int(self.functions.cublasLtGetVersion())
        return number // 10_000, number // 100 % 100, number % 100

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function by its name; raise CublasLtError with the library's words if it fails."""
        if status := getattr(self.functions, name)(*arguments):
            raise self.error(name, status)

    def error(self, call: str, status: int, about: str = "") -> CublasLtError:
        """Return the error for a call's status; `about` ends the message."""
        return CublasLtError(call, status, self.status_text(status) + about)

    def status_text(self, status: int) -> str:
        """Return name, number and description of a status."""
        name, words = (
            (getattr(self.functions, f"cublasLtGetStatus{what}")(status) or b"unknown").decode(errors="replace")
            for what in ("Name", "String")
        )
        return f"{name} ({status}), {words}"


# -- finding the library ---------------------------------------------------------------------------------


def load(cuda_major: int | None = None) -> Library:
    """Load cublasLt from this process, by NVIDIA's finder, or from the system, in this order.

    Parameters
    ----------
    cuda_major : int, optional
        The major version of CUDA in this process; libraries of others are skipped.

    Raises
    ------
    CublasLtUnavailableError
        None can be loaded; the message has the reason of each attempt.
    """
    faults = []
    for place, open_library in _places(cuda_major):
        try:
            library = Library(*open_library())
        except (OSError, ImportError, AttributeError, RuntimeError) as error:
            faults.append(f"{place}: {(str(error).splitlines() or [type(error).__name__])[0]}")
            continue
        if cuda_major in (None, library.version[0]):
            return library
        faults.append(f"{place}: {library.path} is for CUDA {library.version[0]}, not {cuda_major}")
    raise CublasLtUnavailableError("no cublasLt library: " + "; ".join(faults))


def _places(cuda_major: int | None) -> Iterator[tuple[str, Callable[[], tuple[Any, str]]]]:
    majors = (13, 12) if cuda_major is None else (cuda_major,)
    names = [_file_name(major) for major in majors]
    # First the one that CuPy's cuBLAS has loaded: one copy is enough.
    if hasattr(os, "RTLD_NOLOAD"):
        for name in names:
            yield "in this process", functools.partial(_open, name, os.RTLD_NOLOAD | os.RTLD_LAZY)
    yield "by cuda.pathfinder", _find_by_pathfinder
    for name in names:
        yield "by the system", functools.partial(_open, name)


def _file_name(major: int) -> str:
    return f"cublasLt64_{major}.dll" if sys.platform == "win32" else f"libcublasLt.so.{major}"


def _open(name: str, mode: int = ctypes.DEFAULT_MODE) -> tuple[Any, str]:
    return ctypes.CDLL(name, mode=mode), name


def _find_by_pathfinder() -> tuple[Any, str]:
    pathfinder = importlib.import_module("cuda.pathfinder")
    path = pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path
    return ctypes.CDLL(path), path
