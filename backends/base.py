"""`Backend`: an array module on one device, with the primitives of a training step and the hooks of its loop.

`primitives` has the generic bodies, `calls` their arguments, `protocols` the types that callers define.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .dispatch import install_routes
from .host_readback import HostMoment, HostReadback
from .primitives import Primitives
from .protocols import Array, DeviceState, Moment, Partition, Readback


class Backend(Primitives):
    """An array module `xp` on one device, with the primitives of a training step.

    Parameters
    ----------
    fused : {"auto", "always", "never"}
        When primitives take their fused bodies: if they can, always (else an error), or never. The generic
        bodies are the reference.
    context : object, optional
        The first argument of fused bodies: the buffers, threads and streams that they share.
    """

    name: str = "generic"
    device: str = "cpu"
    xp: Any
    precision: str = "float32"
    """Precision of products of float32 arrays; see `get_backend`."""
    loss_scale: float = 1.0
    """Factor of float32 gradients between the loss and the optimizer, which divides by it."""
    fallback_reason: str | None = None
    """Why `auto` took the CPU, or None."""
    group_bytes: int = 256 * 2**20
    """Bytes of activations for a group of small networks that are trained together."""
    fused_bodies: ClassVar[tuple[Callable[[Any, Any], Any], ...]] = ()
    """Functions marked by `dispatch.fused`. Of two for one primitive, the later one counts."""

    def __init__(self, fused: str = "auto", context: Any = None) -> None:
        self.fused = fused
        self._routes = install_routes(self, context, fused)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(device={self.device!r}, fused={self.fused!r})"

    # -- reports -------------------------------------------------------------------------------------

    @property
    def preparation(self) -> str | None:
        """What takes time before the first step, in words; None if nothing does."""
        return None

    def routes(self) -> dict[str, dict[str, int]]:
        """Return the calls of each primitive so far by route, as `{"linear": {"fused": 12}, ...}`."""
        return self._routes.totals()

    def describe(self) -> dict[str, Any]:
        """Return backend, device, library and the like, for reports."""
        return {"backend": self.name, "device": self.device, "library": getattr(self.xp, "__version__", None)}

    def limits(self) -> list[str]:
        """Return what slows this device down, one line each, with the cure if there is one."""
        return []

    def memory_in_use(self) -> int | None:
        """Return the bytes that arrays take on the device, or None if they are not counted."""
        return None

    def free_memory(self) -> int | None:
        """Return the bytes left for arrays, or None if only an allocation can show it."""
        return None

    # -- arrays, transfer, synchronisation -----------------------------------------------------------

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """Move an array (host or device) to this backend's device, as `dtype` if given."""
        return self.xp.asarray(array, dtype=self.dtype(dtype))

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy an array to the host; this waits for the device."""
        return np.asarray(array)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return a new array of zeros on the device."""
        return self.xp.zeros(shape, dtype=self.dtype(dtype))

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return a buffer to offer as `out=`, or None if only generic bodies run, which use none."""
        return None

    def stored_dtype(self, dtype: str) -> str:
        """Return the dtype in which a network of `dtype` stores features and hidden activations.

        It differs only if products take operands of fewer bits. An `out=` of that dtype asks for a result in
        it; parameters, gradients, losses and outputs keep `dtype`.
        """
        return dtype

    def as_numbers(self, array: Array) -> Array:
        """Return activations for arithmetic on `xp`: in float32 if they are stored in 16 bits."""
        return array

    def parameters_changed(self, parameters: Array) -> None:
        """Update what the backend derives from a flat buffer of parameters (*E, P), such as a 16-bit copy.

        Call it before work on parameters that anything but the optimizer may have changed.
        """

    def synchronize(self) -> None:
        """Wait until the device has finished all its work."""

    def activate(self) -> AbstractContextManager[None]:
        """Hold threads, streams and library settings inside a `with` block."""
        return contextlib.nullcontext()

    # -- the two hooks -------------------------------------------------------------------------------

    def partition(self, num_rows: int, num_members: int, row_bytes: int, row_flops: int) -> list[Partition]:
        """Cut a batch into blocks of rows, and divide rows or members among workers.

        Parameters
        ----------
        num_rows : int
            Rows of the batch, 1 or more.
        num_members : int
            Networks, each of which sees all rows.
        row_bytes, row_flops : int
            Bytes of activations and operations for one row of one member. They decide which blocks fit the
            cache, and whether a second worker pays.

        Returns
        -------
        list of Partition
            One for each worker: different rows of all members, or different members with all rows.
        """
        return [Partition([None], [slice(0, num_rows)])]

    def run_workers(
        self, tasks: Sequence[Callable[[], None]], cancel: Callable[[], None] | None = None
    ) -> None:
        """Run one task for each worker, in parallel if the backend can, and wait for all.

        If a task fails, `cancel` is called, so that the others may end early.
        """
        for task in tasks:
            task()

    def chosen(self, numbers: Array, index: Array) -> Array:
        """Return numbers (n,) or (K, n) at places (B,) or (K, B) of the last axis."""
        if numbers.ndim == 1:
            return self.xp.take(numbers, index)
        return self.xp.take_along_axis(numbers, index, axis=-1)

    def total(self, values: Sequence[Array]) -> Array:
        """Return the sum of arrays of one shape, in their order."""
        return functools.reduce(operator.add, values)

    def joined(self, values: Sequence[Array]) -> Array:
        """Return vectors (n,) joined into one."""
        return self.xp.concat(values)

    def per_worker_backends(self) -> list[Backend]:
        """Return a backend for each worker of `run_workers`: this one alone if the device has one queue."""
        return [self]

    def capture(self, step: Callable[[], None], warm_up: int = 2) -> Callable[[], None]:
        """Return a callable that does what `step` does; the backend may record `step` and replay it.

        Parameters
        ----------
        step : callable
            Does the same work on the same arrays at every call, and changes nothing else on the host.
        warm_up : int
            Calls that run `step` itself before one is recorded.

        Raises
        ------
        NotRecordedError
            The backend cannot record the step.
        """
        return step

    def moment(self) -> Moment:
        """Return a moment that passes when the device has finished all work enqueued so far."""
        return HostMoment()

    def readback(self, shape: tuple[int, ...], dtype: str, in_flight: int) -> Readback:
        """Return a queue of copies to the host, for arrays of this shape or of fewer rows.

        Parameters
        ----------
        in_flight : int
            Most copies that may be pending, 2 or more; with that many, `send` waits for the oldest.
        """
        return HostReadback(self.to_numpy)

    def steps_at_once(self, flops: float) -> int:
        """Return how many steps of `flops` operations one recorded call should take."""
        return 1

    def device_state(
        self,
        num_rates: int,
        max_steps: int,
        orders: Sequence[tuple[int, int, int]],
        losses: tuple[tuple[int, ...], str],
    ) -> DeviceState | None:
        """Return what changes from step to step, kept by the device; None if the host drives every step.

        Parameters
        ----------
        num_rates : int
            Learning rates of a step: 1, or one for each member.
        max_steps : int
            Steps between two refills of the learning rates.
        orders : sequence of (n, batch_size, seed)
            The orders of mini-batches: one for all members, or one for each. Empty if the batch never changes.
        losses : (E, dtype)
            Shape and dtype of a step's loss.
        """
        return None
