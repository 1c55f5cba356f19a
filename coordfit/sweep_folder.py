"""The folder of one sweep: a row for each finished network, kept by one process at a time.

`rows.jsonl` has one JSON document a line: the run's key, its row, its settings. A line that a killed process
left unfinished is dropped by the next one. The folder is locked while a sweep writes it; the lock dies with its
owner.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .config import FitConfig
from .errors import OutputError
from .files import atomic_write, jsonable, printable
from .folder_lock import locked


class SweepFolder:
    """Rows of a sweep by key, on disk as soon as they are appended.

    Parameters
    ----------
    keep : bool
        Whether the rows that are there stay; otherwise the sweep begins anew.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path, self.keep = path, keep
        self.rows: dict[str, dict[str, Any]] = {}

    @property
    def rows_file(self) -> Path:
        """Where the rows are."""
        return self.path / "rows.jsonl"

    def model_file(self, key: str) -> Path:
        """Where the model of a run goes."""
        (self.path / "models").mkdir(exist_ok=True)
        return self.path / "models" / f"{key}.safetensors"

    def __enter__(self) -> Self:
        """Lock the folder and read what is there; OutputError where another process has it."""
        with contextlib.ExitStack() as held:
            held.enter_context(locked(self.path))
            lines = self._read() if self.keep else []
            with atomic_write(self.rows_file) as file:
                file.write("".join(lines).encode())
            self._file = held.enter_context(self.rows_file.open("ab", buffering=0))
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def _read(self) -> list[str]:
        """The whole lines of the file; fills `rows`."""
        if not self.rows_file.exists():
            return []
        kept = []
        for line in self.rows_file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            try:
                document = json.loads(line)
                self.rows[document["key"]] = document["row"]
            except (ValueError, KeyError, TypeError):
                continue
            kept.append(line if line.endswith("\n") else line + "\n")
        return kept

    def append(self, key: str, row: dict[str, Any], config: FitConfig) -> None:
        """Keep a finished row, on disk before this returns."""
        document = jsonable({"key": key, "row": row, "config": config.as_dict()})
        line = memoryview((json.dumps(document, allow_nan=False) + "\n").encode())
        try:
            while line:  # an unbuffered file may take a part only
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {printable(self.rows_file)}: {error}") from error
        self.rows[key] = document["row"]
