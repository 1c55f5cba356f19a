"""`Backend`: an array module on one device, with the primitives of a training step and the hooks of its loop.

The generic bodies of the primitives are in `primitives`; what they are given is named in `protocols`.
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
    """An array module `xp` on one device, with the primitives that a training step is made of.

    Parameters
    ----------
    fused : {"auto", "always", "never"}
        Whether primitives take their fused bodies: where they can, always (an error where they cannot),
        or never (the generic bodies are the reference).
    context : object, optional
        What fused bodies get as their first argument: the buffers, threads, streams that they share.
    """

    name: str = "generic"
    device: str = "cpu"
    xp: Any
    precision: str = "float32"
    """Of products of float32 arrays; see `get_backend`."""
    loss_scale: float = 1.0
    """What float32 gradients are multiplied by on their way from the loss to the optimizer, which divides."""
    fallback_reason: str | None = None
    """Why `auto` did not take the GPU, where it did not."""
    group_bytes: int = 256 * 2**20
    """Bytes of activations that many small networks should have together, where they are trained in groups."""
    fused_bodies: ClassVar[tuple[Callable[[Any, Any], Any], ...]] = ()
    """Marked by `dispatch.fused`; of two for one primitive the later one counts."""

    def __init__(self, fused: str = "auto", context: Any = None) -> None:
        self.fused = fused
        self._routes = install_routes(self, context, fused)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(device={self.device!r}, fused={self.fused!r})"

    # -- what there is -------------------------------------------------------------------------------

    @property
    def preparation(self) -> str | None:
        """In words, what will take time before the first step; None where nothing does."""
        return None

    @property
    def relu_hides_nan(self) -> bool:
        """Whether a fused ReLU turns NaN into 0; a run that diverges is then told by its loss alone."""
        return False

    def routes(self) -> dict[str, dict[str, int]]:
        """Calls of each primitive so far by route, as `{"linear": {"fused": 12}, ...}`."""
        return self._routes.totals()

    def describe(self) -> dict[str, Any]:
        """What runs the arithmetic: library, version, device and the like, for reports."""
        return {"backend": self.name, "device": self.device, "library": getattr(self.xp, "__version__", None)}

    def limits(self) -> list[str]:
        """What keeps this device below its best, a line each with the cure where there is one."""
        return []

    def memory_in_use(self) -> int | None:
        """Bytes that the device holds for arrays, or None where nobody counts them."""
        return None

    def free_memory(self) -> int | None:
        """Bytes that arrays may still take before anything is asked for, or None where the allocator tells."""
        return None

    # -- arrays, transfer, synchronisation -----------------------------------------------------------

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """Move an array (host or device) to this backend's device, as `dtype` where one is named."""
        return self.xp.asarray(array, dtype=self.dtype(dtype))

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy an array to the host. The only way back; it waits for the device."""
        return np.asarray(array)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return a new array of zeros on the device."""
        return self.xp.zeros(shape, dtype=self.dtype(dtype))

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return a buffer to offer as `out=`, or None where the generic bodies could not use one."""
        return None

    def stored_dtype(self, dtype: str) -> str:
        """In which dtype hidden activations and features of a network of `dtype` are kept.

        Another one only where products take operands of fewer bits. An `out=` of it then says that a result is
        to be kept so; parameters, gradients, losses and outputs keep `dtype`.
        """
        return dtype

    def as_numbers(self, array: Array) -> Array:
        """Activations for arithmetic on `xp`: as they are, or in float32 where they are kept in 16 bits."""
        return array

    def parameters_changed(self, parameters: Array) -> None:
        """Say that others than the optimizer may have written to a flat buffer of parameters (*E, P).

        To be said before every stretch of work on it: a backend may keep a copy in fewer bits.
        """

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked to do."""

    def activate(self) -> AbstractContextManager[None]:
        """Hold threads, streams and library settings for a stretch of work; give them back at the end."""
        return contextlib.nullcontext()

    # -- the two hooks -------------------------------------------------------------------------------

    def partition(self, num_rows: int, num_members: int, row_bytes: int, row_flops: int) -> list[Partition]:
        """Cut a batch into blocks of rows and deal them to workers, members too where that is better.

        Parameters
        ----------
        num_rows : int
            Rows to deal out, 1 or more.
        num_members : int
            Networks that each see all rows.
        row_bytes, row_flops : int
            Bytes of activations that one row of one member keeps alive, and operations that it costs: for
            blocks that stay in cache, and to tell work worth a second thread.

        Returns
        -------
        shares : list of Share
            One for each worker: either all have all members and different rows, or different members and
            all rows.
        """
        return [Partition([None], [slice(0, num_rows)])]

    def run_workers(
        self, tasks: Sequence[Callable[[], None]], cancel: Callable[[], None] | None = None
    ) -> None:
        """Run one task for each worker, side by side where the backend can, and wait for all.

        `cancel` is called where one fails beside others, which may end early then.
        """
        for task in tasks:
            task()

    def chosen(self, numbers: Array, index: Array) -> Array:
        """Numbers (n,) or (K, n) at places (B,) or (K, B) of the last axis."""
        if numbers.ndim == 1:
            return self.xp.take(numbers, index)
        return self.xp.take_along_axis(numbers, index, axis=-1)

    def total(self, values: Sequence[Array]) -> Array:
        """The sum of arrays of one shape, in their order."""
        return functools.reduce(operator.add, values)

    def joined(self, values: Sequence[Array]) -> Array:
        """Vectors (n,) one behind the other."""
        return self.xp.concat(values)

    def per_worker_backends(self) -> list[Backend]:
        """Backends that do work of their own side by side, one for each worker; `run_workers` runs them.

        Where the device takes all work in one queue, that is this backend alone.
        """
        return [self]

    def capture(self, step: Callable[[], None], warm_up: int = 2) -> Callable[[], None]:
        """Return a callable that does what `step` does, once for each call; a GPU may record and replay it.

        Parameters
        ----------
        step : callable
            Does the same at every call, on the same arrays; what changes between calls is in those arrays.
            It leaves nothing behind on the host that would have to be done again at a replay.
        warm_up : int
            Calls that run `step` as it is before one is recorded.

        Raises
        ------
        NotRecordedError
            Where the backend sees at once that the step cannot be recorded.
        """
        return step

    def moment(self) -> Moment:
        """The point in the device's work that it reaches when all is done that was asked for so far."""
        return HostMoment()

    def readback(self, shape: tuple[int, ...], dtype: str, in_flight: int) -> Readback:
        """A way to the host for arrays of this shape, or of fewer rows.

        Parameters
        ----------
        in_flight : int
            Copies that may be on their way, 2 or more: with so many, `send` waits for the oldest.
        """
        return HostReadback(self.to_numpy)

    def steps_at_once(self, flops: float) -> int:
        """Steps of so many operations that one call may well take: the host has no say between them."""
        return 1

    def device_state(
        self,
        num_rates: int,
        max_steps: int,
        orders: Sequence[tuple[int, int, int]],
        losses: tuple[tuple[int, ...], str],
    ) -> DeviceState | None:
        """What changes from step to step, kept by the device; None where the host drives every step.

        Parameters
        ----------
        num_rates : int
            Learning rates of a step: 1, or one for each member.
        max_steps : int
            Steps between two refills of the learning rates.
        orders : sequence of (n, batch_size, seed)
            The orders of mini-batches: one for all members, or one for each. Empty for a batch that stays.
        losses : (E, dtype)
            Shape and dtype of a step's loss.
        """
        return None
