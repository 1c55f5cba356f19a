"""The CPU backend whose primitives Numba compiles, and whose steps are recorded as compiled programs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from ..dispatch import primitives_of
from ..numpy_backend.backend import NumpyBackend
from ..numpy_backend.host import Host
from ..protocols import Array, DeviceState, NotRecordedError
from .bodies import NUMBA_BODIES
from .compiled import instructions
from .compiled.addresses import address_of
from .compiled.cache import has_code
from .compiled.instructions import instruction
from .compiled.interpreter import execute
from .host import CompiledHost
from .host_state import HostState
from .recording import Recording, pending

# Operations of one call, so that it takes about a fiftieth of a second and interrupts are served.
_FLOPS_AT_ONCE = 2e9
_MAX_STEPS_AT_ONCE = 16
_MIN_WORKER_ROWS = 64
_FLOPS_PER_WEIGHT = 6  # for each row of a step: forward, dW and dx
_RECORDED = {
    *("take_rows", "linear", "activation_backward", "linear_backward", "loss_and_gradient"),
    *("optimizer_step", "muon_step", "output_step"),
}


class NumbaBackend(NumpyBackend):
    """NumPy's BLAS and row blocks with compiled layers, losses and optimizers; parameters as `NumpyBackend`."""

    name = "numba"
    fused_bodies = NUMBA_BODIES
    block_bytes = 1_400_000  # compiled calls are cheap, so that blocks can fit the nearest caches

    host: CompiledHost

    def _make_host(self, threads: int | None) -> Host:
        return CompiledHost(threads)

    def describe(self) -> dict[str, Any]:
        """Return what NumPy's backend returns, Numba's version, and whether compiled code found the BLAS."""
        return super().describe() | {
            "numba": metadata.version("numba"),
            "compiled_layers": self.host.gemm is not None,
        }

    @property
    def preparation(self) -> str | None:
        """A notice that the step is compiled first; None if its code is on disk."""
        if self.fused == "never" or (found := has_code(execute)):
            return None
        how_often = "once" if found is False else "each time, since no folder for its code is writable"
        return f"the step is compiled for this processor, {how_often}: some ten seconds"

    # -- whole steps: the hooks ------------------------------------------------------------------------

    def device_state(
        self,
        num_rates: int,
        max_steps: int,
        orders: Sequence[tuple[int, int, int]],
        losses: tuple[tuple[int, ...], str],
    ) -> DeviceState | None:
        """See `Backend.device_state`; None if compiled code found no BLAS."""
        if self.host.gemm is None or self.fused == "never":
            return None
        return HostState(self.host, num_rates, max_steps, orders)

    def steps_at_once(self, flops: float) -> int:
        """Return the steps of about a fiftieth of a second, so that interrupts are served soon."""
        return int(min(max(_FLOPS_AT_ONCE / max(flops, 1.0), 1), _MAX_STEPS_AT_ONCE))

    def capture(self, step: Callable[[], None], warm_up: int = 2) -> Callable[[], None]:
        """Record `step`, which computes nothing yet, and return a callable that runs the recording."""
        recording = Recording(self.threads)
        routed = {name: getattr(self, name) for name in primitives_of(type(self)) if name not in _RECORDED}
        for name, route in routed.items():
            setattr(self, name, functools.partial(self._unrecorded, name, route))
        self.host.recording = recording
        try:
            step()
        finally:
            self.host.recording = None
            for name, route in routed.items():
                setattr(self, name, route)
        return functools.partial(self._replay, recording, recording.programs())

    def _unrecorded(self, name: str, route: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a primitive without a compiled body; raise in a thread that records."""
        if self.host.recording is not None:
            raise NotRecordedError(f"{name}: no compiled body")
        return route(*args, **kwargs)

    def _replay(self, recording: Any, programs: list[Any]) -> None:
        """Run the programs of a recording, which keeps their arrays alive."""
        barrier = recording.barrier
        barrier.reset()
        gemm, like = self.host.gemm_of(recording.dtype), self.host.reuse("like", (1,), recording.dtype)
        argument = barrier.argument()
        tasks = [functools.partial(execute, program, gemm, like, argument) for program in programs]
        self.run_workers(tasks, barrier.abort)

    def _min_worker_rows(self, row_bytes: int, row_flops: int) -> int:
        """Return the rows whose activations, for two workers, have as many bytes as the weights.

        Workers with their own rows exchange gradients, workers with their own columns exchange activations; the
        exchange through the shared cache decides.
        """
        weight_bytes = 4 * row_flops // _FLOPS_PER_WEIGHT
        return max(_MIN_WORKER_ROWS, weight_bytes // max(2 * row_bytes, 1))

    def total(self, values: Sequence[Array]) -> Array:
        """Return the sum of arrays of one shape, in their order."""
        if self.host.recording is None or len(values) == 1:
            return super().total(values)
        y = np.empty(values[0].shape, values[0].dtype)
        addresses = np.array([address_of(value) for value in values], np.int64)
        fields = {"gradients": address_of(addresses), "num_gradients": len(values), "units": y.size}
        total = instruction(instructions.SUM, **fields, y=address_of(y))
        self.host.do([total], addresses, y, *values, dtype=y.dtype)
        return pending(y)

    def joined(self, values: Sequence[Array]) -> Array:
        """Return vectors (n,) joined into one."""
        if self.host.recording is None:
            return super().joined(values)
        sizes = [value.size for value in values]
        y = np.empty(sum(sizes), values[0].dtype)
        starts = np.cumsum([0, *sizes[:-1]])
        program = [
            instruction(instructions.JOIN, x=address_of(value), y=address_of(y), first=start, units=value.size)
            for value, start in zip(values, starts.tolist(), strict=True)
        ]
        self.host.do([np.concatenate(program)], y, *values, dtype=y.dtype)
        return pending(y)

    def chosen(self, numbers: Array, index: Array) -> Array:
        """Return numbers (n,) or (K, n) at places (B,) or (K, B) of the last axis."""
        if self.host.recording is None:
            return super().chosen(numbers, index)
        return self.take_rows(numbers[..., None], index)[..., 0]
