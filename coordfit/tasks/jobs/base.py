"""What the jobs of networks, of tiles and of few bits have in common."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Self

from ...backends import Backend
from ...errors import ConfigError
from ...training.job import Job
from ...training.result import FitResult
from ...training.state import Callback, RunningFit, ShouldStop, TrainingState
from .settings import Device


class PlannedJob(Job):
    """A picture to be learned as it was decided."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that count, for JSON."""
        return self.config.as_dict()

    @property
    def is_same_in_batch(self) -> bool:
        """Whether a batch with other pictures gives the result that it has alone."""
        return False

    def device(self, asked: Device) -> Device:
        """Return where it is trained."""
        return asked

    def trained_by(self, executor: Executor, device: Device) -> Self:
        """Return this job with an executor for its parts; ConfigError if it has none."""
        raise ConfigError("executor trains tiles, and this fit has none; leave it out, or ask for tiles=8")

    def begin(
        self,
        backend: Backend,
        state: TrainingState | None = None,
        folder: Path | None = None,
        *,
        resume: bool = False,
    ) -> RunningFit:
        """Make everything that its steps touch.

        `state` is where an earlier run of one network stopped; others go on with `resume` from what is in the
        folder.
        """
        raise NotImplementedError

    def run(
        self, backend: Backend, callback: Callback | None = None, should_stop: ShouldStop | None = None
    ) -> FitResult:
        """Train until a budget is spent, the callback returns True, or `should_stop` does."""
        return self.begin(backend).run(callback, should_stop=should_stop)
