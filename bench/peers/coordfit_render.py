"""Render in coordfit itself."""

from __future__ import annotations

from typing import Any

from .cases import Problem
from .coordfit_steps import Peer, model_of


class Rendering(Peer):
    """The library's own rendering of a model."""

    def prepare(self, problem: Problem, setting: dict[str, Any]) -> None:
        """See `worker.Peer`."""
        self.size, self.model = problem.case.render or 1, model_of(self.backend, problem)

    def run(self, steps: int) -> list[float]:
        """See `worker.Peer`."""
        return [float(self.model.render(self.size, self.size).mean()) for _ in range(steps)]
