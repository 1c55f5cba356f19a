"""The losses of a run's steps: what each batch had before its step, as it comes from the device."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of a long run the last so many are kept: four megabytes.
MOST_STEPS = 2**20
_RECENT = 64


class StepLosses:
    """Gathers losses in the order of the steps; shape (n,), or (n, K) of networks trained together."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.floating]] = []
        self._count = 0

    def add(self, losses: NDArray[np.floating]) -> None:
        """Append the next losses; the oldest go where there are too many."""
        if not len(losses):
            return
        self._parts.append(losses)
        self._count += len(losses)
        if self._count > 2 * MOST_STEPS:
            self._parts = [self.array]
            self._count = len(self._parts[0])

    def drop_last(self, count: int) -> None:
        """Drop the losses of the last `count` steps, which were taken back."""
        if count:
            self._parts = [self.array[:-count]]
            self._count = len(self._parts[0])

    @property
    def array(self) -> NDArray[np.floating]:
        """All that are kept, the last `MOST_STEPS` at most."""
        return np.concatenate(self._parts)[-MOST_STEPS:] if self._parts else np.empty(0, np.float32)

    def of_member(self, k: int) -> NDArray[np.floating]:
        """Return the losses (n,) of one of the networks."""
        losses = self.array
        return losses[:, k] if losses.ndim > 1 else losses

    @property
    def has_diverged(self) -> bool:
        """Whether the latest loss of each network is not finite: no later one can be."""
        return self._count > 0 and not np.isfinite(self._parts[-1][-1]).any()

    @property
    def recent_mean(self) -> float | None:
        """Mean of the latest losses of one network; None where there is none."""
        return float(np.mean(self._parts[-1][-_RECENT:], dtype=np.float64)) if self._count else None
