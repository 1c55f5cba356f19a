"""The default for photographs: a function of few bits, trained as `coordfit compress` does."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ...backends import Backend
from ...codec import CompressedPicture, CompressionProgress
from ...codec.compression import most_pixels
from ...config import FitConfig, recipe_settings
from ...errors import OutputError
from ...files import FilePath, printable, read_history, read_json, write_bytes
from ...images import Picture
from ...network.losses import make_loss
from ...report.curves import save_curves
from ...tiles.plan import TileOptions
from ...training.evaluation import Evaluator
from ...training.job import Job
from ...training.member import HistoryRow
from ...training.result import StreamedResult, metrics_of
from ...training.state import (
    CALLBACK_SECONDS,
    CHECKPOINT_SECONDS,
    HISTORY_COLUMNS,
    Callback,
    Checkpoint,
    Progress,
    RunningFit,
    ShouldStop,
)
from ..compress import Compressing, CompressionResult, finished, open_compressed, usual_seconds
from .base import PlannedJob
from .compression_checkpoint import CompressionCheckpoint
from .network import check_goes_on
from .settings import Device, Settings

COMPACT = "compact"
"""The recipe's name."""
COMPACT_MODEL, COMPACT_CHECKPOINT = "model.cfc", "model.cfc.checkpoint"
"""In a run's folder."""
SETTINGS = ("target_psnr", "seconds", "steps", "seed", "size", "background")
"""What can be chosen."""
_ON_THE_CPU = ("auto", "cpu", "numpy", "numba")
_SHARE = 11 / 12  # of the time of a compression; figures and pictures come after it
_NUMBERS = ("psnr", "psnr_held_out", "ssim", "steps", "seconds", "bytes", "bits_per_pixel", "network_bits")
_WORDS = ("device", "backend", "stopped")
_NEAR = 0.1  # dB: a target that is missed by no more is reached


def why_not_compact(
    picture: Picture, settings: Settings, tiles: TileOptions, device: Device, *, is_masked: bool
) -> str:
    """Return what of a request cannot be had of a compact function, with the cure; empty if all can."""
    if others := [name for name in settings.asked if name not in SETTINGS]:
        return f"{others[0]} is no setting of it; leave it out"
    if tiles != TileOptions():
        return "it has no tiles; leave their options out"
    if is_masked:
        return "it is of all pixels alike; leave known and weights out"
    if device.device not in _ON_THE_CPU or device.precision != "float32":
        return "it trains on the CPU, in float32; leave device and precision out"
    if picture.height * picture.width > (most := most_pixels(picture.channels)):
        return f"it has {most:,d} pixels at most; give a smaller size"
    return ""


