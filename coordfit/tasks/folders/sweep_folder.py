"""The folder of one sweep: a row for each finished network.

`rows.jsonl` has one JSON document a line: the run's key, its row, its settings. A line that a killed process
left unfinished is dropped by the next one. The caller locks the folder and checks its names (`output_folder`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...config import FitConfig
from ...errors import OutputError
from ...files import Outputs, atomic_write, jsonable, printable, read_text

SWEEP_OUTPUTS = Outputs(
    ("rows.jsonl", "metrics.json", "table.md", "table.csv", "heat_map.svg", "models/*.safetensors"),
    begun=("rows.jsonl",),
)


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
        """Read the rows that are there, and open the file to append to it; OutputError if it cannot be read."""
        lines = self._read() if self.keep else []
        with atomic_write(self.rows_file) as file:
            file.write("".join(lines).encode())
        self._file = self.rows_file.open("ab", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _read(self) -> list[str]:
        """The whole lines of the file; fills `rows`."""
        if not self.rows_file.exists():
            return []
        try:
            text = read_text(self.rows_file, errors="replace")
        except OSError as error:
            raise OutputError(f"cannot read {printable(self.rows_file)}: {error.strerror}") from error
        kept = []
        for line in text.splitlines(keepends=True):
            try:
                document = json.loads(line)
                key, row = document["key"], dict(document["row"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            self.rows[str(key)] = row
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
