"""The folder of one run: which files it holds, how they are written, and how a run goes on from them.

| file | what |
|---|---|
| `config.json` | every setting, the picture's path and digest, device and precision; written before training |
| `history.csv` | a row for each evaluation, as it comes |
| `checkpoint.safetensors` | where the run stands, for `--resume` |
| `model.safetensors` | the fitted model |
| `metrics.json` | the figures |
| `reconstruction.png`, `comparison.png`, `curves.svg` | what it looks like |
| `tiles.json`, `tiles.bin` | finished tiles, until the model is saved |
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._backends import Backend
from .._version import __version__
from ..config import BUDGETS, FitConfig, make_config
from ..encoders.registry import ENCODINGS
from ..errors import ConfigError, OutputError
from ..files import HistoryWriter, Outputs, atomic_write, printable, read_history, read_json, write_json
from ..images import Picture, save_picture
from ..models.model import Model
from ..training.checkpoint import load_checkpoint, save_checkpoint
from ..training.result import FitResult
from ..training.state import HISTORY_COLUMNS, TrainingState
from ..training.trainer import Trainer

if TYPE_CHECKING:
    from .average import AverageTrainer


# What `tiles.store` keeps while tiles are trained.
TILE_FILES = ("tiles.json", "tiles.bin", "tiles.safetensors")
RUN_OUTPUTS = Outputs(
    (
        "config.json",
        "history.csv",
        "checkpoint.safetensors",
        "model.safetensors",
        "metrics.json",
        "reconstruction.png",
        "comparison.png",
        "curves.svg",
        *TILE_FILES,
    ),
    begun=("config.json", "checkpoint.safetensors", *TILE_FILES),
)
"""The files of `coordfit fit`, of one network or of tiles: a run replaces or removes those of one before."""


@dataclass(frozen=True)
class Begun:
    """What `config.json` says of a run that goes on; nothing in it is trusted to choose a file.

    Attributes
    ----------
    image : str or None
        The picture's path; None for the bundled one.
    picture_digest : str or None
        `Picture.digest` of the picture that the run began with.
    """

    config: FitConfig
    image: str | None
    picture_digest: str | None

    def picture_path(self, named: str | None) -> str | None:
        """Return the path of the picture to read: the one that the user named, or else the run's own.

        Raises
        ------
        ConfigError
            The user named none, and the run's own is not to be opened: it has no digest to compare it with, or
            it is on another machine, to which opening it would log in.
        """
        if named is not None or self.image is None:
            return named
        if self.picture_digest is None or re.match(r"[\\/]{2}", self.image):
            where = "is on a network" if self.picture_digest else "has no digest"
            told = (
                f"cannot resume without a picture: the one in config.json {where}; name it on the command line"
            )
            raise ConfigError(told)
        return self.image

    def check_picture(self, picture: Picture, trained_on: str | None = None) -> None:
        """Refuse another picture than `config.json` or the saved state was made from."""
        if any(digest not in (None, picture.digest) for digest in (self.picture_digest, trained_on)):
            raise ConfigError(f"cannot resume: {picture.name} is not the picture that the run was trained on")


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run."""

    path: Path

    @property
    def checkpoint_file(self) -> Path:
        """Where the run stands."""
        return self.path / "checkpoint.safetensors"

    def write_config(self, config: FitConfig, image: str | None, backend: Backend, picture: Picture) -> None:
        """Write `config.json`; `image` is the picture's path, or None for the bundled one."""
        document = {"config": config.as_dict(), "image": image, "picture_digest": picture.digest}
        document |= {"device": backend.device, "precision": backend.precision, "coordfit": __version__}
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
        except (ValueError, KeyError, TypeError) as error:
            raise self._unreadable() from error
        if not isinstance(image, str | None) or not isinstance(digest, str | None):
            raise self._unreadable()
        return Begun(config, image, digest)

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

    def load_state(self) -> tuple[FitConfig, TrainingState] | None:
        """Settings and state of an earlier run, with its history, or None where no checkpoint was written."""
        if not self.checkpoint_file.exists():
            return None
        config, state = load_checkpoint(self.checkpoint_file)
        with contextlib.suppress(FileNotFoundError):
            state.history = read_history(self.path / "history.csv")
        return config, state

    def history_writer(self, trainer: Trainer | AverageTrainer) -> HistoryWriter:
        """`history.csv`, begun anew with the rows that the trainer brings from an earlier run."""
        return HistoryWriter(self.path / "history.csv", HISTORY_COLUMNS, rows=trainer.history)

    def drop_checkpoint(self) -> None:
        """Remove the checkpoint or the tiles of a run that is replaced: nobody shall go on from them."""
        for file in (self.checkpoint_file, *(self.path / name for name in TILE_FILES)):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(f"cannot replace {printable(file)}: {error.strerror}") from error

    def save_checkpoint(self, model: Model, state: TrainingState) -> None:
        """Write where the run stands."""
        save_checkpoint(self.checkpoint_file, model, state)

    def write_result(self, result: FitResult) -> None:
        """Write all that a finished run leaves; what would hurt most to lose comes first."""
        result.save(self.path / "model.safetensors")
        write_json(self.path / "metrics.json", result.metrics)
        pixels, depth = result.reconstruction, result.picture.bit_depth
        save_picture(self.path / "reconstruction.png", pixels, bit_depth=depth)
        with atomic_write(self.path / "comparison.png") as file:
            result.comparison().save(file, format="PNG")
        from ..report.curves import save_curves

        save_curves(self.path / "curves.svg", result.history)


def check_resumable(saved: FitConfig, asked: FitConfig) -> None:
    """Refuse to go on with other settings; budgets alone may change."""
    before, now = saved.as_dict(), asked.as_dict()
    changed = [name for name in before if name not in BUDGETS and before[name] != now[name]]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"cannot resume with {name} {now[name]!r}: the run has {before[name]!r} (only budgets may change)"
        )


def describe_settings(config: FitConfig) -> dict[str, Any]:
    """The settings that shape a network, for people."""
    return {
        "encoding": config.encoding,
        "sigma": config.resolved_sigma if ENCODINGS[config.encoding].has_sigma else None,
        "depth": config.depth,
        "hidden_size": config.hidden_size,
        "activation": config.activation,
        "loss": config.loss,
        "optimizer": config.optimizer,
    }