@dataclass(frozen=True)
class CompactJob(PlannedJob):
    """A picture to be learned as a function of few bits."""

    signal: Picture
    words: str = field(default="", compare=False)
    """What was decided."""
    kind: ClassVar[str] = COMPACT
    can_be_animated: ClassVar[bool] = True

    @classmethod
    def of(cls, picture: Picture, settings: Settings) -> Self:
        """Return the job, with the recipe's target and budget if there are no others."""
        config = settings.config
        target = config.target_psnr or recipe_settings(COMPACT)["target_psnr"]
        usual = round(_SHARE * usual_seconds(picture))
        seconds = config.seconds or (float(usual) if config.steps is None else None)
        config = config.replace(target_psnr=target, seconds=seconds, train_on="all")
        within = f"within {seconds:g} s" if seconds else f"in {config.steps} steps"
        words = f"a function of few bits, to {target:g} dB {within}; --recipe memorise is faster and far larger"
        return cls(picture, config, words=words)

    @property
    def facts(self) -> dict[str, Any]:
        """What the job is known by beside its settings, for JSON."""
        return {"picture_digest": self.signal.digest}

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen, for JSON."""
        return chosen(self.config)

    def device(self, asked: Device) -> Device:
        """Return where it is trained."""
        return Device("numpy", asked.threads)

    def with_config(self, config: FitConfig) -> Self:
        """Return this job with other settings."""
        return dataclasses.replace(self, config=config)

    def check_goes_on(self, saved: FitConfig) -> None:
        """Refuse to go on with other settings than a run began with; budgets alone may change."""
        check_goes_on(saved, self.config)

    def begin(
        self, backend: Backend, state: object = None, folder: Path | None = None, *, resume: bool = False
    ) -> CompactFit:
        """Make everything that its steps touch; with `resume` from the checkpoint in the folder."""
        return CompactFit(self, backend, folder, resume=resume)


def chosen(config: FitConfig) -> dict[str, Any]:
    """Return the settings that count, for JSON."""
    return {name: value for name, value in config.as_dict().items() if name in SETTINGS}


@dataclass(frozen=True, repr=False)
class CompactResult(StreamedResult):
    """A finished fit of few bits; one that was interrupted in a folder has no figures.

    `metrics` also has `bytes`, `bits_per_pixel` and `network_bits` of the file, and `lmbda`, a bit's price.
    """

    model: CompressedPicture
    asked: FitConfig = field(default_factory=FitConfig)
    data: bytes = field(default=b"", repr=False)
    """The file."""
    has_curve: ClassVar[bool] = True

    @property
    def config(self) -> FitConfig:
        """The settings of the fit."""
        return self.asked

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen, for JSON."""
        return chosen(self.asked)

    @property
    def missed_target(self) -> bool:
        """Whether a target was not reached."""
        psnr, target = self.metrics["psnr"], self.asked.target_psnr
        return target is not None and psnr is not None and bool(psnr < target - _NEAR)

    def save(self, path: FilePath) -> None:
        """Write the file, atomically; OutputError if it cannot be written."""
        write_bytes(path, self.data)

    def write_pictures(self, folder: Path) -> None:
        """Write `reconstruction.png`, `comparison.png` and `curves.svg`."""
        super().write_pictures(folder)
        save_curves(folder / "curves.svg", self.history)

    def _figures(self) -> list[tuple[str, str]]:
        return [*super()._figures(), ("bits per pixel", f"{self.metrics['bits_per_pixel']:.3f}")]


