"""Where finished tiles are kept while the rest are trained: in memory, or in a folder, for a run that may end.

In a folder they are `tiles.bin`, the parameters of all tiles in their order, and `tiles.json`, which says what
run they are of and how many are finished. What is finished is on the disk before it is said to be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, OutputError
from ..files import printable, write_json


class TileStore:
    """Stored parameters (n, p) and errors (n,) of the first tiles of a picture.

    Parameters
    ----------
    folder : Path, optional
        None for memory.
    facts : dict
        What a run is known by, for JSON.
    resume : bool
        Whether to go on with tiles that are there; ConfigError where they are of a run with other facts.
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
        self.errors: list[float] = []
        self.seconds = 0.0
        self.parameters: NDArray[np.floating]
        if folder is None:
            self.parameters = np.empty(shape, dtype)
            return
        self._bin, self._json = folder / "tiles.bin", folder / "tiles.json"
        if resume and self._finished_before(shape[0]):
            self.parameters = self._map("r+", shape, dtype)
        else:
            self._json.unlink(missing_ok=True)
            self.parameters = self._map("w+", shape, dtype)
            self._write()

    @property
    def done(self) -> int:
        """Tiles that are finished."""
        return len(self.errors)

    def add(self, parameters: NDArray[np.floating], errors: NDArray[np.floating], seconds: float) -> None:
        """Keep the next tiles; `seconds` of training so far."""
        start = self.done
        self.parameters[start : start + len(parameters)] = parameters
        self.errors += [float(error) for error in errors]
        self.seconds = seconds
        if self.folder is not None and isinstance(self.parameters, np.memmap):
            self.parameters.flush()
            self._write()

    def _write(self) -> None:
        write_json(self._json, self.facts | {"errors": self.errors, "seconds": self.seconds})

    def remove(self) -> None:
        """Forget the files: the model is saved."""
        if self.folder is not None:
            self.parameters = np.empty((0, 0), self.parameters.dtype)
            self._json.unlink(missing_ok=True)
            self._bin.unlink(missing_ok=True)

    def _finished_before(self, count: int) -> bool:
        """Read what an earlier run finished; False where there is none of ours."""
        try:
            document = json.loads(self._json.read_text(encoding="utf-8"))
            errors, seconds = [float(e) for e in document.pop("errors")], float(document.pop("seconds"))
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"cannot resume: {printable(self._json)} cannot be read; remove it") from error
        facts = json.loads(json.dumps(self.facts))
        if changed := [name for name in facts if document.get(name) != facts[name]]:
            what = "picture" if changed[0] == "picture_digest" else changed[0]
            raise ConfigError(f"cannot resume: the tiles in {printable(self._bin)} have another {what}")
        if len(errors) > count or not self._bin.exists():
            return False
        self.errors, self.seconds = errors, seconds
        return True

    def _map(self, mode: Any, shape: tuple[int, int], dtype: str) -> NDArray[np.floating]:
        try:
            return np.memmap(self._bin, dtype, mode, shape=shape)
        except (OSError, ValueError) as error:
            raise OutputError(f"cannot keep tiles in {printable(self._bin)}: {error}") from error
