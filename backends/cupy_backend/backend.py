"""The GPU backend: CuPy on one NVIDIA device, with cublasLt, our own kernels, and recorded steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from numpy.typing import NDArray

from ..base import Backend
from ..protocols import Array
from ..registry import PRECISIONS, DeviceUnavailableError
from .bodies import CUPY_BODIES
from .bodies.sixteen_bits import cast, is_stored, update_compute_copy
from .capture import CapturedStep, DeviceState
from .checks import device_name, dotted, import_cupy
from .device import Device
from .readback import DeviceMoment, DeviceReadback

_SINCE_AMPERE = {"tf32": 8, "bf16": 8}  # major compute capability

STEPS_AT_ONCE = 16


class CupyBackend(Backend):
    """CuPy on one GPU.

    Work belongs inside `activate`: outside, CuPy computes on the current device. Transfers and `zeros` may be
    called anywhere.

    Parameters
    ----------
    fused : {"auto", "always", "never"}
        See `Backend`.
    index : int
        The device's number in this process (see CUDA_VISIBLE_DEVICES).
    precision : {"float32", "tf32", "bf16", "fp16"}
        Precision of products of float32 arrays; float64 stays as it is. `tf32`: cublasLt rounds operands to 10
        bits of mantissa, several times faster. `bf16`, `fp16`: features and hidden activations are stored in 16
        bits, and products read a 16-bit copy of the parameters that the optimizer writes; sums, parameters,
        their gradients, the loss and the output layer stay float32. With `bf16`, Muon's products are in TF32.
        `fp16` scales gradients of activations (`compute_copies.LOSS_SCALES`).
    autotune : bool
        Whether the first call of each product times all candidates of cublasLt. The fastest is kept
        (`cublaslt.autotune_cache`), so that later runs repeat bit by bit. Otherwise the library's first choice
        runs, with a fused epilogue if possible.
    two_streams : bool
        Whether the two products of a layer's backward pass run concurrently.

    Raises
    ------
    DeviceUnavailableError
        The device is too old for the precision.
    """

    name = "cupy"
    fused_bodies = CUPY_BODIES
    device_class: ClassVar[type[Device]] = Device

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
        self.xp = self.import_library()
        self.gpu = self.device_class(
            self.xp, index, fused=fused, precision=precision, autotune=autotune, two_streams=two_streams
        )
        super().__init__(fused, self.gpu)
        self.index, self.precision, self.autotune, self.two_streams = index, precision, autotune, two_streams
        self.loss_scale, self.device = self.gpu.loss_scale, str(self.gpu)
        if reason := self._why_no_precision(precision):
            raise DeviceUnavailableError(reason)

    import_library = staticmethod(import_cupy)

    def describe(self) -> dict[str, Any]:
        """Return library, device, driver and runtime, memory in bytes, and versions such as "12.9"."""
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
        """See `Backend.limits`; a missing cublasLt is reported here, since CuPy runs without it."""
        found = []
        if not self.gpu.has_cublaslt:
            found.append(f"products are CuPy's own and no step is recorded, since {self.gpu.autotuner.why}")
        elif reason := self.gpu.why_not_recorded:
            found.append(f"no step is recorded: {reason}")
        if self.gpu.not_timed:
            found.append(f"products are not timed, since {self.gpu.not_timed}")
        if reason := self._why_no_precision("bf16"):
            found.append(reason)
        return found

    def _why_no_precision(self, precision: str) -> str:
        if precision not in _SINCE_AMPERE or self.gpu.is_amd:
            return ""
        properties = self.xp.cuda.runtime.getDeviceProperties(self.index)
        if properties["major"] >= _SINCE_AMPERE[precision]:
            return ""
        own = f"{device_name(properties)}, compute capability {properties['major']}.{properties['minor']}"
        return f"gpu:{self.index} ({own}) has no {precision}; take --precision fp16 or float32"

    def memory_in_use(self) -> int:
        """See `Device.memory_in_use`."""
        return self.gpu.memory_in_use()

    # -- arrays, transfer, synchronisation -----------------------------------------------------------

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """Move an array (host, this device or another) to this device, as `dtype` if one is named."""
        return self.gpu.asarray(array, self.dtype(dtype))

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy an array to the host after all work on the current stream."""
        with self.gpu.here:
            host: NDArray[Any] = self.xp.asnumpy(array)
        return host

    def arange(self, start: int, stop: int) -> Array:
        """Return integers from `start` up to `stop`, on this GPU."""
        with self.gpu.here:
            return super().arange(start, stop)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return a new array of zeros on this device."""
        return self.gpu.zeros(shape, self.dtype(dtype))

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return a buffer that the fused bodies fill, or None if only generic bodies run."""
        if self.fused == "never":
            return None
        with self.gpu.here:
            return self.gpu.new(shape, self.dtype(dtype))

    def stored_dtype(self, dtype: str) -> str:
        """See `Backend.stored_dtype`."""
        return (dtype == "float32" and self.gpu.stored) or dtype

    def as_numbers(self, array: Array) -> Array:
        """See `Backend.as_numbers`: CuPy would read the words of bfloat16 as integers."""
        if not is_stored(self.gpu, array):
            return array
        return cast(self.gpu, array, self.gpu.new(array.shape, self.xp.float32))

    def parameters_changed(self, parameters: Array) -> None:
        """Update the 16-bit copy of the parameters, if products read one."""
        if self.gpu.stored and str(parameters.dtype) == "float32":
            update_compute_copy(self.gpu, parameters)

    def synchronize(self) -> None:
        """Wait for all streams of this device."""
        self.xp.cuda.Device(self.index).synchronize()

    def activate(self) -> AbstractContextManager[None]:
        """See `Device.activate`."""
        return self.gpu.activate()

    # -- recorded steps ------------------------------------------------------------------------------

    def capture(self, step: Callable[[], None], warm_up: int = 2) -> Callable[[], None]:
        """Return a callable that runs `step`, and after `warm_up` calls inside `activate` replays it.

        If the step cannot be recorded, it runs as it is, and the callable's `reason` says why; with
        `fused="always"` it raises FusedUnavailableError.
        """
        return CapturedStep(self.gpu, step, warm_up)

    def device_state(
        self,
        num_rates: int,
        max_steps: int,
        orders: Sequence[tuple[int, int, int]],
        losses: tuple[tuple[int, ...], str],
    ) -> DeviceState | None:
        """See `Backend.device_state`."""
        if self.gpu.why_not_recorded:
            return None
        return DeviceState(self.gpu, num_rates, max_steps, orders, losses)

    def moment(self) -> DeviceMoment:
        """See `Backend.moment`."""
        return DeviceMoment(self.gpu)

    def readback(self, shape: tuple[int, ...], dtype: str, in_flight: int) -> DeviceReadback:
        """See `Backend.readback`."""
        return DeviceReadback(self.gpu, shape, dtype, in_flight)

    def steps_at_once(self, flops: float) -> int:
        """Return a number of steps that hides the host's time for a launch."""
        return STEPS_AT_ONCE
