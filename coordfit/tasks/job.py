"""`plan`: what is asked becomes a job, of one network or of tiles; and what every job can do.

    job = settled(plan(picture, Settings.of(layers, recipe=...), TileOptions(...)), backend)
    result = job.run(backend, callback)

Whether a picture is learned by one network or by tiles is decided in `plan`, and asked nowhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._backends import Backend, get_backend
from ..config import BUDGETS, FitConfig
from ..encoders.registry import ENCODINGS, encoding_class
from ..errors import ConfigError
from ..images import Picture
from ..images.interpolation import mean_spacing
from ..models.model import Model
from ..models.rendering import PictureFacts
from ..pixels.weights import checked_mask, checked_weights
from ..tiles.fit import TiledFit, TiledResult
from ..tiles.model import TiledModel
from ..tiles.network import TileNetwork
from ..tiles.plan import AUTO_PIXELS, TileOptions, TilePlan
from ..training.job import Job, group_by_shape
from ..training.result import FitResult
from ..training.state import Callback, ShouldStop, TrainingState, Trial
from ..training.trainer import Trainer, fit_together
from .average import AverageTrainer
from .network_fit import NetworkFit
from .settings import Layer, Settings
from .sigma import choose_sigma


@dataclass(frozen=True)
class NetworkJob(Job):
    """A picture to be learned by one network, or by the mean of several."""

    average: int = 1
    words: str = field(default="", compare=False)
    """What was decided, if it may surprise."""
    can_be_animated: ClassVar[bool] = True
    facts: ClassVar[dict[str, Any]] = {}
    """What the job is known by beside its settings, for JSON."""
    encodings: ClassVar[Sequence[str]] = tuple(ENCODINGS)
    """Which it takes."""

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
        before, now = saved.as_dict(), self.config.as_dict()
        changed = [name for name in before if name not in BUDGETS and before[name] != now[name]]
        if changed:
            name = changed[0]
            told = f"cannot resume with {name} {now[name]!r}: the run has {before[name]!r}"
            raise ConfigError(f"{told} (only budgets may change)")

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

    def run(
        self, backend: Backend, callback: Callback | None = None, should_stop: ShouldStop | None = None
    ) -> FitResult:
        """Train until a budget is spent, the callback returns True, or `should_stop` does."""
        return self.begin(backend).run(callback, should_stop=should_stop)

    @staticmethod
    def run_together(
        jobs: Sequence[AnyJob], backend: Backend, callback: Callback | None, should_stop: ShouldStop | None
    ) -> list[FitResult]:
        """Train networks of one shape as one batch."""
        return fit_together(jobs, backend, callback, should_stop)

    def model_of(self, learned: TrainingState, metrics: dict[str, Any]) -> Model:
        """Make the model again from what it learned, on the host."""
        return Model(
            get_backend("cpu"),
            self.config,
            PictureFacts.of(self.picture),
            learned.encoder_state,
            learned.parameters,
            metrics,
        )


@dataclass(frozen=True)
class TiledJob(Job):
    """A picture to be learned by tiles; they are a batch of their own."""

    plan: TilePlan = field(kw_only=True)
    every_tile: bool = False
    stored: str = "float16"
    can_be_animated: ClassVar[bool] = False
    encodings: ClassVar[Sequence[str]] = tuple(name for name, kind in ENCODINGS.items() if not kind.learns)

    @property
    def words(self) -> str:
        """What was decided."""
        return f"tiles: {self.plan.words}"

    @property
    def facts(self) -> dict[str, Any]:
        """What the job is known by beside its settings, for JSON."""
        return self.plan.facts(self.picture, every_tile=self.every_tile, stored=self.stored)

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
            self.picture,
            self.plan,
            backend,
            known=self.known,
            weights=self.weights,
            every_tile=self.every_tile,
            stored=self.stored,
            folder=folder,
            resume=resume,
        )

    def run(
        self, backend: Backend, callback: Callback | None = None, should_stop: ShouldStop | None = None
    ) -> TiledResult:
        """Train all tiles; `should_stop` is asked after each group of them too."""
        return self.begin(backend).run(callback, should_stop=should_stop)

    @staticmethod
    def run_together(
        jobs: Sequence[AnyJob], backend: Backend, callback: Callback | None, should_stop: ShouldStop | None
    ) -> list[FitResult]:
        """Train the tiles of one picture after those of another."""
        return [job.run(backend, callback, should_stop) for job in jobs]

    def model_of(self, learned: Any, metrics: dict[str, Any]) -> TiledModel:
        """Make the model again from what it learned, on the host."""
        network = TileNetwork.drawn(self.config, self.picture.channels)
        facts = PictureFacts.of(self.picture)
        return TiledModel(get_backend("cpu"), facts, network, learned.layout, learned.parameters, metrics)


AnyJob = NetworkJob | TiledJob
AnyFit = NetworkFit | TiledFit


def plan(
    picture: Picture,
    settings: Settings,
    tiles: TileOptions | None = None,
    *,
    known: NDArray[np.bool_] | None = None,
    weights: ArrayLike | None = None,
    average: int = 1,
) -> AnyJob:
    """Decide whether a picture is learned by one network or by tiles, and how.

    Parameters
    ----------
    picture : Picture
        At the size that the settings ask for.
    known : boolean array (H, W), optional
        The pixels that training may see, instead of those that `train_on` names.
    weights : array (H, W), optional
        How much each pixel counts in training, relative to the others.
    average : int
        Of how many networks the mean is taken.

    Raises
    ------
    ConfigError
        A setting is impossible, or tiles are asked for and cannot be had with the others.
    """
    options, spacing = tiles or TileOptions(), None
    if known is not None:
        known = checked_mask(known, picture.height, picture.width)
        spacing = mean_spacing(known)
        if settings.config.train_on != "all":
            raise ConfigError("train_on has no meaning where a mask says which pixels are known; leave it out")
    counts = None if weights is None else checked_weights(weights, picture.height, picture.width)
    made = options.plan(picture, settings.asked, recipe=settings.recipe, spacing=spacing)
    if isinstance(made, str):
        surprises = options.tiles == "auto" and picture.height * picture.width > AUTO_PIXELS
        words = f"one network for the whole picture: {made}" if surprises else ""
        return NetworkJob(picture, settings.config, known, counts, average, words)
    if average > 1:
        raise ConfigError("average is of networks of the whole picture; leave it out, or take tiles=none")
    if counts is not None and made.config.target_psnr is not None:
        raise ConfigError("target_psnr counts all pixels alike; leave weights out, or take tiles=none")
    return TiledJob(
        picture, made.config, known, counts, plan=made, every_tile=options.every_tile, stored=options.stored
    )


def settled(job: AnyJob, backend: Backend, trial: Trial | None = None) -> tuple[AnyJob, dict[float, float]]:
    """Choose a number for a sigma that is `auto`; the job with it, and the score in dB of each candidate.

    `trial` is told of the progress of the choice.
    """
    if job.config.sigma != "auto":
        return job, {}
    if not encoding_class(job.config.encoding).has_sigma:
        return job.with_config(job.config.replace(sigma=None)), {}
    sigma, scores = choose_sigma(job, backend, trial)
    return job.with_config(job.config.replace(sigma=sigma)), scores


def key_of(job: AnyJob) -> str:
    """Return what tells a job from all others: a digest of the picture and of every setting."""
    given = {"known": job.known, "weights": job.weights}
    arrays = {name: _digest(array) for name, array in given.items() if array is not None}
    settings = json.dumps(job.config.as_key() | job.facts | arrays, sort_keys=True)
    return hashlib.sha256(f"{job.picture.digest}\n{settings}".encode()).hexdigest()[:16]


def trained(
    jobs: Sequence[AnyJob],
    backend: Backend,
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[tuple[int, FitResult]]:
    """Train jobs, those of one shape as one batch; the number and the result of each as it is finished.

    Tiles that were interrupted are no result, and end it.
    """
    for group in group_by_shape(jobs):
        results = jobs[group[0]].run_together([jobs[i] for i in group], backend, callback, should_stop)
        if not all(result.metrics for result in results):
            return
        yield from zip(group, results, strict=True)


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
