"""Progress that callbacks are told, and the state that a run resumes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import State
from ..models.rendering import Rendered
from .member import HistoryRow, Member

HISTORY_COLUMNS = ("step", "seconds", "loss", "psnr_train", "psnr_held_out", "psnr", "learning_rate")

MOST_RENDERED = 512
"""Pixels of the longer side at which a picture of tiles is rendered during training."""
CALLBACK_SECONDS = 0.2
"""Seconds between two calls of a callback, at least."""
CHECKPOINT_SECONDS = 30.0
"""Seconds between two checkpoints, at least."""

Models = Callable[[], Sequence[Rendered]]
"""Returns the models of a run as they are now."""


def no_models() -> Sequence[Rendered]:
    """Return no models: of progress that was made by hand."""
    return ()


@dataclass(frozen=True)
class Progress:
    """What a callback is told a few times a second and after each evaluation, whatever is trained.

    Of tiles, `step` of `steps` tiles are finished.
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
    psnr: float | None = None
    """In dB, of the latest row, or of all tiles so far; None before the first figures."""
    tiles: int = 0
    """Tiles of the picture; 0 where networks learn it as a whole."""
    groups: int = 0
    """Groups of tiles that have been trained since the last chunk of them was finished."""
    pixels: int = 0
    """Pixels that tiles have learned; those of tiles under way count by the share of their steps."""
    total_pixels: int = 0
    """Pixels of a picture that tiles learn."""
    models_now: Models = field(default=no_models, repr=False, compare=False)

    @property
    def done(self) -> int:
        """Tiles that are finished."""
        return self.step if self.tiles else 0

    @property
    def models(self) -> Sequence[Rendered]:
        """The models as they are now: one of each network, or one of all tiles."""
        return self.models_now()

    @property
    def model(self) -> Rendered:
        """The first model as it is now."""
        return self.models[0]

    def with_row(self, row: HistoryRow | None, **changes: Any) -> Self:
        """Return a copy that tells another row."""
        return dataclasses.replace(self, row=row, psnr=None if row is None else row["psnr"], **changes)

    def render(self, height: int | None = None, width: int | None = None) -> NDArray[np.floating]:
        """Return the first model's picture (H, W, C) in [0, 1] as it is now; see `Model.render`.

        Of tiles, without a size, the longer side has `MOST_RENDERED` pixels at most. Pixels of which nothing is
        known yet are NaN.
        """
        model = self.model
        own = model.picture
        longer = max(own.height, own.width)
        if self.tiles and height is None and width is None and longer > MOST_RENDERED:
            height, width = (max(1, side * MOST_RENDERED // longer) for side in (own.height, own.width))
        return model.render(height, width)


@dataclass
class TrainingState:
    """All that a run needs to go on as if it had never stopped; arrays on the host, shape (P,)."""

    step: int
    seconds: float
    parameters: NDArray[np.floating] = field(repr=False)
    optimizer: dict[str, NDArray[np.floating]] = field(repr=False)
    encoder_state: State = field(repr=False)
    """What the encoder has beside its parameters."""
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
