"""What changes from step to step, in memory that a recorded step reads: number, learning rates, batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..protocols import Array
from .compiled.addresses import address_of
from .compiled.instructions import BATCH_ORDER, COUNT, Program, instruction, shared_out
from .recording import pending, plain

_PART = 64  # places of a batch that are worth a worker of their own


class HostState:
    """`backends.DeviceState` for steps that compiled code takes by itself.

    Parameters
    ----------
    do : callable
        Notes instructions: (parts, *arrays, dtype).
    parts : callable
        From a number of places, and the smallest part, to the workers' slices.
    num_rates, max_steps, orders
        As of `Backend.device_state`.
    """

    def __init__(
        self,
        do: Callable[..., None],
        parts: Callable[[int, int], list[slice]],
        num_rates: int,
        max_steps: int,
        orders: Sequence[tuple[int, int, int]],
    ) -> None:
        self._do, self._parts = do, parts
        self._counter = np.zeros(1, np.int64)
        self._table = np.zeros((max_steps, num_rates))
        self._shape = (1,) if num_rates == 1 else (num_rates, 1)
        self._losses: dict[int, list[NDArray[Any]]] = {}
        self._arrived: list[NDArray[Any]] = []
        self._batch: NDArray[np.int64] | None = None
        if orders:
            self._n, size, _ = orders[0]
            self._seeds = np.array([seed for *_, seed in orders], np.int64)
            self._batch = np.zeros((len(orders), size), np.int64)

    @property
    def counter(self) -> Array:
        """The step's number, shape (1,)."""
        return pending(self._counter)

    def put_step(self, step: int) -> None:
        """Say how many steps have been taken."""
        self._counter[0] = step

    def put_rates(self, rates: NDArray[Any]) -> None:
        """Learning rates (n, num_rates) of the next n steps."""
        self._table[: len(rates)] = rates

    def send_losses(self, count: int) -> None:
        """Keep the losses of the last `count` steps, which are taken when a call returns."""
        self._arrived.append(np.array(self._losses[count]))

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """Losses (n, *E) of the steps since the last call, in order."""
        found, self._arrived = self._arrived, []
        return found

    def loss_buffer(self, place: int) -> Array | None:
        """None: a recorded step has memory of its own for each loss."""
        return None

    def keep_losses(self, values: Sequence[Array]) -> None:
        """Note where the steps that are recorded together leave their losses."""
        self._losses[len(values)] = [plain(value) for value in values]

    def batch(self) -> Array | None:
        """Numbers of the batch of the step that comes next: (B,) for all members, or (K, B)."""
        batch = self._batch
        if batch is None:
            return None
        members, size = batch.shape
        whole = instruction(
            BATCH_ORDER,
            members=members,
            rows=size,
            inputs=self._n,
            index=address_of(batch),
            index_step=batch.strides[0],
            seeds=address_of(self._seeds),
            counter=address_of(self._counter),
        )
        parts: list[Program] = shared_out(whole, columns=self._parts(size, _PART))
        self._do(parts, batch, self._seeds, self._counter, dtype=None)
        return pending(batch[0] if members == 1 else batch)

    def advance(self) -> None:
        """Count one step."""
        self._do([instruction(COUNT, counter=address_of(self._counter))], self._counter, dtype=None)

    def rate(self, place: int) -> Array:
        """The learning rates of step `place` since the last refill: (1,), or (K, 1) in float64."""
        return pending(self._table[place].reshape(self._shape))
