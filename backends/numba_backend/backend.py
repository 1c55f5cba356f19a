"""The CPU backend whose primitives are compiled by Numba, and whose steps are recorded as programs of them."""

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
from . import compiled
from .bodies import NUMBA_BODIES
from .compiled import address_of, instruction
from .host import CompiledHost
from .host_state import HostState
from .recording import Recording, pending

# Operations that one call may do before the interpreter has a say again: about a fiftieth of a second.
_FLOPS_AT_ONCE = 2e9
_MAX_STEPS_AT_ONCE = 16
_MIN_WORKER_ROWS = 64
_FLOPS_OF_A_WEIGHT = 6  # in a step, for each row: forward, dW and dx
_RECORDED = {
    *("take_rows", "linear", "activation_backward", "linear_backward", "loss_and_gradient"),
    *("optimizer_step", "muon_step", "output_step"),
}


class NumbaBackend(NumpyBackend):
    """NumPy's BLAS and row blocks; layers, losses and optimizers compiled, and recorded as whole steps.

    Parameters as of `NumpyBackend`.
    """

    name = "numba"
    fused_bodies = NUMBA_BODIES
    block_bytes = 1_400_000  # compiled calls cost little, so that blocks need not outgrow the nearest caches

    host: CompiledHost

    def _make_host(self, threads: int | None) -> Host:
        return CompiledHost(threads)

    def describe(self) -> dict[str, Any]:
        """As of NumPy's backend, the compiler, and whether compiled code found the BLAS."""
        return super().describe() | {
            "numba": metadata.version("numba"),
            "compiled_layers": self.host.gemm is not None,
        }

    @property
    def preparation(self) -> str | None:
        """In words, that the step is compiled first; None where its code is on disk."""
        if self.fused == "never" or (found := compiled.has_code(compiled.execute)):
            return None
        how_often = "once" if found is False else "each time, for there is nowhere to keep the code"
        return f"the step is compiled for this processor, {how_often}: some ten seconds"

    # -- whole steps: the hooks ------------------------------------------------------------------------

    def device_state(
        self,
        num_rates: int,
        max_steps: int,
        orders: Sequence[tuple[int, int, int]],
        losses: tuple[tuple[int, ...], str],
    ) -> DeviceState | None:
        """The state that recorded steps read; None where there is no BLAS to record products of."""
        if self.host.gemm is None or self.fused == "never":
            return None
        state: DeviceState = HostState(self.host.do, self.host.parts, num_rates, max_steps, orders)
        return state

    def steps_at_once(self, flops: float) -> int:
        """So many that an interrupt is served within a fiftieth of a second, or at the next step."""
        return int(min(max(_FLOPS_AT_ONCE / max(flops, 1.0), 1), _MAX_STEPS_AT_ONCE))

    def capture(self, step: Callable[[], None], warm_up: int = 2) -> Callable[[], None]:
        """Record `step`, which computes nothing now; what is returned runs it without the interpreter."""
        recording = Recording(self.threads)
        routed = {name: getattr(self, name) for name in primitives_of(type(self)) if name not in _RECORDED}
        for name, route in routed.items():
            setattr(self, name, functools.partial(self._outside_of_a_recording, name, route))
        self.host.recording = recording
        try:
            step()
        finally:
            self.host.recording = None
            for name, route in routed.items():
                setattr(self, name, route)
        return functools.partial(self._replay, recording, recording.programs())

    def _outside_of_a_recording(self, name: str, route: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a primitive that has no compiled body, in a thread that does not record."""
        if self.host.recording is not None:
            raise NotRecordedError(f"{name}: no compiled body")
        return route(*args, **kwargs)

    def _replay(self, recording: Any, programs: list[Any]) -> None:
        """Run the programs of a recording, whose arrays live as long as it does."""
        barrier = recording.barrier
        barrier.mend()
        gemm, like = self.host.gemm_of(recording.dtype), self.host.reuse("like", (1,), recording.dtype)
        execute, meeting = compiled.execute, barrier.argument()
        tasks = [functools.partial(execute, program, gemm, like, meeting) for program in programs]
        self.run_workers(tasks, barrier.break_up)

    def _min_worker_rows(self, row_bytes: int, row_flops: int) -> int:
        """As many as have the bytes of the weights, among two workers.

        What is computed by one core and read by another costs its way through the cache between them. Workers
        with rows of their own exchange gradients, workers that share layers by columns exchange activations.
        """
        weight_bytes = 4 * row_flops // _FLOPS_OF_A_WEIGHT
        return max(_MIN_WORKER_ROWS, weight_bytes // max(2 * row_bytes, 1))

    def total(self, values: Sequence[Array]) -> Array:
        """The sum of arrays of one shape, in their order."""
        if self.host.recording is None or len(values) == 1:
            return super().total(values)
        y = np.empty(values[0].shape, values[0].dtype)
        addresses = np.array([address_of(value) for value in values], np.int64)
        fields = {"gradients": address_of(addresses), "num_gradients": len(values), "units": y.size}
        total = instruction(compiled.SUM, **fields, y=address_of(y))
        self.host.do([total], addresses, y, *values, dtype=y.dtype)
        return pending(y)

    def joined(self, values: Sequence[Array]) -> Array:
        """Vectors (n,) one behind the other."""
        if self.host.recording is None:
            return super().joined(values)
        sizes = [value.size for value in values]
        y = np.empty(sum(sizes), values[0].dtype)
        starts = np.cumsum([0, *sizes[:-1]])
        program = [
            instruction(compiled.JOIN, x=address_of(value), y=address_of(y), first=start, units=value.size)
            for value, start in zip(values, starts.tolist(), strict=True)
        ]
        self.host.do([np.concatenate(program)], y, *values, dtype=y.dtype)
        return pending(y)

    def chosen(self, numbers: Array, index: Array) -> Array:
        """Numbers (n,) or (K, n) at places (B,) or (K, B) of the last axis."""
        if self.host.recording is None:
            return super().chosen(numbers, index)
        return self.take_rows(numbers[..., None], index)[..., 0]
