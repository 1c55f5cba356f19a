"""Where finished tiles are kept while the rest are trained: in memory, or in a folder, for a run that may end.

In a folder they are `tiles.bin`, the errors of all tiles in their order and then their parameters, and
`tiles.json`, which says what run they are of and how many are finished. What is finished is on the disk before
it is said to be; and it does not stay in memory. `tiles.safetensors` holds the tiles under way, now and then.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ModelFileError, OutputError
from ..files import atomic_write, forget_pages, printable, read_json, write_json
from ..files.tensor_file import MAX_MAPPED_BYTES, load_tensors, save_tensors
from ..models.memory import in_words
from .under_way import Round, UnderWay

_ERROR_BYTES = np.dtype(np.float64).itemsize
_UNKNOWN = -1.0  # for an error that is infinite, which the file cannot hold


STORE_FILES = ("tiles.json", "tiles.bin", "tiles.safetensors")
"""What is in a folder while tiles are trained there."""


class TileStore:
    """Stored parameters (n, p) and errors (n,) of the first tiles of a picture.

    Parameters
    ----------
    folder : Path, optional
        None for memory.
    facts : dict
        What a run is known by, for JSON.
    resume : bool
        Whether to go on with tiles that are there.

    Raises
    ------
    ConfigError
        The tiles that are there are of a run with other facts, or the model could not be loaded for its size.
    OutputError
        The folder cannot be written, or holds what cannot be read.
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
        """Tiles that are finished."""
        self.mse = math.nan
        """The mean of their errors."""
        self.seconds, self.steps = 0.0, 0
        self.under_way: UnderWay | None = None
        """Where an earlier run left the tiles that come next; the one that goes on from there takes it."""
        self._trained = 0  # of the tiles that come next
        self.parameters: NDArray[np.floating]
        self._errors: NDArray[np.float64]
        size = shape[0] * (_ERROR_BYTES + shape[1] * np.dtype(dtype).itemsize)
        if size > MAX_MAPPED_BYTES:
            most = in_words(MAX_MAPPED_BYTES)
            told = f"the tiles would take {in_words(size)}, and model files end at {most}"
            raise ConfigError(f"{told}: take larger tiles or a smaller hidden_size")
        if folder is None:
            self._errors, self.parameters = np.empty(shape[0]), np.empty(shape, dtype)
            return
        self._bin, self._json = folder / "tiles.bin", folder / "tiles.json"
        self._under_way_file = folder / "tiles.safetensors"
        if resume and self._finished_before(shape[0], size):
            self._map("r+b", size)
            self._partition(shape, dtype)
            self.mse = float(np.mean(self.errors)) if self.done else math.nan
            self._read_under_way()
        else:
            self._json.unlink(missing_ok=True)
            self._under_way_file.unlink(missing_ok=True)
            self._map("x+b", size)
            self._partition(shape, dtype)
            self._write()

    @property
    def errors(self) -> NDArray[np.float64]:
        """Of the finished tiles (done,)."""
        return self._errors[: self.done]

    def add(
        self, parameters: NDArray[np.floating], errors: NDArray[np.floating], seconds: float, steps: int
    ) -> None:
        """Keep the next tiles; `seconds` of training so far, and `steps` of all tiles together."""
        these = slice(self.done, self.done + len(parameters))
        self.parameters[these], self._errors[these] = parameters, errors
        self.done, self.seconds, self.steps = these.stop, seconds, steps
        self._trained = 0
        self.mse = float(np.mean(self.errors))
        if self.folder is not None:
            self._bytes.flush()
            forget_pages(self._bytes)
            self._write()
            self._under_way_file.unlink(missing_ok=True)

    def keep_under_way(self, under_way: UnderWay, seconds: float) -> None:
        """Keep where the tiles that come next stand; `seconds` of training so far."""
        if self.folder is None:
            return
        self._trained, round_ = under_way.tiles_trained, under_way.round
        tensors = {
            "parameters": under_way.parameters,
            "error": np.where(np.isfinite(under_way.error), under_way.error, _UNKNOWN),
            "group": round_.group,
            "trained": round_.trained.astype(np.uint8),
        }
        facts = {"done": self.done, "seconds": seconds, "diverged": under_way.diverged}
        facts |= {"round": round_.number, "steps_before": round_.steps_before, "before": round_.before}
        save_tensors(self._under_way_file, tensors, facts)

    def _read_under_way(self) -> None:
        """Read what `keep_under_way` wrote, if it is of the tiles that come next."""
        if not self._under_way_file.exists():
            return
        try:
            tensors, facts = load_tensors(self._under_way_file)
            if facts["done"] != self.done:
                return
            before = math.inf if facts["before"] is None else float(facts["before"])
            trained = tensors["trained"].astype(np.bool_)
            round_ = Round(facts["round"], before, facts["steps_before"], tensors["group"], trained)
            error = np.where(tensors["error"] == _UNKNOWN, math.inf, tensors["error"])
            self.under_way = UnderWay(tensors["parameters"], error, round_, facts["diverged"])
            self.seconds, self._trained = float(facts["seconds"]), self.under_way.tiles_trained
        except (ModelFileError, KeyError, TypeError, ValueError) as error:
            told = f"cannot resume: {printable(self._under_way_file)} cannot be used; remove it"
            raise OutputError(told) from error

    @property
    def learned(self) -> int:
        """Tiles that are finished or have been trained in a part of their rounds."""
        return self.done + self._trained

    def _write(self) -> None:
        write_json(self._json, self.facts | {"done": self.done, "seconds": self.seconds, "steps": self.steps})

    def remove(self) -> None:
        """Forget the files: the model is saved."""
        if self.folder is not None:
            self.parameters = np.empty((0, 0), self.parameters.dtype)
            self._errors = np.empty(0)
            del self._bytes
            for file in (self._json, self._bin, self._under_way_file):
                file.unlink(missing_ok=True)

    def _finished_before(self, count: int, size: int) -> bool:
        """Read what an earlier run finished; False where there is none of ours."""
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
        """Map `tiles.bin`, made anew or kept. Another name of the same file keeps what it has."""
        try:
            if mode == "x+b":
                self._bin.unlink(missing_ok=True)
            elif self._bin.stat().st_nlink > 1:
                with self._bin.open("rb") as shared, atomic_write(self._bin) as own:
                    shutil.copyfileobj(shared, own)
            with self._bin.open(mode) as file:
                file.truncate(size)
                _take_room(file.fileno(), size)
                self._bytes = np.memmap(file, np.uint8, "r+", shape=(size,))
        except (OSError, ValueError) as error:
            if mode == "x+b":
                with contextlib.suppress(OSError):
                    self._bin.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error)
            what = f"{in_words(size)} of tiles in {printable(self._bin)}"
            raise OutputError(f"cannot keep {what}: {reason}") from error

    def _partition(self, shape: tuple[int, int], dtype: str) -> None:
        end = shape[0] * _ERROR_BYTES
        self._errors = self._bytes[:end].view(np.float64)
        self.parameters = self._bytes[end:].view(dtype).reshape(shape)


def _take_room(descriptor: int, size: int) -> None:
    """Take all of a file's room on the disk at once: a map whose disk is full later ends the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot
            raise
