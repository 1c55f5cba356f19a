"""What the fused bodies share: the library of products, our kernels, and memory that is used again and again.

Nothing here waits for the device, and nothing that changes from step to step is a number in a launch where the
caller gives it as an array: so a step can be recorded and replayed.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..base import Backend
from ..lowering.cuda_text import CudaFormula
from ..protocols import Array
from .capture import recorded
from .checks import device_name, first_line
from .cublaslt import (
    Autotuner,
    Choices,
    CublasLtError,
    CublasLtUnavailableError,
    Library,
    Planner,
    Workspace,
    choices_file,
    load,
)
from .kernels import OPTIONS, Launcher, source
from .relu_masks import ReluMasks
from .storage import Shadows
from .streams import StreamPair
from .strides import is_packed

_RUNS_TO_TIME = 20
_MILLISECONDS_TO_TIME = 2.0


class Shared(Backend):
    """The library, the kernels, reused buffers, and the line that tells of a full device."""

    precision: str
    index: int
    autotune: bool
    not_timed = ""
    """Why products are not timed, where that was asked for."""
    stream_pair: StreamPair | None = None
    """Where independent work is forked; None where all goes to one stream."""
    _is_recording = False

    def __init__(self, fused: str = "auto") -> None:
        super().__init__(fused)
        self._masks, self._compute_copies = ReluMasks(), Shadows()
        self._no_masks: set[tuple[Any, ...]] = set()
        self._buffers: dict[tuple[Any, ...], Array] = {}
        self._autotuner: Autotuner | None = None
        self._workspaces: dict[int, Workspace] = {}
        self._functions: dict[tuple[str, str], Any] = {}
        self._launcher: Launcher | None = None

    @property
    def autotuner(self) -> Autotuner:
        """Where products find their tier; made at the first one, with this device current."""
        if self._autotuner is None:
            with self._here():
                self._autotuner = self._new_autotuner()
        return self._autotuner

    def _new_autotuner(self) -> Autotuner:
        if self.fused == "never" or getattr(self.xp.cuda.runtime, "is_hip", False):
            return Autotuner(None, self.fused, "cublasLt is not for AMD's GPUs")
        try:
            planner = Planner(self._load_cublaslt())
        except (CublasLtUnavailableError, CublasLtError) as error:
            return Autotuner(None, self.fused, str(error))
        choices = self._new_choices(planner.library) if self.autotune else None
        return Autotuner(planner, self.fused, timer=self._time if choices else None, choices=choices)

    def _new_choices(self, library: Library) -> Choices | None:
        """Where the fastest products are kept; None, and nothing is timed, where there is no place for them."""
        gpu = device_name(self.xp.cuda.runtime.getDeviceProperties(self.index))
        try:
            return Choices(choices_file(), gpu, ".".join(map(str, library.version)))
        except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
            self.not_timed = f"there is no place to keep which are fastest: {first_line(error)}"
            return None

    def _load_cublaslt(self) -> Library:
        return load(self.xp.cuda.runtime.runtimeGetVersion() // 1000)

    @property
    def relu_hides_nan(self) -> bool:
        """Whether ReLU is cublasLt's, which turns NaN into 0."""
        return self.fused != "never" and self.autotuner.planner is not None

    def _here(self) -> Any:
        return contextlib.nullcontext()

    def _time(self, run: Callable[[], None]) -> float | None:
        """Milliseconds of one run, of some that are replayed from a graph: calls of the host take longer.

        None where nothing can be recorded, on the stream that all share.
        """
        cuda = self.xp.cuda
        stream = cuda.get_current_stream()
        if stream.ptr == 0 or self._is_recording:
            return None
        run()  # loads what it needs, and takes memory
        alone = self._elapsed(run)
        count = int(min(max(_MILLISECONDS_TO_TIME / max(alone, 1e-6), 1), _RUNS_TO_TIME))

        def all_runs() -> None:
            for _ in range(count):
                run()

        try:
            graph = recorded(stream, all_runs)
        except CublasLtError:
            raise
        except RuntimeError as error:  # some algorithms of cublasLt run, and break a recording
            raise CublasLtError("recording", -1, first_line(error)) from error
        graph.launch(stream)
        return min(self._elapsed(functools.partial(graph.launch, stream)) for _ in range(3)) / count

    def _elapsed(self, run: Callable[[], None]) -> float:
        """Milliseconds on the current stream from before a call to after it."""
        cuda = self.xp.cuda
        stream, start, end = cuda.get_current_stream(), cuda.Event(), cuda.Event()
        start.record(stream)
        run()
        end.record(stream)
        end.synchronize()
        return float(cuda.get_elapsed_time(start, end))

    def launch(
        self,
        name: str,
        instance: tuple[str, ...],
        grid: tuple[int, int],
        *arguments: Any,
        block: int | None = None,
    ) -> None:
        """Launch one of our kernels on the current stream; see `Launcher`."""
        if self._launcher is None:
            scalars = {"int32": np.int32, "int64": np.int64, "float64": np.float64}
            self._launcher = Launcher(self._get_function, scalars)
        self._launcher(name, instance, grid, *arguments, block=block)

    def _get_function(self, file: str, expression: str, formulas: Sequence[CudaFormula]) -> Any:
        if (file, expression) not in self._functions:
            code = source(file, formulas)
            module = self.xp.RawModule(code=code, options=OPTIONS, name_expressions=[expression])
            self._functions[file, expression] = module.get_function(expression)
        return self._functions[file, expression]

    @contextlib.contextmanager
    def _told_if_full(self, what: str) -> Iterator[None]:
        """Turn CuPy's OutOfMemoryError into one line with the sizes and the remedy."""
        try:
            yield
        except MemoryError as error:
            if isinstance(error, DeviceMemoryError):
                raise
            raise DeviceMemoryError(self._line_of_memory(what, error)) from error

    def _line_of_memory(self, what: str, error: MemoryError) -> str:
        return f"{self.device} has no memory for {what}"

    def _new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with self._told_if_full(f"another {_megabytes(size)} MB (an array of shape {shape})"):
            return self.xp.empty(shape, dtype=dtype)

    def _reuse(self, purpose: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """The same memory for a purpose at every step, in each lane its own."""
        key = (self._lane, purpose, shape, str(dtype))
        if key not in self._buffers:
            self._refuse_new_memory(purpose)
            self._buffers[key] = self._new(shape, dtype)
        return self._buffers[key]

    @property
    def _lane(self) -> int:
        return 0 if self.stream_pair is None else self.stream_pair.now

    def _refuse_new_memory(self, purpose: str) -> None:
        if self._is_recording:
            raise RuntimeError(f"the recorded step needs memory ({purpose}) that the steps before it did not")

    def _out_or_new(self, offered: Array | None, shape: tuple[int, ...], like: Array) -> Array:
        """The offered buffer where it fits, or a new array."""
        if offered is None or offered.shape != shape or offered.dtype != like.dtype:
            return self._new(shape, like.dtype)
        if is_packed(offered):
            return offered
        return self._new(shape, like.dtype)

    def _packed(self, array: Array, core: int = 2) -> Array:
        return array if is_packed(array, core) else self.xp.ascontiguousarray(array)


class DeviceMemoryError(MemoryError):
    """The device is full; the message has the sizes and the remedy, in one line."""


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
