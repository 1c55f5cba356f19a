"""The losses of a run's steps, each of its batch before the step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Only the last ones of a long run are kept: four megabytes.
MOST_STEPS = 2**20
_RECENT = 64


class StepLosses:
    """Collects losses in the order of the steps: (n,), or (n, K) for networks trained together."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.floating]] = []
        self._count = 0

    def add(self, losses: NDArray[np.floating]) -> None:
        """Append the next losses; the oldest are dropped if there are too many."""
        if not len(losses):
            return
        self._parts.append(losses)
        self._count += len(losses)
        if self._count > 2 * MOST_STEPS:
            self._parts = [self.array]
            self._count = len(self._parts[0])

    def drop_last(self, count: int) -> None:
        """Drop the losses of the last `count` steps, which were undone."""
        if count:
            self._parts = [self.array[:-count]]
            self._count = len(self._parts[0])

    @property
    def array(self) -> NDArray[np.floating]:
        """The latest losses, at most `MOST_STEPS`."""
        return np.concatenate(self._parts)[-MOST_STEPS:] if self._parts else np.empty(0, np.float32)

    def of_member(self, k: int) -> NDArray[np.floating]:
        """Return the losses (n,) of one network."""
        losses = self.array
        return losses[:, k] if losses.ndim > 1 else losses

    @property
    def has_diverged(self) -> bool:
        """Whether the latest loss of no network is finite; then no later one can be."""
        return self._count > 0 and not np.isfinite(self._parts[-1][-1]).any()

    @property
    def recent_mean(self) -> float | None:
        """The mean of the latest losses; None before the first."""
        return float(np.mean(self._parts[-1][-_RECENT:], dtype=np.float64)) if self._count else None
