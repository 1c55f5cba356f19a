"""The GPU backend: CuPy on one NVIDIA device, with cublasLt, kernels of our own, and recorded steps.

CuPy is imported when the class is asked for something and not before, so that a machine without it, or with
a broken one, can still say what is wrong: `why_unavailable` walks `checks.CHECKS`.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from ..protocols import Array
from ..registry import PRECISIONS, DeviceUnavailableError
from .capture import CapturedStep, DeviceState
from .checks import CHECKS, device_name, dotted, first_line, why_not_imported
from .output_layer import OutputLayer
from .readback import DeviceMoment, DeviceReadback
from .storage import LOSS_SCALES
from .streams import StreamPair

_SINCE_AMPERE = {"tf32": 8, "bf16": 8}  # major compute capability

STEPS_AT_ONCE = 16


class CupyBackend(OutputLayer):
    """CuPy on one GPU.

    Outside `activate`, CuPy computes on whatever device is current: work on any but the first GPU belongs
    inside. Transfers and `zeros` find their device by themselves.

    Parameters
    ----------
    fused : {"auto", "always", "never"}
        See `Backend`.
    index : int
        The device, counted as the driver shows it to this process (see CUDA_VISIBLE_DEVICES).
    precision : {"float32", "tf32", "bf16", "fp16"}
        Of products of float32 arrays; float64 is not touched. `tf32`: operands are rounded to 10 bits of
        mantissa where cublasLt computes them, which is several times faster. `bf16`, `fp16`: features and
        hidden activations are kept in 16 bits, and products read a copy of the parameters in 16 bits that the
        optimizer writes in its own pass; sums, parameters, gradients of parameters, the loss and the output
        layer stay float32. `fp16` scales gradients of activations (`storage.LOSS_SCALES`).
    autotune : bool
        Whether each product is timed at its first call, on each tier and by each of cublasLt's candidates. What
        was fastest is kept (`cublaslt.autotune_cache`), so that later runs repeat bit by bit. Without it a
        fused epilogue is taken where there is one, by the library's own first choice.
    two_streams : bool
        Whether the two products of a layer's way back run beside each other.

    Raises
    ------
    DeviceUnavailableError
        Where the device is too old for the precision.
    """

    name = "cupy"
    not_recorded = ""
    """Why the last step that was to be recorded was not."""

    def __init__(
        self,
        fused: str = "auto",
        index: int = 0,
        precision: str = "float32",
        autotune: bool = True,
        two_streams: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
        super().__init__(fused)
        self.xp = self._library()
        self.index, self.precision, self.autotune, self.two_streams = index, precision, autotune, two_streams
        self.loss_scale = LOSS_SCALES.get(precision, 1.0) if fused != "never" else 1.0
        self.device = f"gpu:{index}"
        if reason := self._why_no_precision(precision):
            raise DeviceUnavailableError(reason)
        self._stream: Any = None
        self.stream_pair = StreamPair(self.xp.cuda) if two_streams else None
        self._depth = 0
        self._entry = threading.RLock()

    @staticmethod
    def _library() -> Any:
        return _import_cupy()

    @classmethod
    def why_unavailable(cls, index: int = 0) -> str:
        """Return the first fault on the way to device `index`, with its cure, or an empty string."""
        try:
            cupy = cls._library()
        except Exception as error:  # a library that breaks at import may raise anything
            return why_not_imported(error)
        return next((reason for check in CHECKS if (reason := check(cupy, index))), "")

    def describe(self) -> dict[str, Any]:
        """Library, device, driver and runtime; memory in bytes, versions as CUDA counts them ("12.9")."""
        runtime = self.xp.cuda.runtime
        properties = runtime.getDeviceProperties(self.index)
        return super().describe() | {
            "gpu": device_name(properties),
            "compute_capability": f"{properties['major']}.{properties['minor']}",
            "total_memory": int(properties["totalGlobalMem"]),
            "cuda_driver": dotted(runtime.driverGetVersion()),
            "cuda_runtime": dotted(runtime.runtimeGetVersion()),
            "precision": self.precision,
        }

    def limits(self) -> list[str]:
        """See `Backend.limits`. CuPy itself runs without cublasLt, so that it is looked for here."""
        found = []
        if self.autotuner.planner is None:
            found.append(f"products are CuPy's own and no step is recorded, since {self.autotuner.why}")
        elif reason := self.why_not_recorded():
            found.append(f"no step is recorded: {reason}")
        if self.not_timed:
            found.append(f"products are not timed, since {self.not_timed}")
        if reason := self._why_no_precision("bf16"):
            found.append(reason)
        return found

    def _why_no_precision(self, precision: str) -> str:
        runtime = self.xp.cuda.runtime
        if precision not in _SINCE_AMPERE or getattr(runtime, "is_hip", False):
            return ""
        properties = runtime.getDeviceProperties(self.index)
        if properties["major"] >= _SINCE_AMPERE[precision]:
            return ""
        own = f"{device_name(properties)}, compute capability {properties['major']}.{properties['minor']}"
        return f"gpu:{self.index} ({own}) has no {precision}; take --precision fp16 or float32"

    def memory_in_use(self) -> int:
        """Bytes that CuPy's pool has handed out on this device; what it merely keeps is not counted."""
        with self._here():
            return int(self.xp.get_default_memory_pool().used_bytes())

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """Move an array (host, this device or another) to this device, as `dtype` where one is named."""
        what = f"an array of shape {getattr(array, 'shape', '?')}"
        with self._here(), self._told_if_full(what):
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
        with self._here(), self._told_if_full(f"an array of shape {shape}"):
            return self.xp.zeros(shape, dtype=self.dtype(dtype))

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return a buffer that the fused bodies fill, or None where only generic bodies run."""
        if self.fused == "never":
            return None
        with self._here():
            return self._new(shape, self.dtype(dtype))

    def synchronize(self) -> None:
        """Wait for all streams of this device."""
        self.xp.cuda.Device(self.index).synchronize()

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Make this device current, and a stream of its own on it; wait for the work at the end.

        The stream does not wait for the null stream, so that other users of the process do not hold it up;
        what was asked for before is therefore waited for on entry. Inside of another stretch nothing is waited
        for, then or at the end. One thread at a time is inside: another one waits.
        """
        with self._entry:
            yield from self._activated()

    def _activated(self) -> Iterator[None]:
        if self._depth:
            yield
            return
        with self._here():
            self.synchronize()
            # One stream for the backend's life: CuPy's pool gives memory back to the stream that had it.
            if self._stream is None:
                self._stream = self.xp.cuda.Stream(non_blocking=True)
            with self._stream, self._told_if_full("what it was to compute"):
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                    self._stream.synchronize()

    def _here(self) -> Any:
        return self.xp.cuda.Device(self.index)

    def _line_of_memory(self, what: str, error: MemoryError) -> str:
        used = f"{self.memory_in_use() / 1e6:,.1f} MB are in use by this process"
        total = self.xp.cuda.runtime.getDeviceProperties(self.index)["totalGlobalMem"]
        return (
            f"{self.device} has no memory for {what}: {used} of {total / 1e6:,.1f} MB in all "
            f"({first_line(error)}); take a smaller batch size, fewer networks together, or --device cpu"
        )

    # -- recorded steps ------------------------------------------------------------------------------

    @property
    def is_active(self) -> bool:
        """Whether work goes to the backend's own stream now."""
        return self._depth > 0

    @property
    def stream(self) -> Any:
        """The backend's own stream; there is one from the first `activate` on."""
        return self._stream

    def why_not_recorded(self) -> str:
        """Return why no step of this backend can be recorded, or an empty string."""
        if self.fused == "never":
            return "fused=never"
        if getattr(self.xp.cuda.runtime, "is_hip", False):
            return "CuPy records no graphs on AMD's GPUs"
        return ""

    def capture(self, step: Callable[[], None], warm_up: int = 2) -> Callable[[], None]:
        """Return a callable that takes the step once: at first as it is, then from a recording of it.

        Inside `activate` only. Where the step cannot be recorded it goes on as it is, and the callable's
        `reason` tells why; with `fused="always"` that is a FusedUnavailableError.
        """
        return CapturedStep(self, step, warm_up)

    def device_state(
        self,
        num_rates: int,
        max_steps: int,
        orders: Sequence[tuple[int, int, int]],
        losses: tuple[tuple[int, ...], str],
    ) -> DeviceState | None:
        """See `Backend.device_state`."""
        if self.why_not_recorded():
            return None
        return DeviceState(self, num_rates, max_steps, orders, losses)

    def moment(self) -> DeviceMoment:
        """See `Backend.moment`."""
        return DeviceMoment(self)

    def readback(self, shape: tuple[int, ...], dtype: str, in_flight: int) -> DeviceReadback:
        """See `Backend.readback`."""
        return DeviceReadback(self, shape, dtype, in_flight)

    def steps_at_once(self, flops: float) -> int:
        """So many that a launch costs the host nothing beside what the device does meanwhile."""
        return STEPS_AT_ONCE

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """While a step is recorded: nothing is timed, and no buffer is made that outlives the graph."""
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    def buffers(self) -> list[Array]:
        """All memory that the fused bodies use again and again, for a graph to keep alive."""
        return [*self._buffers.values(), *self._masks.memory(), *self._compute_copies.memory()]


def _import_cupy() -> Any:
    return importlib.import_module("cupy")
