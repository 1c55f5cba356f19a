"""What one network is to learn, and which networks can be trained together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import FitConfig
from ..encoders.registry import encoding_of
from ..images import Picture

# Settings in which networks that are trained together may differ.
FREE = (
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
    """One network to be trained.

    Attributes
    ----------
    known : boolean array (H, W), optional
        The pixels that training may see, instead of those that `config.train_on` names.
    weights : array (H, W), optional
        How much each pixel counts in training, relative to the others.
    """

    picture: Picture
    config: FitConfig
    known: NDArray[np.bool_] | None = None
    weights: NDArray[np.floating] | None = None

    @property
    def shape_key(self) -> tuple[object, ...]:
        """Equal for jobs that can be trained together."""
        settings = vars(self.config)
        fixed = tuple((name, value) for name, value in settings.items() if name not in FREE)
        num_pixels = None if self.known is None else int(self.known.sum())
        train_on = self.config.train_on if self.known is None else ""
        learned = encoding_of(self.config, self.picture.pixels.shape[:2]).parameter_shapes()
        alike = (self.picture.pixels.shape, num_pixels, train_on, self.weights is None)
        return (*fixed, *alike, *learned.items())


def group_by_shape(jobs: Sequence[Job]) -> list[list[int]]:
    """Return the indices of jobs that can be trained together, group by group, in the order of first jobs."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(job.shape_key, []).append(index)
    return list(groups.values())
