"""Storage of finished tiles while the others are trained: in memory, or in a folder that survives the process.

`tiles.bin` holds the errors of all tiles and then their parameters, `tiles.json` the facts of the run and the
number of finished tiles, which is written after their data is on the disk. Finished tiles do not stay in
memory. `tiles.safetensors` is a checkpoint of the tiles in training.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ModelFileError, OutputError
from ..files import atomic_write, forget_pages, printable, read_json, write_json
from ..files.tensor_file import MAX_MAPPED_BYTES, load_tensors, save_tensors
from ..models.memory import in_words
from .unfinished import Round, UnfinishedTiles

_ERROR_BYTES = np.dtype(np.float64).itemsize
_UNKNOWN = -1.0  # stands for an infinite error, which the file cannot hold

STORE_FILES = ("tiles.json", "tiles.bin", "tiles.safetensors")
"""Files of a folder in which tiles are trained."""


class TileStore:
    """Stored parameters (n, p) and errors (n,) of the first tiles of a picture, in a folder or in memory.

    The facts identify the run, for JSON; with `resume` it goes on with the tiles in the folder.

    Raises
    ------
    ConfigError
        The folder has tiles of a run with other facts, or the model would be too large to load.
    OutputError
        The folder cannot be written, or its files cannot be read.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: str,
        folder: Path | None = None,
        facts: dict[str, Any] | None = None,
        *,
        resume: bool = False,
    ) -> None:
        self.folder, self.facts = folder, facts or {}
        self.done = 0
        """Number of finished tiles."""
        self.mse = math.nan
        """The mean of their errors."""
        self.seconds, self.steps = 0.0, 0
        self.unfinished: UnfinishedTiles | None = None
        """Where an earlier run left the next tiles, until the run that goes on takes it."""
        self._trained = 0  # of the unfinished tiles
        size = shape[0] * (_ERROR_BYTES + shape[1] * np.dtype(dtype).itemsize)
        if size > MAX_MAPPED_BYTES:
            raise ConfigError(
                f"the tiles would take {in_words(size)}, and model files end at {in_words(MAX_MAPPED_BYTES)}: "
                "take larger tiles or a smaller hidden_size"
            )
        if folder is None:
            self._errors = np.empty(shape[0])
            self.parameters: NDArray[np.floating] = np.empty(shape, dtype)
            return
        self._bin, self._json = folder / "tiles.bin", folder / "tiles.json"
        self._unfinished_file = folder / "tiles.safetensors"
        goes_on = resume and self._read_finished(shape[0], size)
        if not goes_on:
            self._json.unlink(missing_ok=True)
            self._unfinished_file.unlink(missing_ok=True)
        self._map("r+b" if goes_on else "x+b", size)
        end = shape[0] * _ERROR_BYTES
        self._errors = self._bytes[:end].view(np.float64)
        self.parameters = self._bytes[end:].view(dtype).reshape(shape)
        if goes_on:
            self.mse = float(np.mean(self.errors)) if self.done else math.nan
            self._read_unfinished()
        else:
            self._write()

    @property
    def errors(self) -> NDArray[np.float64]:
        """The mean squared errors (done,) of the finished tiles."""
        return self._errors[: self.done]

    def add(
        self, parameters: NDArray[np.floating], errors: NDArray[np.floating], seconds: float, steps: int
    ) -> None:
        """Store the next tiles; `seconds` of training so far, and `steps` of all tiles together."""
        these = slice(self.done, self.done + len(parameters))
        self.parameters[these], self._errors[these] = parameters, errors
        self.done, self.seconds, self.steps = these.stop, seconds, steps
        self._trained = 0
        self.mse = float(np.mean(self.errors))
        if self.folder is not None:
            self._bytes.flush()
            forget_pages(self._bytes)
            self._write()
            self._unfinished_file.unlink(missing_ok=True)

    def save_unfinished(self, tiles: UnfinishedTiles, seconds: float) -> None:
        """Save the state of the next tiles, if there is a folder; `seconds` of training so far."""
        if self.folder is None:
            return
        self._trained, round_ = tiles.tiles_trained, tiles.round
        tensors = {
            "parameters": tiles.parameters,
            "error": np.where(np.isfinite(tiles.error), tiles.error, _UNKNOWN),
            "group": round_.group,
            "trained": round_.trained.astype(np.uint8),
        }
        facts = {"done": self.done, "seconds": seconds, "diverged": tiles.diverged}
        facts |= {"round": round_.number, "steps_before": round_.steps_before, "before": round_.before}
        save_tensors(self._unfinished_file, tensors, facts)

    def _read_unfinished(self) -> None:
        """Read what `save_unfinished` wrote, if it belongs to the next tiles."""
        if not self._unfinished_file.exists():
            return
        try:
            tensors, facts = load_tensors(self._unfinished_file)
            if facts["done"] != self.done:
                return
            before = math.inf if facts["before"] is None else float(facts["before"])
            trained = tensors["trained"].astype(np.bool_)
            round_ = Round(facts["round"], before, facts["steps_before"], tensors["group"], trained)
            error = np.where(tensors["error"] == _UNKNOWN, math.inf, tensors["error"])
            self.unfinished = UnfinishedTiles(tensors["parameters"], error, round_, facts["diverged"])
            self.seconds, self._trained = float(facts["seconds"]), self.unfinished.tiles_trained
        except (ModelFileError, KeyError, TypeError, ValueError) as error:
            name = printable(self._unfinished_file)
            raise OutputError(f"cannot resume: {name} cannot be used; remove it") from error

    @property
    def trained(self) -> int:
        """Number of tiles that are finished or have been trained in some of their rounds."""
        return self.done + self._trained

    def _write(self) -> None:
        write_json(self._json, self.facts | {"done": self.done, "seconds": self.seconds, "steps": self.steps})

    def remove(self) -> None:
        """Remove the files, after the model is saved."""
        if self.folder is not None:
            self.parameters = np.empty((0, 0), self.parameters.dtype)
            self._errors = np.empty(0)
            del self._bytes
            for file in (self._json, self._bin, self._unfinished_file):
                file.unlink(missing_ok=True)

    def _read_finished(self, count: int, size: int) -> bool:
        """Read how far an earlier run came; return whether there is one with usable data."""
        try:
            document = read_json(self._json)
            done, steps = int(document["done"]), int(document["steps"])
            seconds = float(document["seconds"])
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise OutputError(f"cannot resume: {printable(self._json)} cannot be read; remove it") from error
        facts = json.loads(json.dumps(self.facts))
        if changed := [name for name in facts if document.get(name) != facts[name]]:
            what = "picture" if changed[0] == "picture_digest" else changed[0]
            raise ConfigError(f"cannot resume: the tiles in {printable(self._bin)} have another {what}")
        if not 0 <= done <= count or not self._bin.exists() or self._bin.stat().st_size != size:
            return False
        self.done, self.seconds, self.steps = done, seconds, steps
        return True

    def _map(self, mode: str, size: int) -> None:
        """Map `tiles.bin`, new or existing; a hard link to the same file keeps its content."""
        try:
            if mode == "x+b":
                self._bin.unlink(missing_ok=True)
            elif self._bin.stat().st_nlink > 1:
                with self._bin.open("rb") as shared, atomic_write(self._bin) as own:
                    shutil.copyfileobj(shared, own)
            with self._bin.open(mode) as file:
                file.truncate(size)
                _allocate(file.fileno(), size)
                self._bytes = np.memmap(file, np.uint8, "r+", shape=(size,))
        except (OSError, ValueError) as error:
            if mode == "x+b":
                with contextlib.suppress(OSError):
                    self._bin.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error)
            what = f"{in_words(size)} of tiles in {printable(self._bin)}"
            raise OutputError(f"cannot keep {what}: {reason}") from error


def _allocate(descriptor: int, size: int) -> None:
    """Allocate a file on the disk at once: if the disk is full later, a map kills the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot
            raise


class ParametersNow:
    """Stored parameters (n, p) of all tiles, read by number at the time of the call; NaN if unknown yet.

    `unfinished` returns the parameters (k, p) of tiles by their numbers after the finished ones.
    """

    def __init__(
        self, store: TileStore, unfinished: Callable[[NDArray[np.integer]], NDArray[np.floating]]
    ) -> None:
        self._store, self._unfinished = store, unfinished
        self.shape, self.dtype = store.parameters.shape, store.parameters.dtype

    def __getitem__(self, tiles: Any) -> NDArray[np.floating]:
        numbers = np.arange(self.shape[0])[tiles]
        finished = numbers < self._store.done
        found = np.empty((len(numbers), self.shape[1]), self.dtype)
        found[finished] = self._store.parameters[numbers[finished]]
        if not finished.all():
            found[~finished] = self._unfinished(numbers[~finished] - self._store.done)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.floating]:
        return self[:].astype(dtype or self.dtype)
