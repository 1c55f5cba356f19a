"""The step's number, learning rates and batch in memory that a recorded step reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..protocols import Array
from .compiled.addresses import address_of
from .compiled.instructions import BATCH_ORDER, COUNT, instruction, shared_out
from .host import CompiledHost
from .recording import pending

_PART = 64  # fewer places of a batch are not worth a worker


class HostState:
    """`backends.DeviceState` for compiled steps, with arguments of `Backend.device_state`."""

    def __init__(
        self, host: CompiledHost, num_rates: int, max_steps: int, orders: Sequence[tuple[int, int, int]]
    ) -> None:
        self._host = host
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
        """Set the number of steps taken."""
        self._counter[0] = step

    def put_rates(self, rates: NDArray[Any]) -> None:
        """Set the learning rates (n, num_rates) of the next n steps."""
        self._table[: len(rates)] = rates

    def send_losses(self, count: int) -> None:
        """Copy the losses of the last `count` steps."""
        self._arrived.append(np.array(self._losses[count]))

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """Return the losses (n, *E) of the steps since the last call, in order."""
        found, self._arrived = self._arrived, []
        return found

    def loss_buffer(self, place: int) -> Array | None:
        """Return None: a recorded step has its own memory for each loss."""
        return None

    def keep_losses(self, values: Sequence[Array]) -> None:
        """Keep the memory into which the steps that are recorded together write their losses."""
        self._losses[len(values)] = [value.view(np.ndarray) for value in values]

    def batch(self) -> Array | None:
        """Return the pixel numbers of the next batch: (B,) for all members, or (K, B)."""
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
        parts = shared_out(whole, columns=self._host.parts(size, _PART))
        self._host.do(parts, batch, self._seeds, self._counter, dtype=None)
        return pending(batch[0] if members == 1 else batch)

    def advance(self) -> None:
        """Count one step."""
        self._host.do([instruction(COUNT, counter=address_of(self._counter))], self._counter, dtype=None)

    def rate(self, place: int) -> Array:
        """Return the learning rates of step `place` since the last refill: (1,), or (K, 1) in float64."""
        return pending(self._table[place].reshape(self._shape))
