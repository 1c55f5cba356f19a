"""The inputs of a step: its batch of pixels and its learning rates.

The host computes them from the step's number. A device that counts its own steps gets the orders and numbers of
pixels once, and the learning rates of several steps ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend
from .batch_order import BatchOrder

Order = tuple[int, int, int]


class StepInputs:
    """Batches and learning rates of one network, or of K that are trained together.

    `rates` returns the learning rates after a number of steps: (1,) for all members, or (K,). There is one
    order of batches for all members or one for each; none if every batch is all training pixels. Orders count
    the pixels of `numbers`, arrays (n,) for all members or for each; None means all pixels.
    """

    def __init__(
        self,
        rates: Callable[[int], Sequence[float]],
        orders: Sequence[BatchOrder] = (),
        numbers: Sequence[NDArray[np.int64]] | None = None,
    ) -> None:
        self.rates = rates
        self.orders = list(orders)
        self.numbers = None if numbers is None else list(numbers)

    def batch(self, step: int) -> NDArray[np.int64] | None:
        """Return the pixels of the step after `step` steps: (B,), (K, B), or None for all in order."""
        chosen = [order.batch(step) for order in self.orders]
        if self.numbers is not None:
            chosen = [numbers[chosen[k]] if self.orders else numbers for k, numbers in enumerate(self.numbers)]
        if not chosen:
            return None
        return chosen[0] if len(chosen) == 1 else np.stack(chosen)

    def rate(self, step: int) -> float | NDArray[np.float64]:
        """Return the learning rate of the step after `step` steps: a number, or (K, 1) if members differ."""
        rates = self.rates(step)
        return rates[0] if len(set(rates)) == 1 else np.array(rates)[:, None]

    def rates_ahead(self, step: int, count: int) -> NDArray[np.float64]:
        """Return the learning rates (count, 1) or (count, K) of `count` steps."""
        return np.array([self.rates(step + s) for s in range(count)], dtype=np.float64)

    def order_numbers(self) -> list[Order]:
        """Return the orders as (n, batch size, seed)."""
        return [(order.n, order.batch_size, order.seed) for order in self.orders]

    def numbers_on(self, backend: Backend) -> Array | None:
        """Return `numbers` on the device, (n,) or (K, n); None for all pixels."""
        if self.numbers is None:
            return None
        return backend.asarray(self.numbers[0] if len(self.numbers) == 1 else np.stack(self.numbers))
