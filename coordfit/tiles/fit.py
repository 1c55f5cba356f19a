"""The fit of a whole photograph: chunks of tiles one after the other, so that memory does not grow with it."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._backends import Backend
from ..files import atomic_write, printable
from ..images import Colours, Picture
from ..images.interpolation import nearest_fill
from ..images.metrics import bits_per_pixel, psnr_from_mse
from ..models.rendering import PictureFacts
from ..models.writing import save_rows
from ..network.cost import item_size
from ..network.losses import make_loss
from ..pixels.masks import training_mask
from ..report.streamed_comparison import RunningComparison
from ..training.evaluation import Evaluator
from ..training.member import HistoryRow
from ..training.result import FitResult, metrics_of
from ..training.state import Callback, Checkpoint, Progress, ShouldStop
from .layout import TileLayout
from .model import TiledModel
from .network import TileNetwork
from .parameters_now import ParametersNow
from .plan import TilePlan
from .store import STORE_FILES, TileStore
from .trainer import TileTrainer

# Tiles that are on their way at a time, and about how much memory they may take, where they are large. Memory
# is the levels of the picture and these; what is finished is in a file.
CHUNK_TILES, CHUNK_BYTES = 8192, 5 << 26
# Copies of a tile's parameters on the host: as trained, packed, in stored precision, and one on the way.
_COPIES = 4
# What a hidden pixel weighs, whose place is taken by the known one that is nearest: nothing beside known
# pixels, and something where a tile has none.
_HIDDEN = 1e-6
# Tiles under way are kept this often, for a run that is killed.
CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class LearnedTiles:
    """The tiles of a picture and their stored parameters (number of tiles, p)."""

    layout: TileLayout
    parameters: NDArray[np.floating]


@dataclass(frozen=True, repr=False)
class TiledResult(FitResult):
    """A finished fit of tiles; an interrupted one has no figures.

    `metrics` has beside the usual figures `tiles`, `tile`, `psnr_worst_tile`, `parameters_per_value`, and bytes
    and bits per pixel as stored in float32 and in float16.
    """

    model: TiledModel
    has_curve: ClassVar[bool] = False

    @property
    def has_model(self) -> bool:
        """Whether the model is one to keep: all tiles are finished."""
        return bool(self.metrics)

    @property
    def learned(self) -> LearnedTiles:
        """All tiles."""
        return LearnedTiles(self.model.layout, self.model.parameters)

    def write_pictures(self, folder: Path) -> None:
        """Write `reconstruction.png` and `comparison.png` from rows that are rendered once."""
        seen = RunningComparison(self.picture.colours)
        save_rows(folder / "reconstruction.png", self.model, self.model.grid(), see=seen.add)
        with atomic_write(folder / "comparison.png") as file:
            self.comparison(seen).save(file, format="PNG")

    def comparison(self, seen: RunningComparison | None = None) -> Image.Image:
        """As of every result; drawn from rows that were `seen` already, or now, and never held as a whole."""
        if seen is None:
            seen = RunningComparison(self.picture.colours)
            for rows in self.model.render_rows(self.model.grid()):
                seen.add(rows)
        return seen.draw(self._title(), self._figures())


class TiledFit:
    """One fit of one picture by tiles.

    Parameters
    ----------
    every_tile : bool
        Whether `config.target_psnr` is for each tile, and not for the picture alone.
    stored : {"float16", "float32"}
        How finished tiles are kept, in memory and in the model's file.
    folder : Path, optional
        Where finished tiles are kept until the end, for a run that is killed.
    resume : bool
        Whether to go on with the tiles that are in the folder.
    known : boolean array (H, W), optional
        The pixels that training may see, instead of those that `config.train_on` names.
    """

    def __init__(
        self,
        picture: Picture,
        plan: TilePlan,
        backend: Backend,
        *,
        known: NDArray[np.bool_] | None = None,
        every_tile: bool = False,
        stored: str = "float16",
        folder: Path | None = None,
        resume: bool = False,
    ) -> None:
        self.masked = known is not None
        if known is None and plan.config.train_on != "all":
            known = training_mask(plan.config.train_on, picture.height, picture.width)
            known = known.reshape(picture.height, picture.width)
        self.known = known
        self.picture, self.plan, self.backend = picture, plan, backend
        self.every_tile, self.stored = every_tile, stored
        self.network = network = TileNetwork.drawn(plan.config, picture.channels)
        self.history: list[HistoryRow] = []
        facts = {"config": plan.config.as_dict(), **plan.facts(picture, every_tile=every_tile, stored=stored)}
        shape = (len(plan.layout), network.layout.num_parameters)
        self.store = TileStore(shape, stored, folder, facts, resume=resume)

    files: ClassVar[tuple[str, ...]] = STORE_FILES
    """What it makes in a folder when it begins."""
    writes_history: ClassVar[bool] = False
    """Whether `history.csv` gets its rows: those of tiles are no curve."""
    model_so_far: ClassVar[None] = None
    """Nothing that may be saved before the end, beside what the folder has."""

    @property
    def resumed(self) -> str:
        """What a run that is to go on has found, in words."""
        if self.store.learned:
            return f"going on after {self.store.learned} of {len(self.plan.layout)} tiles"
        where = printable(self.store.folder) if self.store.folder else "memory"
        return f"no tiles to resume in {where}: a new run begins there"

    @property
    def saved(self) -> str:
        """What of a run that was cut short is on disk, in words."""
        tiles = len(self.plan.layout)
        done = f"all {tiles} tiles" if self.store.done == tiles else f"{self.store.learned} of {tiles} tiles"
        return f"{done} are saved"

    def remove_what_is_saved(self) -> None:
        """Remove what is on disk for a run that goes on: the model is saved."""
        self.store.remove()

    def run(
        self,
        callback: Callback | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        should_stop: ShouldStop | None = None,
    ) -> TiledResult:
        """Train all tiles, and judge the picture that they make together.

        `should_stop` is asked after each group of tiles too. The store keeps what a checkpoint would.
        """
        self._callback, self._should_stop = callback, should_stop
        self._groups = self._pixels = 0
        self._asked = self._late = False
        self._began = self._last_kept = time.perf_counter()
        self._seconds_before = self.store.seconds
        trainer = TileTrainer(
            self.backend,
            self.network,
            self.plan.layout,
            every_tile=self.every_tile,
            largest=float(np.finfo(self.stored).max),
            stop=lambda trained, is_whole: self._tell(trainer, trained, is_whole),
        )
        try:
            self._train(trainer)
        except KeyboardInterrupt:
            self._keep_under_way(trainer)
            raise
        if self._asked:
            self._keep_under_way(trainer)
        return self._result(trainer)

    def _train(self, trainer: TileTrainer) -> None:
        """Train and store all tiles, or those before a callback asked for the end."""
        seconds, taken, steps = self.store.seconds, self.store.steps, self.plan.config.steps or 0
        count = self._tiles_at_a_time()
        while self.store.done < len(self.plan.layout) and not self._asked:
            tiles = np.arange(self.store.done, min(self.store.done + count, len(self.plan.layout)))
            pixels, weights = self._taught(tiles)
            shares = self.plan.layout.shares(tiles)
            begun, self.store.under_way = self.store.under_way, None
            going_on = begun if begun is not None and len(begun.error) == len(tiles) else None
            parameters, errors = trainer.fit(pixels, steps, shares, weights, going_on=going_on)
            if trainer.broken_off:  # these are not finished
                break
            self._groups, spent = 0, (seconds + trainer.seconds, taken + trainer.steps_taken)
            try:
                self.store.add(self.network.packed(parameters), errors, *spent)
            except KeyboardInterrupt:  # they are finished, and would be lost
                self.store.done = int(tiles[0])
                self.store.add(self.network.packed(parameters), errors, *spent)
                raise
            self._add_history_row()
            # One worker tells on the way, and it need not be the last.
            self._tell(trainer, 0.0, is_whole=False, new=True)

    def _keep_under_way(self, trainer: TileTrainer) -> None:
        """Keep where the tiles that are not finished stand, for a run that goes on."""
        self._last_kept = time.perf_counter()
        under_way = trainer.under_way()
        if under_way is not None and self.store.done < len(self.plan.layout):
            self.store.keep_under_way(under_way, self._seconds_before + self._last_kept - self._began)

    def _tiles_at_a_time(self) -> int:
        rows, channels = len(self.plan.layout.grid), self.picture.channels
        # Of each pixel its share, its weight, and its colours as they are, as they are scaled, and in errors.
        numbers = rows * (6 * channels + 2) + _COPIES * self.network.layout.size
        return min(CHUNK_TILES, max(1, CHUNK_BYTES // (numbers * item_size(self.plan.config.dtype))))

    def _taught(self, tiles: NDArray[np.int64]) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
        """What some tiles are to learn (n, N, C), and each pixel's weight (n, N); None where all are known."""
        layout = self.plan.layout
        if self.known is None:
            return layout.pixels(self.picture.colours, tiles), None
        weights = np.where(self.known, np.float32(1.0), np.float32(_HIDDEN))
        return layout.pixels(self._filled, tiles), layout.pixels(weights[..., None], tiles)[..., 0]

    def _worst(self) -> float:
        """The largest error of the tiles that see any pixel."""
        errors, known, layout = np.array(self.store.errors), self.known, self.plan.layout
        if known is not None:
            tiles = np.arange(len(errors))
            chunks = np.split(tiles, tiles[CHUNK_TILES::CHUNK_TILES])
            seeing = [layout.pixels(known[..., None], chunk).any(axis=(1, 2)) for chunk in chunks]
            errors = errors[np.concatenate(seeing)]
        return float(errors.max())

    @functools.cached_property
    def _filled(self) -> NDArray[np.floating] | Colours:
        """The picture without anything that hidden pixels say."""
        return self.picture.colours if self.known is None else nearest_fill(self.picture.pixels, self.known)

    def _tell(self, trainer: TileTrainer, trained: float, is_whole: bool, *, new: bool = False) -> bool:
        """Tell the callback; whether the seconds are spent."""
        self._groups += is_whole
        now = time.perf_counter()
        progress = functools.partial(self._progress, trainer, trained, now - self._began, new=new)
        asked = self._callback is not None and bool(self._callback(progress()))
        if asked or (self._should_stop is not None and self._should_stop()):
            self._asked = True
            trainer.break_off()
        elif now - self._last_kept >= CHECKPOINT_SECONDS:
            self._keep_under_way(trainer)
        limit = self.plan.config.seconds
        self._late = self._late or (is_whole and limit is not None and now - self._began >= limit)
        return self._late

    def _progress(self, trainer: TileTrainer, trained: float, seconds: float, *, new: bool) -> Progress:
        done, tiles = self.store.done, len(self.plan.layout)
        total = self.picture.height * self.picture.width
        pixels = int(total * min(1.0, (done + trained) / tiles))
        self._pixels = max(self._pixels, pixels)  # a tile that was good enough may be trained again
        mse = float(np.concatenate([self.store.errors, trainer.errors]).mean())
        return Progress(
            done,
            tiles,
            seconds,
            done / max(self.store.seconds, 1e-9),
            self.history[-1] if self.history else None,
            evaluated=new,
            psnr=psnr_from_mse(mse) if math.isfinite(mse) else None,
            tiles=tiles,
            groups=self._groups,
            pixels=self._pixels,
            total_pixels=total,
            models_now=lambda: [self._model_now(trainer)],
        )

    def _model_now(self, trainer: TileTrainer) -> TiledModel:
        """Return the model of what has been learned so far, on the backend of the worker that tells."""

        def under_way(tiles: NDArray[np.integer]) -> NDArray[np.floating]:
            return self.network.packed(trainer.parameters_now(tiles))

        # Only rows of it are read, as of a map of a file.
        parameters: Any = ParametersNow(self.store, under_way)
        return TiledModel(
            trainer.crews[0].backend, PictureFacts.of(self.picture), self.network, self.plan.layout, parameters
        )

    def _add_history_row(self) -> None:
        mse = self.store.mse
        self.history.append(
            {
                "step": self.store.done,
                "seconds": round(self.store.seconds, 6),
                "loss": mse,
                "psnr_train": psnr_from_mse(mse),
                "psnr_held_out": None,
                "psnr": psnr_from_mse(mse) if self.known is None else None,
                "learning_rate": self.plan.config.learning_rate,
            }
        )

    def _result(self, trainer: TileTrainer) -> TiledResult:
        whole = self.store.done == len(self.plan.layout)
        model = TiledModel(
            self.backend, PictureFacts.of(self.picture), self.network, self.plan.layout, self.store.parameters
        )
        stopped = "interrupted"
        if whole:
            model.metrics = self._metrics(model, trainer)
            stopped = model.metrics["stopped"]
        return TiledResult(model.metrics, list(self.history), stopped, model, self.picture, known=self.known)

    def _why_it_ended(self, psnr: float, trainer: TileTrainer) -> str:
        target = self.plan.config.target_psnr
        reached = psnr_from_mse(self._worst()) if self.every_tile else psnr
        if target is not None and reached >= target:
            return "target_psnr"
        if trainer.diverged:
            return "diverged"
        return "seconds" if self._late else "steps"

    def _metrics(self, model: TiledModel, trainer: TileTrainer) -> dict[str, Any]:
        picture, config, layout = self.picture, self.plan.config, self.plan.layout
        target = picture.colours.reshape(-1, picture.channels)
        all_of_them = np.broadcast_to(np.True_, len(target))  # without memory for each pixel
        train = all_of_them if self.known is None else self.known.reshape(-1)
        judge = Evaluator(model, make_loss(config.loss, delta=config.delta), target, train)
        train_on = "" if self.masked else config.train_on
        metrics = metrics_of(judge, picture, config, self.backend, train_on=train_on)
        shared = sum(array.size for array in self.network.encoder_state.values())
        size = {bits: (model.num_parameters + shared) * bits // 8 for bits in (16, 32)}
        per_pixel = {bits: bits_per_pixel(size[bits], picture.height, picture.width) for bits in size}
        return metrics | {
            "psnr_worst_tile": psnr_from_mse(self._worst()),
            "steps": round(self.store.steps / len(layout)),
            "epochs": self.store.steps / len(layout),
            "seconds": self.store.seconds,
            "stopped": self._why_it_ended(metrics["psnr_train"], trainer),
            "fused": trainer.routes(),
            "networks": len(layout),
            "tiles": len(layout),
            "tile": layout.tile,
            "overlap": layout.overlap,
            "parameters_per_value": model.num_parameters / picture.levels.size,
            "stored": self.stored,
            "bytes_float32": size[32],
            "bytes_float16": size[16],
            "bits_per_pixel": per_pixel[16 if self.stored == "float16" else 32],
            "bits_per_pixel_float32": per_pixel[32],
            "bits_per_pixel_float16": per_pixel[16],
        }
