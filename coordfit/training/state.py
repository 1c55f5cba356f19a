"""Progress that callbacks are told, and the state that a run resumes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .member import HistoryRow

HISTORY_COLUMNS = ("step", "seconds", "loss", "psnr_train", "psnr_held_out", "psnr", "learning_rate")


@dataclass(frozen=True)
class Progress:
    """What a callback is told, a few times a second and after each evaluation."""

    step: int
    """Steps taken so far; of a new row, the step that it is of."""
    steps: int
    """Where the present schedule ends, as far as is known: a budget of seconds is an estimate."""
    seconds: float
    """Seconds of training so far, evaluations left out."""
    steps_per_second: float
    row: HistoryRow | None
    """The latest row of the history."""
    evaluated: bool
    """Whether that row is new."""
    batch_loss: float | None = None
    """Mean loss of the latest batches, before their steps, as far as it is known; None before the first."""


@dataclass
class TrainingState:
    """All that a run needs to go on as if it had never stopped; arrays on the host, shape (P,)."""

    step: int
    seconds: float
    parameters: NDArray[np.floating] = field(repr=False)
    optimizer: dict[str, NDArray[np.floating]] = field(repr=False)
    B: NDArray[np.floating] | None = field(repr=False)
    picture_digest: str
    history: list[HistoryRow] = field(default_factory=list, repr=False)


Callback = Callable[[Progress], bool | None]
"""Called with each `Progress`; returns True to stop the run, which then ends as at the end of its budget."""