class CompactFit(RunningFit):
    """One fit of few bits. In a folder, `run` leaves a checkpoint every half minute, and when it is ended."""

    history_columns = (*HISTORY_COLUMNS, "bits_per_pixel")
    model_file = COMPACT_MODEL
    model_so_far: ClassVar[None] = None
    has_first_look = True

    def __init__(self, job: CompactJob, backend: Backend, folder: Path | None, *, resume: bool) -> None:
        self.job, self._backend, self._folder = job, backend, folder
        self.history: list[HistoryRow] = []
        config = job.config
        self._asked = Compressing(
            psnr=config.target_psnr, seconds=config.seconds, steps=config.steps, seed=config.seed
        )
        threads = getattr(backend, "threads", None)
        self._checkpoint = None if folder is None else CompressionCheckpoint(folder / COMPACT_MODEL)
        if resume and self._checkpoint is not None and self._checkpoint.path.exists():
            self._asked, self._compressor = self._checkpoint.resumed(self._asked, job.signal, threads=threads)
            self.history = _rows_until(self._checkpoint.out.with_name("history.csv"), self._compressor.step)
        else:
            self._compressor = self._asked.compressor(job.signal, threads=threads)
        self._told = self._saved = time.monotonic()

    @property
    def resumed(self) -> str:
        """What a run that is to go on has found, in words."""
        if self._compressor.step:
            return f"going on from step {self._compressor.step}"
        where = "memory" if self._folder is None else printable(self._folder)
        return f"the run in {where} had saved nothing yet: it begins again"

    @property
    def saved(self) -> str:
        """What of a run that was cut short is on disk, in words."""
        is_there = self._checkpoint is not None and self._checkpoint.path.exists()
        return "the run so far is saved" if is_there else "nothing was learned yet"

    def remove_what_is_saved(self) -> None:
        """Remove the checkpoint, after the file is written."""
        if self._checkpoint is not None:
            self._checkpoint.drop()

    def run(
        self,
        callback: Callback | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        should_stop: ShouldStop | None = None,
    ) -> CompactResult:
        """Train, and make the file; its own checkpoint takes the place of `checkpoint`.

        If it is ended early, it leaves a checkpoint in its folder and has no figures; without a folder it makes
        the file that training has come to.
        """
        is_done = self._compressor.train(lambda progress: self._tell(progress, callback, should_stop))
        self._save()
        if not is_done and self._checkpoint is not None:
            model = self._compressor.drawing(self.job.signal.name)
            return CompactResult(
                {}, list(self.history), "interrupted", model, self.job.signal, asked=self.job.config
            )
        return self._result("interrupted" if not is_done else "seconds" if self._asked.seconds else "steps")

    def _tell(
        self, progress: CompressionProgress, callback: Callback | None, should_stop: ShouldStop | None
    ) -> bool:
        now = time.monotonic()
        if progress.evaluated:
            self.history.append(_row(progress))
        if self._checkpoint is not None and now - self._saved > CHECKPOINT_SECONDS:
            self._save()
        is_due = progress.evaluated or now - self._told > CALLBACK_SECONDS
        if callback is not None and is_due:
            self._told = now
            if callback(self._progress(progress)):
                return True
        return should_stop is not None and should_stop()

    def _progress(self, progress: CompressionProgress) -> Progress:
        steps = max(progress.step + 1, round(progress.step / progress.done)) if progress.done > 0 else 1
        return Progress(
            progress.step,
            self._asked.steps or steps,
            progress.seconds,
            progress.step / max(progress.seconds, 1e-9),
            self.history[-1] if self.history else None,
            progress.evaluated,
            psnr=progress.psnr,
            is_estimate=self._asked.steps is None,
            models_now=lambda: [self._compressor.drawing(self.job.signal.name)],
        )

    def _save(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.save(self._compressor, self._asked, self.job.signal)
        self._saved = time.monotonic()

    def _result(self, stopped: str) -> CompactResult:
        picture = self.job.signal
        made = finished(self._compressor, picture)
        del self._compressor  # with its memory
        model = open_compressed(made.data, picture.name)
        metrics = _metrics(made, model, self.job.config, self._backend) | {"stopped": stopped}
        history = list(self.history)
        return CompactResult(metrics, history, stopped, model, picture, asked=self.job.config, data=made.data)


def finished_result(folder: Path, job: Job) -> CompactResult:
    """Return the result of a finished run in a folder; OutputError if its figures cannot be read."""
    try:
        metrics = read_json(folder / "metrics.json")
        if not all(isinstance(metrics[name], int | float | None) for name in _NUMBERS):
            raise TypeError("no number")
        if not all(isinstance(metrics[name], str) for name in _WORDS):
            raise TypeError("no word")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"cannot resume {printable(folder)}: metrics.json cannot be read") from error
    data = (folder / COMPACT_MODEL).read_bytes()
    model = open_compressed(data, job.signal.name)
    return CompactResult(metrics, [], metrics["stopped"], model, job.signal, asked=job.config, data=data)


class _SeenColours(Evaluator):
    """Compares what can be seen: colours of fully transparent pixels are right whatever they are."""

    def _predictions(self) -> Iterator[NDArray[np.floating]]:
        start = 0
        for values in super()._predictions():
            if self.model.signal.channels in (2, 4):
                truth = self.target[start : start + len(values)]
                hidden = truth[..., -1] == 0
                values[hidden, :-1] = truth[hidden, :-1]
            start += len(values)
            yield values


def _metrics(
    made: CompressionResult, model: CompressedPicture, config: FitConfig, backend: Backend
) -> dict[str, Any]:
    picture, psnr = made.picture, made.report.psnr
    target = picture.colours.reshape(-1, picture.channels)
    everything = np.broadcast_to(np.True_, len(target))  # without memory for each pixel
    evaluator = _SeenColours(model, make_loss("mse"), target, everything)
    figures = metrics_of(evaluator, picture, config, backend, train_on="all")
    return figures | made.metrics | {"psnr_train": psnr, "loss": _mse(psnr)}


def _mse(psnr: float) -> float:
    return float(10 ** (-psnr / 10))


def _row(progress: CompressionProgress) -> HistoryRow:
    return {
        "step": progress.step,
        "seconds": round(progress.seconds, 6),
        "loss": _mse(progress.psnr),
        "psnr_train": progress.psnr,
        "psnr_held_out": None,
        "psnr": progress.psnr,
        "learning_rate": None,
        "bits_per_pixel": progress.bits_per_pixel,
    }


def _rows_until(file: Path, step: int) -> list[HistoryRow]:
    """Return the rows of a history up to a step; none if there is no file."""
    rows = read_history(file) if file.exists() else []
    return [row for row in rows if isinstance(row["step"], int) and row["step"] <= step]
