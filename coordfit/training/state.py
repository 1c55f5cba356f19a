"""The progress that callbacks get, and the state from which a run resumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import State
from ..models.rendering import Drawable
from .member import HistoryRow, Member

if TYPE_CHECKING:
    from .result import FitResult

HISTORY_COLUMNS = ("step", "seconds", "loss", "psnr_train", "psnr_held_out", "psnr", "learning_rate")

MOST_RENDERED = 512
"""Pixels of the longer side at which a picture of tiles is rendered during training."""
CALLBACK_SECONDS = 0.2
"""Seconds between two calls of a callback, at least."""
CHECKPOINT_SECONDS = 30.0
"""Seconds between two checkpoints, at least."""

Models = Callable[[], Sequence[Drawable]]
"""Returns the models of a run as they are now."""


def no_models() -> Sequence[Drawable]:
    """Return no models, for progress without a run."""
    return ()


@dataclass(frozen=True)
class _Kept:
    """Models that stay as they were."""

    models: Sequence[Drawable]

    def __call__(self) -> Sequence[Drawable]:
        return self.models


@dataclass(frozen=True)
class Progress:
    """What a callback gets a few times a second and after each evaluation.

    For tiles, `step` is the number of finished tiles and `steps` that of all tiles.
    """

    step: int
    """Steps taken so far; with a new row, the step of that row."""
    steps: int
    """End of the present schedule; see `is_estimate`."""
    seconds: float
    """Seconds of training so far, without evaluations."""
    steps_per_second: float = 0.0
    row: HistoryRow | None = field(default=None, repr=False)
    """The latest row of the history; for several networks, of the first one that has not diverged."""
    evaluated: bool = False
    """Whether that row is new."""
    batch_loss: float | None = None
    """Mean of the latest known losses of batches, before their steps; None before the first."""
    members: Sequence[Member] = field(default=(), repr=False)
    """The networks in the order of the jobs, with their settings and histories; empty for tiles."""
    psnr: float | None = None
    """In dB, from the latest row, or of all tiles so far; None before the first figures."""
    tiles: int = 0
    """Number of tiles; 0 if networks learn the whole picture."""
    groups: int = 0
    """Groups of tiles that have been trained in the present chunk."""
    pixels: int = 0
    """Pixels that tiles have learned; tiles in training count by their share of steps."""
    total_pixels: int = 0
    """All pixels of a picture that tiles learn."""
    is_estimate: bool = False
    """Whether `steps` is an estimate, as of a budget of seconds; 1 or more even before the first step."""
    models_now: Models = field(default=no_models, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle or a copy holds: the models as they are now, and no members."""
        return vars(self) | {"members": (), "models_now": _Kept(list(self.models))}

    @property
    def done(self) -> int:
        """Number of finished tiles."""
        return self.step if self.tiles else 0

    @property
    def models(self) -> Sequence[Drawable]:
        """The present models: one for each network, or one for all tiles."""
        return self.models_now()

    @property
    def model(self) -> Drawable:
        """The first of the present models."""
        return self.models[0]

    def with_row(self, row: HistoryRow | None, **changes: Any) -> Self:
        """Return a copy with another row."""
        return dataclasses.replace(self, row=row, psnr=None if row is None else row["psnr"], **changes)

    def render(self, height: int | None = None, width: int | None = None) -> NDArray[np.floating]:
        """Return the present picture (H, W, C) of the first model, in [0, 1]; see `Model.render`.

        For tiles the longer side has at most `MOST_RENDERED` pixels by default; pixels that are not learned yet
        are NaN.
        """
        model = self.model
        own = model.signal
        longer = max(own.height, own.width)
        if self.tiles and height is None and width is None and longer > MOST_RENDERED:
            height, width = (max(1, side * MOST_RENDERED // longer) for side in (own.height, own.width))
        return model.render(height, width)


class RunningFit:
    """What a folder asks of a fit that has begun."""

    files: ClassVar[tuple[str, ...]] = ()
    """Files that it makes in a folder at its start."""
    history_columns: ClassVar[tuple[str, ...]] = HISTORY_COLUMNS
    """Of `history.csv`; none if its rows are no curve."""
    model_file: ClassVar[str] = "model.safetensors"
    has_first_look: ClassVar[bool] = False
    """Whether it has a picture to show before its first step."""

    def run(
        self,
        callback: Callback | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        should_stop: ShouldStop | None = None,
    ) -> FitResult:
        """Train until a budget is spent, the callback returns True, or `should_stop` does."""
        raise NotImplementedError


@dataclass
class TrainingState:
    """What a run needs to go on as if it had never stopped; arrays on the host, shape (P,)."""

    step: int
    seconds: float
    parameters: NDArray[np.floating] = field(repr=False)
    optimizer: dict[str, NDArray[np.floating]] = field(repr=False)
    encoder_state: State = field(repr=False)
    """The encoder's arrays that are not trained."""
    picture_digest: str
    history: list[HistoryRow] = field(default_factory=list, repr=False)


Callback = Callable[[Progress], bool | None]
"""Called with each `Progress`; True stops the run, which ends as if its budget were spent."""
Checkpoint = Callable[[TrainingState], None]
"""Called with the state of a run every half minute and at its end."""
ShouldStop = Callable[[], bool]
"""Called after each step; True ends the run, with an evaluation."""
Trial = Callable[[int, int], object]
"""Called with the steps taken and all steps, a few times a second."""
