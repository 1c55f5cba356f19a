"""The GPU backend: CuPy on one NVIDIA device, with the generic bodies as they stand.

CuPy is imported when the class is asked for something and not before, so that a machine without it, or with
a broken one, can still say what is wrong. `why_unavailable` walks `CHECKS` from the most basic fault to the
least: each line that it returns names one fault and its cure.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Array, Backend

_EXTRAS = "pip install 'coordfit[cuda12]' or, with a driver of 580 or newer, pip install 'coordfit[cuda13]'"


class CupyBackend(Backend):
    """CuPy on one GPU.

    Outside `activate`, CuPy computes on whatever device is current: work on any but the first GPU belongs
    inside. Transfers and `zeros` find their device by themselves.

    Parameters
    ----------
    fused : {"auto", "always", "never"}
        See `Backend`.
    index : int
        The device, counted as the driver shows it to this process (see CUDA_VISIBLE_DEVICES).
    """

    name = "cupy"

    def __init__(self, fused: str = "auto", index: int = 0) -> None:
        super().__init__(fused)
        self.xp = _import_cupy()
        self.index = index
        self.device = f"gpu:{index}"
        self._stream: Any = None

    @classmethod
    def why_unavailable(cls, index: int = 0) -> str:
        """Return the first fault on the way to device `index`, with its cure, or an empty string."""
        try:
            cupy = _import_cupy()
        except Exception as error:  # a library that breaks at import may raise anything
            return _why_not_imported(error)
        return next((reason for check in CHECKS if (reason := check(cupy, index))), "")

    def describe(self) -> dict[str, Any]:
        """Library, device, driver and runtime; memory in bytes, versions as CUDA counts them ("12.9")."""
        runtime = self.xp.cuda.runtime
        properties = runtime.getDeviceProperties(self.index)
        return super().describe() | {
            "gpu": _device_name(properties),
            "compute_capability": f"{properties['major']}.{properties['minor']}",
            "total_memory": int(properties["totalGlobalMem"]),
            "cuda_driver": _dotted(runtime.driverGetVersion()),
            "cuda_runtime": _dotted(runtime.runtimeGetVersion()),
        }

    def memory_in_use(self) -> int:
        """Bytes that CuPy's pool has handed out on this device; what it merely keeps is not counted."""
        with self._here():
            return int(self.xp.get_default_memory_pool().used_bytes())

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """Move an array (host, this device or another) to this device, as `dtype` where one is named."""
        with self._here():
            return self.xp.asarray(array, dtype=self.dtype(dtype))

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy an array to the host, after all work on the current stream."""
        with self._here():
            host: NDArray[Any] = self.xp.asnumpy(array)
        return host

    def arange(self, start: int, stop: int) -> Array:
        """Integers from `start` up to `stop`, on this GPU."""
        with self._here():
            return super().arange(start, stop)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return a new array of zeros on this device."""
        with self._here():
            return self.xp.zeros(shape, dtype=self.dtype(dtype))

    def synchronize(self) -> None:
        """Wait for all streams of this device."""
        self.xp.cuda.Device(self.index).synchronize()

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Make this device current, and a stream of its own on it; wait for the work at the end.

        The stream does not wait for the null stream, so that other users of the process do not hold it up;
        what was asked for before is therefore waited for on entry.
        """
        cuda = self.xp.cuda
        with self._here():
            self.synchronize()
            # One stream for the backend's life: CuPy's pool gives memory back to the stream that had it.
            if self._stream is None:
                self._stream = cuda.Stream(non_blocking=True)
            with self._stream:
                try:
                    yield
                finally:
                    self._stream.synchronize()

    def _here(self) -> Any:
        return self.xp.cuda.Device(self.index)


# -- the way to a device, one check after the other: each (cupy, index) -> reason, or an empty string ----


def _import_cupy() -> Any:
    return importlib.import_module("cupy")


def _why_not_imported(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
        return f"CuPy is not installed; for an NVIDIA GPU: {_EXTRAS}"
    cause = f" ({_first_line(error.__cause__)})" if error.__cause__ is not None else ""
    return (
        f"CuPy is installed but cannot be imported: {_first_line(error)}{cause}; "
        f"remove every cupy package (pip list | grep cupy), then {_EXTRAS}"
    )


def _is_cupy(cupy: Any, index: int) -> str:
    if hasattr(cupy, "ndarray") and hasattr(cupy, "cuda"):
        return ""
    where = getattr(cupy, "__file__", None) or next(iter(getattr(cupy, "__path__", [])), "?")
    return f"the module named cupy ({where}) is not CuPy; run from another directory, or {_EXTRAS}"


def _driver_is_there(cupy: Any, index: int) -> str:
    try:
        version = cupy.cuda.runtime.driverGetVersion()
    except RuntimeError as error:
        return f"the NVIDIA driver does not answer: {_first_line(error)}; try nvidia-smi, or reinstall it"
    if version > 0:
        return ""
    return (
        "no NVIDIA driver here (CuPy itself is installed); install one until nvidia-smi shows the GPU "
        "(in a container: start it with GPU access, e.g. --gpus all), or use --device cpu"
    )


def _driver_is_new_enough(cupy: Any, index: int) -> str:
    # Within one major version any driver serves any toolkit (CUDA's minor version compatibility).
    driver, built = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    if driver // 1000 >= built // 1000:
        return ""
    other = f", or exchange the cupy package: pip install 'coordfit[cuda{driver // 1000}]'"
    return (
        f"the NVIDIA driver is too old: it supports CUDA {_dotted(driver)}, this CuPy was built for "
        f"CUDA {_dotted(built)}; update the driver{other if driver >= 12_000 else ''}"
    )


def _toolkit_matches(cupy: Any, index: int) -> str:
    built = cupy.cuda.runtime.runtimeGetVersion()
    try:
        local = cupy.cuda.get_local_runtime_version()
    except (ImportError, OSError, RuntimeError):
        return ""  # no runtime library to be found: the kernel below tells whether one is needed
    if local // 1000 == built // 1000:
        return ""
    return (
        f"CuPy was built for CUDA {_dotted(built)}, but the CUDA libraries found here are "
        f"{_dotted(local)}; add matching ones: pip install 'coordfit[cuda{built // 1000}]'"
    )


def _device_is_there(cupy: Any, index: int) -> str:
    runtime, fault = cupy.cuda.runtime, "it counts 0"
    try:
        count = runtime.getDeviceCount()
    except RuntimeError as error:  # cudaErrorNoDevice, for one: CUDA says "none" by an error
        count, fault = 0, _first_line(error)
    if 0 <= index < count:
        return ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    setting = f"CUDA_VISIBLE_DEVICES, which {'is not set' if visible is None else f'is {visible!r}'}"
    if count == 0:
        return (
            f"the NVIDIA driver shows no GPU to this process ({fault}); "
            f"see what nvidia-smi lists, and mind {setting}"
        )
    names = (_device_name(runtime.getDeviceProperties(i)) for i in range(count))
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
    """Do a little work on the device; the reason where it fails, with the versions that take part."""
    runtime = cupy.cuda.runtime
    try:
        with cupy.cuda.Device(index):
            fault = "" if work() else "the result is wrong"
    except MemoryError as error:
        return f"gpu:{index} has no memory even for {what}: {_first_line(error)}; nvidia-smi shows who has it"
    except (ImportError, OSError, RuntimeError, cupy.cuda.compiler.CompileException) as error:
        fault = _first_line(error)
    if not fault:
        return ""
    built = _dotted(runtime.runtimeGetVersion())
    return (
        f"gpu:{index} cannot run {what}: {fault} (CuPy for CUDA {built}, driver for CUDA "
        f"{_dotted(runtime.driverGetVersion())}); if libraries or headers are missing: "
        f"pip install 'coordfit[cuda{built.partition('.')[0]}]'"
    )


def _device_name(properties: dict[str, Any]) -> str:
    name: bytes = properties["name"]
    return name.decode(errors="replace")


def _dotted(version: int) -> str:
    """12090 -> "12.9"."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's text that says something: CuPy frames its own with rulers."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line.rstrip(".") for line in lines if line.strip("=-")), type(error).__name__)
