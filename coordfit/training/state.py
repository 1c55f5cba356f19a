"""Progress that callbacks are told, and the state that a run resumes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..models.rendering import Rendered
from .member import HistoryRow, Member

HISTORY_COLUMNS = ("step", "seconds", "loss", "psnr_train", "psnr_held_out", "psnr", "learning_rate")

Models = Callable[[], Sequence[Rendered]]
"""Returns the models of a run as they are now."""


def no_models() -> Sequence[Rendered]:
    """Return no models: of progress that was made by hand."""
    return ()


@dataclass(frozen=True)
class Progress:
    """What a callback is told a few times a second and after each evaluation, whatever is trained.

    Tiles count as steps: `step` of `steps` are finished, and `psnr` is that of all so far.
    """

    step: int
    """Steps taken so far; of a new row, the step that it is of."""
    steps: int
    """Where the present schedule ends, as far as is known: a budget of seconds is an estimate."""
    seconds: float
    """Seconds of training so far, evaluations left out."""
    steps_per_second: float = 0.0
    row: HistoryRow | None = None
    """The latest row of the history; of several networks, that of the first that has not diverged."""
    evaluated: bool = False
    """Whether that row is new."""
    batch_loss: float | None = None
    """Mean loss of the latest batches, before their steps, as far as it is known; None before the first."""
    members: Sequence[Member] = field(default=(), repr=False)
    """The networks in the order of the jobs, each with its settings and its history; none of tiles."""
    models_now: Models = field(default=no_models, repr=False, compare=False)

    @property
    def models(self) -> Sequence[Rendered]:
        """The models as they are now: one of each network, or one of all tiles."""
        return self.models_now()

    @property
    def model(self) -> Rendered:
        """The first model as it is now."""
        return self.models[0]

    @property
    def psnr(self) -> float | None:
        """PSNR of the latest row in dB; None before the first, and if true colours are not known."""
        return None if self.row is None else self.row["psnr"]

    def render(self, height: int | None = None, width: int | None = None) -> NDArray[np.floating]:
        """Return the first model's picture (H, W, C) in [0, 1] as it is now; see `Model.render`."""
        return self.model.render(height, width)


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
Checkpoint = Callable[[TrainingState], None]
"""Given the state of a run every half minute and at its end."""
ShouldStop = Callable[[], bool]
"""Asked after each step whether the run is to end; it ends with an evaluation then."""
Trial = Callable[[int, int], object]
"""Told of the steps taken and of all steps, a few times a second."""
