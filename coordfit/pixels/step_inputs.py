"""What changes from step to step: which pixels the batch holds, and the learning rates.

The host asks for a step's batch and rates by the step's number. A device that counts its own steps asks for
the same once, as numbers that its kernels understand, and for the learning rates of some steps ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from .batch_order import BatchOrder

Order = tuple[int, int, int]


class StepInputs:
    """Batches and learning rates of one network, or of K that are trained together.

    Parameters
    ----------
    rates : callable
        From the number of steps taken to the learning rate of the next: (1,) for all members, or (K,).
    orders : sequence of BatchOrder
        One for all members or one for each; empty where every batch is all training pixels in order.
    numbers : sequence of integer arrays (n,), optional
        Which pixels the orders count, for all members or for each; None where they count all.
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
        """Numbers of the pixels of the step after `step` steps: (B,), (K, B), or None for all in order."""
        chosen = [order.batch(step) for order in self.orders]
        if self.numbers is not None:
            chosen = [numbers[chosen[k]] if self.orders else numbers for k, numbers in enumerate(self.numbers)]
        if not chosen:
            return None
        return chosen[0] if len(chosen) == 1 else np.stack(chosen)

    def rate(self, step: int) -> float | NDArray[np.float64]:
        """The learning rate of the step after `step` steps: a number, or (K, 1) where members differ."""
        rates = self.rates(step)
        return rates[0] if len(set(rates)) == 1 else np.array(rates)[:, None]

    def rates_ahead(self, step: int, count: int) -> NDArray[np.float64]:
        """Learning rates of `count` steps, shape (count, 1) or (count, K)."""
        return np.array([self.rates(step + s) for s in range(count)], dtype=np.float64)

    def order_numbers(self) -> list[Order]:
        """The orders as (n, batch size, seed)."""
        return [(order.n, order.batch_size, order.seed) for order in self.orders]

    def numbers_on(self, backend: Backend) -> Array | None:
        """The numbers of the pixels on the device, (n,) or (K, n); None where all are counted."""
        if self.numbers is None:
            return None
        return backend.asarray(self.numbers[0] if len(self.numbers) == 1 else np.stack(self.numbers))
