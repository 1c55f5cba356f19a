"""The folder of one run: which files it holds, how they are written, and how a run goes on from them.

| file | what |
|---|---|
| `config.json` | every setting, the picture's path and digest, device and precision; written before training |
| `history.csv` | a row for each evaluation, as it comes |
| `checkpoint.safetensors`, or `model.cfc.checkpoint` | where the run stands, for `--resume` |
| `model.safetensors`, or `model.cfc` | the fitted model |
| `metrics.json` | the figures |
| `reconstruction.png`, `comparison.png`, `curves.svg` | what it looks like; of an array `reconstruction.npy` |
| `deviation.png`, `networks/` | how much the networks of a mean differ, and they themselves |
| `tiles.json`, `tiles.bin` | finished tiles, until the model is saved |
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..._version import __version__
from ...backends import Backend
from ...components import name_of
from ...config import FitConfig, make_config
from ...encoders.registry import encoding_class
from ...errors import OutputError
from ...files import HistoryWriter, Outputs, printable, read_history, read_json, write_json
from ...models.model import Model
from ...models.writing import save_rows
from ...sources.reading import ArrayOptions
from ...sources.writing import ENDINGS
from ...tiles.store import STORE_FILES
from ...training.checkpoint import load_checkpoint, save_checkpoint
from ...training.result import FitResult
from ...training.state import Callback, Progress, TrainingState
from ..jobs.compact import COMPACT_CHECKPOINT, COMPACT_MODEL
from ..jobs.network import CHECKPOINT, NetworkFit
from ..jobs.plan import AnyFit, FitJob, digests_of
from ..load import NETWORKS
from .resume import Asked, Begun, kind_in

Result = TypeVar("Result", bound=FitResult)

RUN_OUTPUTS = Outputs(
    (
        "config.json",
        "history.csv",
        "checkpoint.safetensors",
        COMPACT_CHECKPOINT,
        COMPACT_MODEL,
        "model.safetensors",
        "metrics.json",
        "reconstruction.png",
        "comparison.png",
        "deviation.png",
        "deviation.npy",
        *(f"reconstruction{ending}" for ending in ENDINGS),
        f"{NETWORKS}/*.safetensors",
        "curves.svg",
        *STORE_FILES,
    ),
    begun=("config.json", "checkpoint.safetensors", COMPACT_CHECKPOINT, *STORE_FILES),
)
"""The files of `coordfit fit`, of any kind of function: a run replaces or removes those of one before."""


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run."""

    path: Path

    @property
    def checkpoint_file(self) -> Path:
        """Where the run stands."""
        return self.path / CHECKPOINT

    def begin(
        self, job: FitJob, backend: Backend, asked: Asked, state: TrainingState | None, *, resume: bool
    ) -> AnyFit:
        """Make everything that the steps touch, and write what the run begins with."""
        fit = job.begin(backend, state, self.path, resume=resume)
        if not resume:
            self.drop_checkpoint(keep=fit.files)
        self.describe(job, backend, asked)
        return fit

    def describe(self, job: FitJob, backend: Backend, asked: Asked) -> None:
        """Write `config.json` of a run that begins or goes on."""
        more: dict[str, Any] = {"pixels": pixels} if (pixels := digests_of(job)) else {}
        more |= {job.kind: job.facts | {"max_pixels": asked.max_pixels}} if job.facts else {}
        more |= {"array": dataclasses.asdict(asked.array)} if asked.array else {}
        self.write_config(job, asked.image, backend, **more)

    def write_config(self, job: FitJob, image: str | None, backend: Backend, **more: Any) -> None:
        """Write `config.json`; `image` is the picture's path, or None for the bundled one."""
        path = None if image is None else str(Path(image).absolute())
        document = {"config": job.settings, "image": path, "picture_digest": job.signal.digest}
        document |= {"device": backend.device, "precision": backend.precision, **more, "coordfit": __version__}
        write_json(self.path / "config.json", document)

    def read_config(self) -> Begun | None:
        """Return what an earlier run began with; None if none began."""
        file = self.path / "config.json"
        if not (file.exists() or self.checkpoint_file.exists()):
            return None
        document = self.config_document()
        try:
            config, image = make_config(document["config"]), document["image"]
            digest = document.get("picture_digest")
            array = ArrayOptions.of_document(document["array"]) if "array" in document else None
        except (ValueError, KeyError, TypeError) as error:
            raise self._unreadable() from error
        if not isinstance(image, str | None) or not isinstance(digest, str | None):
            raise self._unreadable()
        return Begun(config, image, digest, *kind_in(document, self.path), array)

    def config_document(self) -> dict[str, Any]:
        """Return the object in `config.json`; OutputError if it cannot be read."""
        try:
            document = read_json(self.path / "config.json")
        except (OSError, ValueError) as error:
            raise self._unreadable() from error
        if not isinstance(document, dict):
            raise self._unreadable()
        return document

    def _unreadable(self) -> OutputError:
        return OutputError(f"cannot resume {printable(self.path)}: config.json cannot be read")

    def state_of(self, job: FitJob, begun: Begun) -> TrainingState | None:
        """Return where the run stands that goes on as `job`; ConfigError if it cannot be gone on with."""
        before, state = self.load_state() or (begun.config, None)
        job.check_goes_on(before)
        begun.check_picture(job.signal, None if state is None else state.picture_digest)
        return state

    def load_state(self) -> tuple[FitConfig, TrainingState] | None:
        """Settings and state of an earlier run, with its history, or None where no checkpoint was written."""
        if not self.checkpoint_file.exists():
            return None
        config, state = load_checkpoint(self.checkpoint_file)
        with contextlib.suppress(FileNotFoundError):
            state.history = read_history(self.path / "history.csv")
        return config, state

    def history_writer(self, fit: AnyFit) -> contextlib.AbstractContextManager[HistoryWriter | None]:
        """`history.csv`, begun anew with the rows that the fit brings from an earlier run; None of tiles."""
        if not fit.history_columns:
            return contextlib.nullcontext()
        return HistoryWriter(self.path / "history.csv", fit.history_columns, rows=fit.history)

    def drop_checkpoint(self, keep: Sequence[str] = ()) -> None:
        """Remove the checkpoint or the tiles of a run that is replaced: none shall go on from them.

        `keep` names files that are of the run that replaces it.
        """
        self._remove(*(name for name in (CHECKPOINT, COMPACT_CHECKPOINT, *STORE_FILES) if name not in keep))

    def _remove(self, *names: str) -> None:
        for file in (self.path / name for name in names):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(f"cannot replace {printable(file)}: {error.strerror}") from error

    def save_checkpoint(self, model: Model, state: TrainingState) -> None:
        """Write where the run stands."""
        save_checkpoint(self.checkpoint_file, model, state)

    def train(
        self,
        fit: AnyFit,
        run: Callable[..., Result],
        callback: Callback | None = None,
        first_look: Callable[[Path, float], object] | None = None,
    ) -> Result:
        """Run a fit with `history.csv`, checkpoints and a first look.

        `run` takes a callback and a `checkpoint`. `first_look` is told of the first picture's file and its
        PSNR in dB.
        """
        with self.history_writer(fit) as history:

            def tell(progress: Progress) -> bool:
                if progress.evaluated and progress.row is not None:
                    if fit.has_first_look and len(fit.history) == 1:
                        file = self.write_first_look(progress)
                        if first_look is not None:
                            first_look(file, progress.row["psnr"] or 0.0)
                    if history is not None:
                        history.append(progress.row)
                return callback is not None and bool(callback(progress))

            def checkpoint(state: TrainingState) -> None:
                if history is not None and fit.model_so_far is not None:
                    history.sync()  # a power cut must not lose rows of steps before the checkpoint
                    self.save_checkpoint(fit.model_so_far, state)

            return run(tell, checkpoint=checkpoint)

    def write_first_look(self, progress: Progress) -> Path:
        """Write `reconstruction.png` as training shows it, and return its path."""
        file, model = self.path / "reconstruction.png", progress.model
        save_rows(file, model, model.grid(), see=lambda rows: None)
        return file

    def write_result(self, result: FitResult, fit: AnyFit) -> None:
        """Write what a finished run leaves, if it has a model; what would hurt most to lose comes first."""
        if result.has_model:
            self._write_files(result, fit.model_file)
            fit.remove_what_is_saved()

    def write_trained(self, result: FitResult) -> None:
        """Write what one network of a batch leaves, its history and its checkpoint among it."""
        with HistoryWriter(self.path / "history.csv", NetworkFit.history_columns, rows=result.history):
            pass
        if result.has_model and result.state is not None and isinstance(result.model, Model):
            self.save_checkpoint(result.model, result.state)
            self._write_files(result, NetworkFit.model_file)

    def _write_files(self, result: FitResult, model_file: str) -> None:
        result.save(self.path / model_file)
        self._remove(*({"model.safetensors", COMPACT_MODEL} - {model_file}))
        self._write_networks(result.networks)
        write_json(self.path / "metrics.json", result.full_metrics)
        result.write_pictures(self.path)

    def _write_networks(self, networks: Sequence[Model]) -> None:
        """Replace the networks of a mean, or remove those that are there if there are none."""
        folder = self.path / NETWORKS
        old = [f"{NETWORKS}/{file.name}" for file in folder.glob("*.safetensors")]
        self._remove(*old, *([] if networks else ["deviation.png"]))
        if networks:
            folder.mkdir(exist_ok=True)
        for number, model in enumerate(networks, start=1):
            model.save(folder / f"{number:02d}.safetensors")


def describe_settings(config: FitConfig) -> dict[str, Any]:
    """The settings that shape a network, for people."""
    return {
        "encoding": name_of(config.encoding),
        "sigma": config.resolved_sigma if encoding_class(config.encoding).has_sigma else None,
        "depth": config.depth,
        "hidden_size": config.hidden_size,
        "activation": name_of(config.activation),
        "loss": name_of(config.loss),
        "optimizer": name_of(config.optimizer),
    }
