"""One GPU as the fused bodies use it: products, kernels, streams and reused memory.

Nothing here waits for the device, and numbers that change between steps may be passed as arrays: so a step can
be recorded and replayed.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..lowering.cuda_text import CudaFormula
from ..protocols import Array
from .checks import device_name, first_line
from .column_sums import ColumnSums
from .compute_copies import LOSS_SCALES, STORED, ComputeCopies
from .cublaslt.autotune import Autotuner
from .cublaslt.autotune_cache import Choices, choices_file
from .cublaslt.library import CublasLtError, CublasLtUnavailableError, Library, load
from .cublaslt.plans import WORKSPACE_BYTES, Planner, Workspace
from .kernels import OPTIONS, Launcher, source
from .streams import StreamPair, time_in_graph
from .strides import is_packed


class DeviceMemoryError(MemoryError):
    """The device is full; the message has the sizes and the cure, in one line."""


class Device:
    """The state that the fused bodies of one `CupyBackend` share, with parameters of that.

    Attributes
    ----------
    stored : str
        The 16-bit dtype of stored activations of float32 networks, or an empty string.
    column_sums, compute_copies
        Sums over rows of gradients, for those of biases, and parameters in 16 bits.
    is_recording : bool
        Whether a step is being recorded: nothing is timed, and no buffer is made that outlives the graph.
    why_not_recorded : str
        Why no step can be recorded, or an empty string.
    not_timed, not_recorded : str
        Why products are not timed although `autotune` is on, and why the last step was not recorded.
    stream
        The backend's own stream, made by the first `activate`.
    """

    output_threads = 256
    """The most threads of a block of the kernel `head_step`."""

    def __init__(
        self, cupy: Any, index: int, *, fused: str, precision: str, autotune: bool, two_streams: bool
    ) -> None:
        self.xp, self.index, self.fused, self.precision = cupy, index, fused, precision
        self.autotune = autotune
        self.is_fused = fused != "never"
        self.stored = STORED.get(precision, "") if self.is_fused else ""
        self.loss_scale = LOSS_SCALES.get(precision, 1.0) if self.is_fused else 1.0
        self.stream_pair = StreamPair(cupy.cuda) if two_streams else None
        self.column_sums, self.compute_copies = ColumnSums(self._new_to_keep), ComputeCopies()
        self.is_recording = False
        self.why_not_recorded = "" if self.is_fused else "fused=never"
        if self.is_amd:
            self.why_not_recorded = "CuPy records no graphs on AMD's GPUs"
        self.not_timed = self.not_recorded = ""
        self.stream: Any = None
        self._depth, self._entry = 0, threading.RLock()
        self._autotuner: Autotuner | None = None
        self._buffers: dict[tuple[Any, ...], Array] = {}
        self._functions: dict[tuple[str, str], Any] = {}
        scalars = {"int32": np.int32, "int64": np.int64, "float64": np.float64}
        self.launch = Launcher(self._get_function, scalars)

    def __repr__(self) -> str:
        return f"gpu:{self.index}"

    @property
    def here(self) -> Any:
        """A context in which this device is the current one."""
        return self.xp.cuda.Device(self.index)

    @property
    def is_amd(self) -> bool:
        """Whether CuPy was built for AMD's GPUs."""
        return bool(getattr(self.xp.cuda.runtime, "is_hip", False))

    def _get_function(self, file: str, expression: str, formulas: Sequence[CudaFormula]) -> Any:
        if (file, expression) not in self._functions:
            code = source(file, formulas)
            module = self.xp.RawModule(code=code, options=OPTIONS, name_expressions=[expression])
            self._functions[file, expression] = module.get_function(expression)
        return self._functions[file, expression]

    # -- products ------------------------------------------------------------------------------------

    @property
    def autotuner(self) -> Autotuner:
        """Chooses the tier of each product; made at the first one, with this device current."""
        if self._autotuner is None:
            with self.here:
                self._autotuner = self._new_autotuner()
        return self._autotuner

    @autotuner.setter
    def autotuner(self, autotuner: Autotuner) -> None:
        self._autotuner = autotuner

    def _new_autotuner(self) -> Autotuner:
        if not self.is_fused or self.is_amd:
            return Autotuner(None, self.fused, "cublasLt is not for AMD's GPUs")
        try:
            planner = Planner(self.load_cublaslt())
        except (CublasLtUnavailableError, CublasLtError) as error:
            return Autotuner(None, self.fused, str(error))
        choices = self._new_choices(planner.library) if self.autotune else None
        return Autotuner(planner, self.fused, timer=self.time if choices else None, choices=choices)

    def _new_choices(self, library: Library) -> Choices | None:
        """Return the cache of the fastest algorithms; None if it cannot be made."""
        gpu = device_name(self.xp.cuda.runtime.getDeviceProperties(self.index))
        try:
            return Choices(choices_file(), gpu, ".".join(map(str, library.version)))
        except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
            self.not_timed = f"there is no place for the fastest ones: {first_line(error)}"
            return None

    def load_cublaslt(self) -> Library:
        """Return the library of CuPy's CUDA version."""
        return load(self.xp.cuda.runtime.runtimeGetVersion() // 1000)

    @property
    def has_cublaslt(self) -> bool:
        """Whether cublasLt is available."""
        return self.autotuner.planner is not None

    def time(self, run: Callable[[], None]) -> float | None:
        """Return the milliseconds of one run; None if it cannot be recorded now."""
        return None if self.is_recording else time_in_graph(self.xp.cuda, run)

    @property
    def workspace(self) -> Workspace:
        """Memory for products on the current stream."""
        if not self.has_cublaslt:
            return Workspace(0, 0)
        return Workspace(self.reuse("workspace", (WORKSPACE_BYTES,), np.uint8).data.ptr)

    # -- streams -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Make this device and the backend's stream current; wait for the work at the end.

        The stream does not wait for the null stream, so that other work of the process does not delay it; entry
        therefore waits for all earlier work. Nested entries wait for nothing. One thread at a time is inside.
        """
        with self._entry:
            yield from self._activated()

    def _activated(self) -> Iterator[None]:
        if self._depth:
            yield
            return
        with self.here:
            self.xp.cuda.Device(self.index).synchronize()
            # One stream for the backend's life: CuPy's pool keeps freed memory by stream.
            if self.stream is None:
                self.stream = self.xp.cuda.Stream(non_blocking=True)
            with self.stream, self.explained_if_full("the work"):
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                    self.stream.synchronize()

    @property
    def is_active(self) -> bool:
        """Whether work goes to the backend's own stream."""
        return self._depth > 0

    # -- memory --------------------------------------------------------------------------------------

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """Move an array (host, this device or another) to this device."""
        with self.here, self.explained_if_full(f"an array of shape {getattr(array, 'shape', '?')}"):
            return self.xp.asarray(array, dtype=dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a new array of zeros."""
        with self.here, self.explained_if_full(f"an array of shape {shape}"):
            return self.xp.zeros(shape, dtype=dtype)

    def new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a new, uninitialized array."""
        megabytes = math.prod(shape) * np.dtype(dtype).itemsize / 1e6
        with self.explained_if_full(f"another {megabytes:,.1f} MB (an array of shape {shape})"):
            return self.xp.empty(shape, dtype=dtype)

    def reuse(self, purpose: str, shape: tuple[int, ...], dtype: Any, first: Any = None) -> Array:
        """Return the same memory for a purpose at every step, one for each stream; it begins as `first`."""
        stream = 0 if self.stream_pair is None else self.stream_pair.current
        key = (stream, purpose, shape, str(dtype))
        if key not in self._buffers:
            self._buffers[key] = self._new_to_keep(purpose, shape, dtype)
            if first is not None:
                self._buffers[key][...] = self.asarray(first)
        return self._buffers[key]

    def _new_to_keep(self, purpose: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a new array; raise while a step is recorded: it may use only the memory of earlier ones."""
        if self.is_recording:
            raise RuntimeError(f"the recorded step needs memory ({purpose}) that the steps before it did not")
        return self.new(shape, dtype)

    def out_or_new(self, offered: Array | None, shape: tuple[int, ...], like: Array) -> Array:
        """Return the offered buffer if it fits, else a new array."""
        fits = offered is not None and offered.shape == shape and offered.dtype == like.dtype
        return offered if fits and is_packed(offered) else self.new(shape, like.dtype)

    def packed(self, array: Array, core: int = 2) -> Array:
        """Return the array if it is packed, else a contiguous copy."""
        return array if is_packed(array, core) else self.xp.ascontiguousarray(array)

    def buffers(self) -> list[Array]:
        """Return all reused memory, for a graph to keep alive."""
        return [*self._buffers.values(), *self.column_sums.memory(), *self.compute_copies.memory()]

    def memory_in_use(self) -> int:
        """Return the bytes of arrays, without free memory that CuPy's pool keeps."""
        with self.here:
            return int(self.xp.get_default_memory_pool().used_bytes())

    @contextlib.contextmanager
    def explained_if_full(self, what: str) -> Iterator[None]:
        """Turn CuPy's OutOfMemoryError into one line with the sizes and the cure."""
        try:
            yield
        except DeviceMemoryError:
            raise
        except MemoryError as error:
            used = f"{self.memory_in_use() / 1e6:,.1f} MB are in use by this process"
            total = self.xp.cuda.runtime.getDeviceProperties(self.index)["totalGlobalMem"]
            raise DeviceMemoryError(
                f"{self} has no memory for {what}: {used} of {total / 1e6:,.1f} MB in all "
                f"({first_line(error)}); take a smaller batch size, fewer networks together, or --device cpu"
            ) from error
