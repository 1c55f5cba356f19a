"""Checks that CuPy and its GPU work here, from the most basic fault to the least.

Each check returns one line that names a fault and its cure, or an empty string. CuPy is an argument, since it
may be missing or broken.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

EXTRAS = "pip install 'coordfit[cuda12]' or, with a driver of 580 or newer, pip install 'coordfit[cuda13]'"


def why_not_imported(error: Exception) -> str:
    """Return the fault and cure for a failed import of CuPy."""
    if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
        return f"CuPy is not installed; for an NVIDIA GPU: {EXTRAS}"
    cause = f" ({first_line(error.__cause__)})" if error.__cause__ is not None else ""
    return (
        f"CuPy is installed but cannot be imported: {first_line(error)}{cause}; "
        f"remove every cupy package (pip list | grep cupy), then {EXTRAS}"
    )


def _is_cupy(cupy: Any, index: int) -> str:
    if hasattr(cupy, "ndarray") and hasattr(cupy, "cuda"):
        return ""
    where = getattr(cupy, "__file__", None) or next(iter(getattr(cupy, "__path__", [])), "?")
    return f"the module named cupy ({where}) is not CuPy; run from another directory, or {EXTRAS}"


def _driver_is_there(cupy: Any, index: int) -> str:
    try:
        version = cupy.cuda.runtime.driverGetVersion()
    except RuntimeError as error:
        return f"the NVIDIA driver does not answer: {first_line(error)}; try nvidia-smi, or reinstall it"
    if version > 0:
        return ""
    return (
        "no NVIDIA driver here (CuPy itself is installed); install one until nvidia-smi shows the GPU "
        "(in a container: start it with GPU access, e.g. --gpus all), or use --device cpu"
    )


def _driver_is_new_enough(cupy: Any, index: int) -> str:
    # Within a major version any driver serves any toolkit (CUDA's minor version compatibility).
    driver, built = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    if driver // 1000 >= built // 1000:
        return ""
    other = f", or exchange the cupy package: pip install 'coordfit[cuda{driver // 1000}]'"
    return (
        f"the NVIDIA driver is too old: it supports CUDA {dotted(driver)}, this CuPy was built for "
        f"CUDA {dotted(built)}; update the driver{other if driver >= 12_000 else ''}"
    )


def _toolkit_matches(cupy: Any, index: int) -> str:
    built = cupy.cuda.runtime.runtimeGetVersion()
    try:
        local = cupy.cuda.get_local_runtime_version()
    except (ImportError, OSError, RuntimeError):
        return ""  # no runtime library found: `_kernel_runs` shows whether one is needed
    if local // 1000 == built // 1000:
        return ""
    return (
        f"CuPy was built for CUDA {dotted(built)}, but the CUDA libraries found here are "
        f"{dotted(local)}; add matching ones: pip install 'coordfit[cuda{built // 1000}]'"
    )


def _device_is_there(cupy: Any, index: int) -> str:
    runtime, fault = cupy.cuda.runtime, "it counts 0"
    try:
        count = runtime.getDeviceCount()
    except RuntimeError as error:  # CUDA reports no device as an error, cudaErrorNoDevice
        count, fault = 0, first_line(error)
    if 0 <= index < count:
        return ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    setting = f"CUDA_VISIBLE_DEVICES, which {'is not set' if visible is None else f'is {visible!r}'}"
    if count == 0:
        return (
            f"the NVIDIA driver shows no GPU to this process ({fault}); "
            f"see what nvidia-smi lists, and mind {setting}"
        )
    names = (device_name(runtime.getDeviceProperties(i)) for i in range(count))
    seen = ", ".join(f"gpu:{i} ({name})" for i, name in enumerate(names))
    return f"there is no gpu:{index}; seen here: {seen}; mind {setting}"


def _kernel_runs(cupy: Any, index: int) -> str:
    def double_one() -> bool:
        one = cupy.asarray(np.ones(1, np.float32))
        return float((one + one)[0]) == 2.0

    return _try_out(cupy, index, "a one-element kernel", double_one)


def _product_runs(cupy: Any, index: int) -> str:
    def multiply() -> bool:
        a = cupy.asarray(np.arange(4, dtype=np.float32).reshape(2, 2))
        return bool(np.array_equal(cupy.asnumpy(cupy.matmul(a, a)), [[2.0, 3.0], [6.0, 11.0]]))

    return _try_out(cupy, index, "a 2x2 matrix product", multiply)


CHECKS: tuple[Callable[[Any, int], str], ...] = (
    _is_cupy,
    _driver_is_there,
    _driver_is_new_enough,
    _toolkit_matches,
    _device_is_there,
    _kernel_runs,
    _product_runs,
)


def _try_out(cupy: Any, index: int, what: str, work: Callable[[], bool]) -> str:
    """Run a little work on the device; return why it fails, with the versions, or an empty string."""
    runtime = cupy.cuda.runtime
    try:
        with cupy.cuda.Device(index):
            fault = "" if work() else "the result is wrong"
    except MemoryError as error:
        return f"gpu:{index} has no memory even for {what}: {first_line(error)}; nvidia-smi shows what uses it"
    except (ImportError, OSError, RuntimeError, cupy.cuda.compiler.CompileException) as error:
        fault = first_line(error)
    if not fault:
        return ""
    built = dotted(runtime.runtimeGetVersion())
    return (
        f"gpu:{index} cannot run {what}: {fault} (CuPy for CUDA {built}, driver for CUDA "
        f"{dotted(runtime.driverGetVersion())}); if libraries or headers are missing: "
        f"pip install 'coordfit[cuda{built.partition('.')[0]}]'"
    )


def device_name(properties: dict[str, Any]) -> str:
    """Return the device's name from CuPy's properties."""
    name: bytes = properties["name"]
    return name.decode(errors="replace")


def dotted(version: int) -> str:
    """Return CUDA's version 12090 as "12.9"."""
    return f"{version // 1000}.{version % 1000 // 10}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that is no ruler, as CuPy prints them."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line.rstrip(".") for line in lines if line.strip("=-")), type(error).__name__)


def import_cupy() -> Any:
    """Import CuPy; late, so that a missing or broken one can be reported."""
    return importlib.import_module("cupy")


def why_unavailable(index: int = 0) -> str:
    """Return the first fault of device `index` with its cure, or an empty string."""
    try:
        cupy = import_cupy()
    except Exception as error:  # a broken library may raise anything
        return why_not_imported(error)
    return next((reason for check in CHECKS if (reason := check(cupy, index))), "")
