"""The job of one network, and which jobs can be trained together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import FitConfig
from ..encoders.registry import encoding_of
from ..signals.signal import Signal

# Settings that may differ between networks that are trained together.
_FREE = (
    "encoding",
    "sigma",
    "seed",
    "learning_rate",
    "schedule",
    "warmup_steps",
    "final_factor",
    "loss",
    "delta",
    "initializer",
    "output_start",
    "train_on",
    "size",
    "background",
)


@dataclass(frozen=True)
class Job:
    """One network to train."""

    signal: Signal
    config: FitConfig
    known: NDArray[np.bool_] | None = None
    """(*samples), the samples that training may see; None for those of `config.train_on`."""
    weights: NDArray[np.floating] | None = None
    """(*samples), relative weights in training; figures count all alike."""

    @property
    def shape_key(self) -> tuple[object, ...]:
        """A key that is equal for jobs that can be trained together."""
        settings = vars(self.config)
        fixed = tuple((name, value) for name, value in settings.items() if name not in _FREE)
        num_pixels = None if self.known is None else int(self.known.sum())
        train_on = self.config.train_on if self.known is None else ""
        encoding = encoding_of(self.config, self.signal.shape)
        learned = (self.config.encoding, *encoding.parameter_shapes().items()) if encoding.learns else ()
        points = None if self.signal.coordinates is None else self.signal.digest
        alike = (
            self.signal.pixels.shape,
            self.signal.shape,
            num_pixels,
            train_on,
            self.weights is None,
            points,
        )
        return (*fixed, *alike, *learned)


def group_by_shape(jobs: Sequence[Job]) -> list[list[int]]:
    """Return the indices of jobs that can be trained together, in groups ordered by their first jobs."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(job.shape_key, []).append(index)
    return list(groups.values())
