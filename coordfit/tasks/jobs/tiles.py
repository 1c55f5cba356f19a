"""The job of the tiles of one picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from ...backends import Backend, get_backend
from ...config import FitConfig
from ...encoders.registry import ENCODINGS
from ...errors import ConfigError
from ...executors import Workers
from ...signals.facts import SignalFacts
from ...tiles.fit import TiledFit
from ...tiles.model import TiledModel
from ...tiles.network import TileNetwork
from ...tiles.plan import TileOptions, TilePlan
from ...training.result import FitResult
from ...training.state import Callback, ShouldStop, TrainingState
from .base import PlannedJob
from .settings import Device, Layer


@dataclass(frozen=True)
class TiledJob(PlannedJob):
    """A picture to be learned by tiles; they are a batch of their own."""

    plan: TilePlan = field(kw_only=True)
    every_tile: bool = False
    stored: str = "float16"
    workers: Workers | None = field(default=None, compare=False)
    kind: ClassVar[str] = "tiles"
    can_be_animated: ClassVar[bool] = False
    encodings: ClassVar[Sequence[str]] = tuple(name for name, kind in ENCODINGS.items() if not kind.learns)

    @property
    def words(self) -> str:
        """What was decided."""
        return f"tiles: {self.plan.words}"

    @property
    def facts(self) -> dict[str, Any]:
        """What the job is known by beside its settings, for JSON."""
        return self.plan.facts(self.signal, every_tile=self.every_tile, stored=self.stored)

    @property
    def shape_key(self) -> tuple[object, ...]:
        """Equal to no other job's."""
        return ("tiles", id(self))

    def decided(self, options: TileOptions) -> TileOptions:
        """Return options of tiles with which other jobs are cut alike; a budget chooses for each."""
        by_budget = options.budget_parameters is not None
        return dataclasses.replace(options, tiles=options.tiles if by_budget else self.plan.layout.tile)

    def layer(self, settings: Layer) -> Layer:
        """Return settings as a layer for a job that is cut alike; one that is None follows from the tile."""
        return {name: value for name, value in settings.items() if value is not None}

    def with_config(self, config: FitConfig) -> Self:
        """Return this job with other settings of its networks."""
        return dataclasses.replace(self, config=config, plan=dataclasses.replace(self.plan, config=config))

    def trained_by(self, executor: Executor, device: Device) -> Self:
        """Return this job with an executor that trains chunks of its tiles."""
        if self.config.seconds is not None:
            raise ConfigError("seconds is no budget of tiles on an executor; take steps or target_psnr")
        return dataclasses.replace(self, workers=Workers(executor, device.make))

    def check_goes_on(self, saved: FitConfig) -> None:
        """Leave it to the tiles that are kept: they know what they are of."""

    def begin(
        self,
        backend: Backend,
        state: TrainingState | None = None,
        folder: Path | None = None,
        *,
        resume: bool = False,
    ) -> TiledFit:
        """Make places for the tiles, in a folder if there is one; with `resume` those that are there stay."""
        return TiledFit(
            self.signal,
            self.plan,
            backend,
            known=self.known,
            weights=self.weights,
            every_tile=self.every_tile,
            stored=self.stored,
            folder=folder,
            resume=resume,
            workers=self.workers,
        )

    @staticmethod
    def run_together(
        jobs: Sequence[Any], backend: Backend, callback: Callback | None, should_stop: ShouldStop | None
    ) -> list[FitResult]:
        """Train the tiles of one picture after those of another."""
        return [job.run(backend, callback, should_stop) for job in jobs]

    def model_of(self, learned: Any, metrics: dict[str, Any]) -> TiledModel:
        """Make the model again from what it learned, on the host."""
        network = TileNetwork.drawn(self.config, self.signal.channels, len(self.signal.shape))
        facts = SignalFacts.of(self.signal)
        return TiledModel(get_backend("cpu"), facts, network, learned.layout, learned.parameters, metrics)
