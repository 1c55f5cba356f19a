"""From the word a user types (`--device gpu:1`) to a backend, or to the reason why not."""

from __future__ import annotations

import importlib
import re
from typing import Any

from .base import Backend

PRECISIONS = ("float32", "tf32", "bf16", "fp16")
DEVICE_WORDS = "auto, cpu, gpu, gpu:N, cuda, cuda:N, numpy, numba, cupy"

# One line for each backend; its module is imported only when it is asked for.
_BACKENDS = {
    "numpy": (".numpy_backend", "NumpyBackend"),
    "numba": (".numba_backend", "NumbaBackend"),
    "cupy": (".cupy_backend", "CupyBackend"),
}
_LIBRARY_OF = {"gpu": "cupy", "cuda": "cupy", "cupy": "cupy"}
_WORD = re.compile(r"(?P<kind>auto|cpu|numpy|numba|gpu|cuda|cupy)(?::(?P<index>[0-9]{1,3}))?")
_OF_THE_CPU = ("cpu", "numpy", "numba")


class DeviceUnavailableError(RuntimeError):
    """The device asked for is not there; the message says why and what to do."""


def get_backend(
    device: str = "auto", *, fused: str = "auto", threads: int | None = None, precision: str = "float32"
) -> Backend:
    """Return a backend for a device word.

    Parameters
    ----------
    device : str
        `auto` takes the GPU where one answers and the CPU otherwise, and keeps the reason in
        `backend.fallback_reason`. Every other word means that device and nothing else. On the CPU, Numba
        compiles the element-wise loops where it is installed; `numpy` and `numba` ask for one of the two.
    fused : {"auto", "always", "never"}
        See `Backend`.
    threads : int, optional
        Worker threads of the CPU; None takes the cores that this process may use.
    precision : {"float32", "tf32", "bf16", "fp16"}
        In what products of float32 arrays may be computed, and activations kept; sums and parameters are
        float32 always. All but float32 are for a GPU alone, and a reason for `auto` not to take the CPU.

    Raises
    ------
    ValueError
        The word is none of `DEVICE_WORDS`, `threads` is less than 1, or there is no such precision there.
    DeviceUnavailableError
        The device is not there. For `auto` only with a precision that the CPU does not have.
    """
    kind, index = _parse(device)
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, not {threads}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    of_cpu, of_gpu = {"threads": threads}, {"index": index, "precision": precision}
    if precision != "float32" and kind in ("cpu", *_OF_THE_CPU):
        raise ValueError(f"precision {precision} is for a GPU; the CPU computes in float32 or float64")
    if precision != "float32" and fused == "never":
        raise ValueError(f"precision {precision} is of fused bodies; leave it out, or fused=never")
    if kind == "cpu":
        return _make(_library_of_cpu(), fused, of_cpu)
    if kind in _OF_THE_CPU:
        return _make(kind, fused, of_cpu)
    if kind != "auto":
        return _make(_LIBRARY_OF[kind], fused, of_gpu)
    try:
        return _make("cupy", fused, of_gpu)
    except DeviceUnavailableError as reason:
        if precision != "float32":
            raise DeviceUnavailableError(f"precision {precision} needs a GPU: {reason}") from None
        backend = _make(_library_of_cpu(), fused, of_cpu)
        backend.fallback_reason = str(reason)
        return backend


def _library_of_cpu() -> str:
    return "numpy" if _class_of("numba").why_unavailable() else "numba"


def available_backends() -> dict[str, str]:
    """Every known backend with the reason why it cannot run here, or an empty string where it can."""
    return {name: _class_of(name).why_unavailable(0) for name in _BACKENDS}


def _parse(device: str) -> tuple[str, int]:
    match = _WORD.fullmatch(device)
    if match is None or (match["index"] is not None and match["kind"] in ("auto", *_OF_THE_CPU)):
        raise ValueError(f"unknown device {device!r}; use one of: {DEVICE_WORDS}")
    return match["kind"], int(match["index"] or 0)


def _class_of(name: str) -> type[Backend]:
    module, class_name = _BACKENDS[name]
    found: type[Backend] = getattr(importlib.import_module(module, __package__), class_name)
    return found


def _make(name: str, fused: str, options: dict[str, Any]) -> Backend:
    backend_class = _class_of(name)
    if reason := backend_class.why_unavailable(options.get("index", 0)):
        raise DeviceUnavailableError(reason)
    return backend_class(fused=fused, **options)
