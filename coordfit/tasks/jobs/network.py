"""The job of one network, or of several whose mean is one, and its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from ...backends import Backend, get_backend
from ...config import BUDGETS, FitConfig
from ...encoders.registry import ENCODINGS
from ...errors import ConfigError
from ...files import printable
from ...models.model import Model
from ...signals.facts import SignalFacts
from ...tiles.plan import TileOptions
from ...training.member import HistoryRow
from ...training.result import FitResult
from ...training.state import Callback, Checkpoint, RunningFit, ShouldStop, TrainingState
from ...training.trainer import Trainer, fit_together
from .average import AverageTrainer
from .base import PlannedJob
from .settings import Layer

CHECKPOINT = "checkpoint.safetensors"


class NetworkFit(RunningFit):
    """One network in training, or several whose mean is one: what a job begins."""

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
            if self._had_begun and isinstance(self.trainer, AverageTrainer):
                return f"the run in {where} begins again: a mean of networks has no checkpoint"
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


@dataclass(frozen=True)
class NetworkJob(PlannedJob):
    """A picture to be learned by one network, or by the mean of several."""

    average: int = 1
    words: str = field(default="", compare=False)
    """What was decided, if it may surprise."""
    kind: ClassVar[str] = "network"
    can_be_animated: ClassVar[bool] = True
    encodings: ClassVar[Sequence[str]] = tuple(ENCODINGS)
    """Which it takes."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the job is known by beside its settings, for JSON."""
        return {"average": self.average} if self.average > 1 else {}

    @property
    def is_same_in_batch(self) -> bool:
        """Whether a batch with other pictures gives the result that it has alone.

        Seconds would be shared, and a target PSNR ends a batch when all have reached it.
        """
        config = self.config
        is_budget_shared = config.seconds is not None or config.target_psnr is not None
        return self.average == 1 and config.optimizer != "gauss-newton" and not is_budget_shared

    def decided(self, options: TileOptions) -> TileOptions:
        """Return options of tiles with which other jobs are cut alike: `auto` has decided."""
        return dataclasses.replace(options, tiles="none")

    def layer(self, settings: Layer) -> Layer:
        """Return settings as a layer for a job that is cut alike; one that is None takes its default."""
        return settings

    def with_config(self, config: FitConfig) -> Self:
        """Return this job with other settings."""
        return dataclasses.replace(self, config=config)

    def check_goes_on(self, saved: FitConfig) -> None:
        """Refuse to go on with other settings than a run began with; budgets alone may change."""
        check_goes_on(saved, self.config)

    def begin(
        self,
        backend: Backend,
        state: TrainingState | None = None,
        folder: Path | None = None,
        *,
        resume: bool = False,
    ) -> NetworkFit:
        """Make everything that its steps touch; `state` is where an earlier run stopped."""
        if self.average > 1:
            return NetworkFit(AverageTrainer(self, backend, self.average), None, folder)
        return NetworkFit(Trainer([self], backend, state), state, folder)

    @staticmethod
    def run_together(
        jobs: Sequence[Any], backend: Backend, callback: Callback | None, should_stop: ShouldStop | None
    ) -> list[FitResult]:
        """Train networks of one shape as one batch."""
        return fit_together(jobs, backend, callback, should_stop)

    def model_of(self, learned: TrainingState, metrics: dict[str, Any]) -> Model:
        """Make the model again from what it learned, on the host."""
        return Model(
            get_backend("cpu"),
            self.config,
            SignalFacts.of(self.signal),
            learned.encoder_state,
            learned.parameters,
            metrics,
        )


def check_goes_on(saved: FitConfig, config: FitConfig) -> None:
    """Refuse other settings than those of the run that goes on; budgets alone may change."""
    before, now = saved.as_dict(), config.as_dict()
    for name in before:
        if name not in BUDGETS and before[name] != now[name]:
            told = f"cannot resume with {name} {now[name]!r}: the run has {before[name]!r}"
            raise ConfigError(f"{told} (only budgets may change)")
