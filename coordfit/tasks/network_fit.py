"""One network in training, as a job begins it: what a run folder and a command ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..files import printable
from ..models.model import Model
from ..training.member import HistoryRow
from ..training.result import FitResult
from ..training.state import Callback, Checkpoint, ShouldStop, TrainingState
from ..training.trainer import Trainer
from .average import AverageTrainer

CHECKPOINT = "checkpoint.safetensors"


class NetworkFit:
    """One network in training, or several whose mean is one: what a job begins."""

    writes_history: ClassVar[bool] = True

    files: ClassVar[tuple[str, ...]] = ()
    """What it makes in a folder when it begins: no checkpoint yet."""

    def __init__(
        self,
        trainer: Trainer | AverageTrainer,
        state: TrainingState | None = None,
        folder: Path | None = None,
    ) -> None:
        self.trainer, self._state, self._folder = trainer, state, folder
        self._had_begun = folder is not None and (folder / "config.json").exists()

    @property
    def model(self) -> Model:
        """The model that is trained, or the mean of several."""
        return self.trainer.model

    @property
    def history(self) -> list[HistoryRow]:
        """One row for each evaluation so far."""
        return self.trainer.history

    @property
    def model_so_far(self) -> Model | None:
        """The model as it is, if it has figures."""
        return self.model if self.history else None

    @property
    def resumed(self) -> str:
        """What a run that is to go on has found, in words."""
        if self._state is None:
            where = "memory" if self._folder is None else printable(self._folder)
            if self._had_begun:
                return f"the run in {where} had saved nothing yet: it begins again"
            return f"no run to resume in {where}: a new one begins there"
        return f"going on from step {self._state.step}"

    @property
    def saved(self) -> str:
        """What of a run that was cut short is on disk, in words."""
        is_there = self._folder is not None and (self._folder / CHECKPOINT).exists()
        return "the run so far is saved" if is_there else "nothing was learned yet"

    def remove_what_is_saved(self) -> None:
        """Keep the checkpoint: a finished run may go on with a larger budget."""

    def run(
        self,
        callback: Callback | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        should_stop: ShouldStop | None = None,
    ) -> FitResult:
        """Train until a budget is spent; see `Trainer.run`."""
        [result] = self.trainer.run(callback, checkpoint=checkpoint, should_stop=should_stop)
        return result
