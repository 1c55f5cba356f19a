"""The fit of a whole picture in chunks of tiles, so that memory does not grow with the picture."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..backends import Backend
from ..executors import Workers, finished_in_order
from ..files import printable
from ..images import Colours
from ..images.interpolation import nearest_fill
from ..images.metrics import bits_per_pixel, psnr_from_mse
from ..network.cost import item_size
from ..network.losses import make_loss
from ..pixels.masks import training_mask
from ..pixels.weights import scaled_weights
from ..signals.facts import SignalFacts
from ..signals.signal import Signal
from ..training.evaluation import Evaluator
from ..training.member import HistoryRow
from ..training.result import StreamedResult, metrics_of
from ..training.state import CHECKPOINT_SECONDS, Callback, Checkpoint, Progress, RunningFit, ShouldStop
from .chunk_task import TASK_TILES, ChunkTask
from .group import RIDGE, RIDGE_BETWEEN
from .layout import TileLayout
from .model import TiledModel
from .network import TileNetwork
from .plan import TilePlan
from .store import STORE_FILES, ParametersNow, TileStore
from .trainer import TileRules, TileTrainer

# The most tiles of a chunk, and about the most memory that it takes. A fit holds the levels of the picture and
# one chunk; finished tiles are in a file.
CHUNK_TILES, CHUNK_BYTES = 8192, 5 << 26
# Copies of a tile's parameters on the host: as trained, packed, in stored precision, and a temporary one.
_COPIES = 4
# The weight of a hidden pixel, which has the colour of the nearest known one: without effect beside known
# pixels, but tiles without any still have a target.
_HIDDEN_WEIGHT = 1e-6


@dataclass(frozen=True)
class LearnedTiles:
    """The tiles of a picture and their stored parameters (number of tiles, p)."""

    layout: TileLayout
    parameters: NDArray[np.floating]


@dataclass(frozen=True, repr=False)
class TiledResult(StreamedResult):
    """A finished fit of tiles; an interrupted one has no figures.

    `metrics` also has `tiles`, `tile`, `psnr_worst_tile`, `parameters_per_value`, and bytes and bits per pixel
    in float32 and in float16.
    """

    model: TiledModel
    has_curve: ClassVar[bool] = False

    @property
    def learned(self) -> LearnedTiles:
        """All tiles."""
        return LearnedTiles(self.model.layout, self.model.parameters)


class TiledFit(RunningFit):
    """One fit of one picture by tiles.

    Errors of training count pixels by `weights` (H, W); figures of the end count all alike.
    With `every_tile` each tile has to reach `config.target_psnr`, and not the picture alone. Finished tiles
    have the type `stored`; in a `folder` they survive a killed run, and a run with `resume` goes on with them.
    """

    def __init__(
        self,
        signal: Signal,
        plan: TilePlan,
        backend: Backend,
        *,
        known: NDArray[np.bool_] | None = None,
        weights: NDArray[np.floating] | None = None,
        every_tile: bool = False,
        stored: str = "float16",
        folder: Path | None = None,
        resume: bool = False,
        workers: Workers | None = None,
    ) -> None:
        self.masked = known is not None
        if known is None and plan.config.train_on != "all":
            known = training_mask(plan.config.train_on, signal.samples)
        self.known, self.weights = known, weights
        self.signal, self.plan, self.backend = signal, plan, backend
        self.every_tile, self.stored, self.workers = every_tile, stored, workers
        self.network = network = TileNetwork.drawn(plan.config, signal.channels, len(signal.shape))
        self.history: list[HistoryRow] = []
        facts = {"config": plan.config.as_dict(), **plan.facts(signal, every_tile=every_tile, stored=stored)}
        shape = (len(plan.layout), network.layout.num_parameters)
        self.store = TileStore(shape, stored, folder, facts, resume=resume)

    files = STORE_FILES
    history_columns = ()
    model_so_far: ClassVar[None] = None
    """The model to save before the end: none, as the folder has all finished tiles."""

    @property
    def resumed(self) -> str:
        """What a resumed run has found, in words."""
        if self.store.trained:
            return f"going on after {self.store.trained} of {len(self.plan.layout)} tiles"
        where = printable(self.store.folder) if self.store.folder else "memory"
        return f"no tiles to resume in {where}: a new run begins there"

    @property
    def saved(self) -> str:
        """What an interrupted run has on disk, in words."""
        tiles = len(self.plan.layout)
        done = f"all {tiles} tiles" if self.store.done == tiles else f"{self.store.trained} of {tiles} tiles"
        return f"{done} are saved"

    def remove_what_is_saved(self) -> None:
        """Remove the files of the store, after the model is saved."""
        self.store.remove()

    def run(
        self,
        callback: Callback | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        should_stop: ShouldStop | None = None,
    ) -> TiledResult:
        """Train all tiles, and evaluate their picture; the store takes the place of `checkpoint`."""
        self._callback, self._should_stop = callback, should_stop
        self._groups = self._pixels = 0
        self._asked_to_stop = self._out_of_time = False
        self._began = self._last_checkpoint = time.perf_counter()
        self._seconds_before = self.store.seconds
        rules = TileRules(
            every_tile=self.every_tile,
            largest=float(np.finfo(self.stored).max),
            ridge=RIDGE if self._seen is None else RIDGE_BETWEEN,
        )
        trainer = TileTrainer(
            self.backend,
            self.network,
            self.plan.layout,
            rules,
            stop=lambda trained, is_whole: self._on_progress(trainer, trained, is_whole),
        )
        try:
            if self.workers is None:
                self._train(trainer)
            else:
                self._train_elsewhere(trainer, self.workers)
        except KeyboardInterrupt:
            self._save_unfinished(trainer)
            raise
        if self._asked_to_stop:
            self._save_unfinished(trainer)
        return self._result(trainer)

    def _train(self, trainer: TileTrainer) -> None:
        """Train and store chunks of tiles, until all are finished or a callback ends the run."""
        layout, store, steps = self.plan.layout, self.store, self.plan.config.steps or 0
        seconds, taken, count = store.seconds, store.steps, self._tiles_at_a_time()
        while store.done < len(layout) and not self._asked_to_stop:
            tiles = np.arange(store.done, min(store.done + count, len(layout)))
            pixels, weights = self._targets(tiles)
            start, store.unfinished = store.unfinished, None
            if start is not None and len(start.error) != len(tiles):
                start = None
            parameters, errors = trainer.fit(pixels, steps, layout.blend_weights(tiles), weights, start=start)
            if trainer.aborted:
                break
            packed = self.network.packed(parameters)
            self._add(trainer, packed, errors, seconds + trainer.seconds, taken + trainer.steps_taken)

    def _train_elsewhere(self, trainer: TileTrainer, workers: Workers) -> None:
        """Do what `_train` does in chunks that other processes train."""
        layout, store, steps = self.plan.layout, self.store, self.plan.config.steps or 0
        began, store.unfinished = time.perf_counter(), None
        seconds, taken = store.seconds, store.steps
        chunk = ChunkTask(workers.make_backend, self.network, layout, trainer.rules, steps, self.stored)
        count = min(TASK_TILES, self._tiles_at_a_time())
        chunks = np.split(np.arange(store.done, len(layout)), range(count, len(layout) - store.done, count))
        tasks = ((*self._targets(tiles), layout.blend_weights(tiles)) for tiles in chunks if len(tiles))
        for trained in finished_in_order(workers.executor, chunk, tasks, lambda: self._asked_to_stop):
            trainer.count(trained.tally)
            spent = time.perf_counter() - began
            self._add(trainer, trained.packed, trained.errors, seconds + spent, taken + trainer.steps_taken)

    def _add(
        self,
        trainer: TileTrainer,
        packed: NDArray[np.floating],
        errors: NDArray[np.floating],
        seconds: float,
        steps: int,
    ) -> None:
        """Store finished tiles, and tell of them."""
        self._groups, done = 0, self.store.done
        try:
            self.store.add(packed, errors, seconds, steps)
        except KeyboardInterrupt:  # store these finished tiles once more, as a whole
            self.store.done = done
            self.store.add(packed, errors, seconds, steps)
            raise
        self._add_history_row()
        # The worker that reports progress need not be the last to end.
        self._on_progress(trainer, 0.0, is_whole=False, new=True)

    def _save_unfinished(self, trainer: TileTrainer) -> None:
        self._last_checkpoint = time.perf_counter()
        unfinished = trainer.unfinished()
        if unfinished is not None and self.store.done < len(self.plan.layout):
            seconds = self._seconds_before + self._last_checkpoint - self._began
            self.store.save_unfinished(unfinished, seconds)

    def _tiles_at_a_time(self) -> int:
        rows, channels = len(self.plan.layout.grid), self.signal.channels
        # Of each pixel two weights, and its colours as given, scaled, and in errors.
        numbers = rows * (6 * channels + 2) + _COPIES * self.network.layout.size
        return min(CHUNK_TILES, max(1, CHUNK_BYTES // (numbers * item_size(self.plan.config.dtype))))

    def _targets(self, tiles: NDArray[np.int64]) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
        """Return the target colours (n, N, C) of tiles, and weights (n, N); None if all pixels count alike."""
        layout, weights = self.plan.layout, self._training_weights
        of_tiles = None if weights is None else layout.pixels(weights[..., None], tiles)[..., 0]
        return layout.pixels(self._filled, tiles), of_tiles

    @functools.cached_property
    def _seen(self) -> NDArray[np.bool_] | None:
        """The pixels (H, W) that training sees: known ones with a weight above 0; None if it sees all."""
        if self.weights is None:
            return self.known
        seen = self.weights > 0.0 if self.known is None else (self.weights > 0.0) & self.known
        return None if seen.all() else seen

    @functools.cached_property
    def _training_weights(self) -> NDArray[np.floating] | None:
        """Weights (H, W) of mean 1 over known pixels, and nearly 0 for hidden ones; None if all are 1."""
        if self.weights is None:
            if self.known is None:
                return None
            return np.where(self.known, np.float32(1.0), np.float32(_HIDDEN_WEIGHT))
        known = np.ones(self.weights.size, np.bool_) if self.known is None else self.known.reshape(-1)
        scaled = scaled_weights(self.weights, known).reshape(self.weights.shape).astype(np.float32)
        if self._seen is not None:
            scaled[~self._seen] = _HIDDEN_WEIGHT
        return scaled

    def _worst_error(self) -> float:
        """Return the largest error of tiles with seen pixels."""
        errors, seen, layout = np.array(self.store.errors), self._seen, self.plan.layout
        if seen is not None:
            tiles = np.arange(len(errors))
            chunks = np.split(tiles, tiles[CHUNK_TILES::CHUNK_TILES])
            has_seen = [layout.pixels(seen[..., None], chunk).any(axis=(1, 2)) for chunk in chunks]
            errors = errors[np.concatenate(has_seen)]
        return float(errors.max())

    @functools.cached_property
    def _filled(self) -> NDArray[np.floating] | Colours:
        """The picture with hidden pixels replaced by the nearest known ones."""
        return self.signal.colours if self._seen is None else nearest_fill(self.signal.pixels, self._seen)

    def _on_progress(self, trainer: TileTrainer, trained: float, is_whole: bool, *, new: bool = False) -> bool:
        """Call the callback, save a checkpoint if it is time; return whether the seconds are spent."""
        self._groups += is_whole
        now = time.perf_counter()
        asked = self._callback is not None and bool(
            self._callback(self._progress(trainer, trained, now - self._began, new=new))
        )
        if asked or (self._should_stop is not None and self._should_stop()):
            self._asked_to_stop = True
            trainer.abort()
        elif now - self._last_checkpoint >= CHECKPOINT_SECONDS:
            self._save_unfinished(trainer)
        limit = self.plan.config.seconds
        if is_whole and limit is not None and now - self._began >= limit:
            self._out_of_time = True
        return self._out_of_time

    def _progress(self, trainer: TileTrainer, trained: float, seconds: float, *, new: bool) -> Progress:
        done, tiles = self.store.done, len(self.plan.layout)
        total = len(self.signal.grid)
        pixels = int(total * min(1.0, (done + trained) / tiles))
        self._pixels = max(self._pixels, pixels)  # a tile that has left may come back
        mse = float(np.concatenate([self.store.errors, trainer.errors]).mean())
        return Progress(
            done,
            tiles,
            seconds,
            done / max(self.store.seconds, 1e-9),
            self.history[-1] if self.history else None,
            evaluated=new,
            psnr=self._psnr(mse) if math.isfinite(mse) else None,
            tiles=tiles,
            groups=self._groups,
            pixels=self._pixels,
            total_pixels=total,
            models_now=lambda: [self._model_now(trainer)],
        )

    def _model_now(self, trainer: TileTrainer) -> TiledModel:
        """Return the present model, on the backend of the worker that reports progress."""

        def unfinished(tiles: NDArray[np.integer]) -> NDArray[np.floating]:
            return self.network.packed(trainer.parameters_now(tiles))

        return self._model(trainer.workers[0].backend, ParametersNow(self.store, unfinished))

    def _model(self, backend: Backend, parameters: Any) -> TiledModel:
        facts = SignalFacts.of(self.signal)
        return TiledModel(backend, facts, self.network, self.plan.layout, parameters)

    def _psnr(self, mse: float) -> float | None:
        """Return the PSNR of a mean error of tiles; None if weights are in it."""
        return psnr_from_mse(mse) if self.weights is None else None

    def _add_history_row(self) -> None:
        mse = self.store.mse
        self.history.append(
            {
                "step": self.store.done,
                "seconds": round(self.store.seconds, 6),
                "loss": mse,
                "psnr_train": self._psnr(mse),
                "psnr_held_out": None,
                "psnr": self._psnr(mse) if self.known is None else None,
                "learning_rate": self.plan.config.learning_rate,
            }
        )

    def _result(self, trainer: TileTrainer) -> TiledResult:
        model, stopped = self._model(self.backend, self.store.parameters), "interrupted"
        if self.store.done == len(self.plan.layout):
            model.metrics = self._metrics(model, trainer)
            stopped = model.metrics["stopped"]
        return TiledResult(model.metrics, list(self.history), stopped, model, self.signal, known=self.known)

    def _reason_to_stop(self, psnr: float, trainer: TileTrainer) -> str:
        target = self.plan.config.target_psnr
        reached = psnr_from_mse(self._worst_error()) if self.every_tile else psnr
        if target is not None and reached >= target:
            return "target_psnr"
        if trainer.diverged:
            return "diverged"
        return "seconds" if self._out_of_time else "steps"

    def _metrics(self, model: TiledModel, trainer: TileTrainer) -> dict[str, Any]:
        signal, config, layout = self.signal, self.plan.config, self.plan.layout
        target = signal.colours.reshape(-1, signal.channels)
        everything = np.broadcast_to(np.True_, len(target))  # without memory for each pixel
        train = everything if self.known is None else self.known.reshape(-1)
        unknown = None if signal.unknown is None else signal.unknown.reshape(-1)
        evaluator = Evaluator(model, make_loss(config.loss, **vars(config)), target, train, unknown=unknown)
        train_on = "" if self.masked else config.train_on
        metrics = metrics_of(evaluator, signal, config, self.backend, train_on=train_on)
        shared = sum(array.size for array in self.network.encoder_state.values())
        size = {bits: (model.num_parameters + shared) * bits // 8 for bits in (16, 32)}
        per_pixel = {bits: bits_per_pixel(size[bits], len(signal.grid)) for bits in size}
        return metrics | {
            "psnr_worst_tile": self._psnr(self._worst_error()),
            "steps": round(self.store.steps / len(layout)),
            "epochs": self.store.steps / len(layout),
            "seconds": self.store.seconds,
            "stopped": self._reason_to_stop(metrics["psnr_train"], trainer),
            "fused": trainer.routes(),
            "networks": len(layout),
            "tiles": len(layout),
            "tile": layout.tile,
            "overlap": layout.overlap,
            "parameters_per_value": model.num_parameters / signal.num_values,
            "stored": self.stored,
            "bytes_float32": size[32],
            "bytes_float16": size[16],
            "bits_per_pixel": per_pixel[16 if self.stored == "float16" else 32],
            "bits_per_pixel_float32": per_pixel[32],
            "bits_per_pixel_float16": per_pixel[16],
        }
