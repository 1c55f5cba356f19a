"""Write and read ``history.csv``, which grows row by row so that a killed run keeps its curve."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import OutputError
from .atomic import as_output_error, sync, write_bytes
from .names import FilePath, printable
from .reading import read_text

Number = float | int | None


class HistoryWriter:
    """Write ``history.csv``: one row for each evaluation, flushed when it is appended.

    OutputError if the file cannot be written, from `append` and `close` too.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    columns
        Names of the columns: letters, digits, ``_``, ``.`` and ``-``; ValueError for others.
    rows
        Rows of the run that goes on: they are written whole before the old file is replaced.
    """

    def __init__(self, path: FilePath, columns: Sequence[str], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        if not columns or len(set(columns)) < len(columns):
            raise ValueError("a history needs columns, each of another name")
        if wrong := [name for name in columns if not re.fullmatch(r"[\w.-]+", name)]:
            raise ValueError(f"no name for a column of a history: {wrong[0]!r}")
        lines = [",".join(columns), *(_line(columns, row) for row in rows)]
        self.path, self.columns = Path(path), tuple(columns)
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
        with as_output_error(self.path):
            self._file = self.path.open("ab", buffering=0)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row of numbers (Python's or NumPy's) or None; a missing column stays empty.

        OutputError if it cannot be written, ValueError if `row` has a name that is no column.
        """
        line = memoryview((_line(self.columns, row) + "\n").encode())
        with as_output_error(self.path):
            while line:  # an unbuffered file may take a part only
                line = line[self._file.write(line) :]

    def sync(self) -> None:
        """Write all rows through to the disk; OutputError if that fails."""
        with as_output_error(self.path):
            sync(self._file.fileno())

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        with as_output_error(self.path):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_history(path: FilePath) -> list[dict[str, Number]]:
    """Read a history, even of a running or killed run; an incomplete last line is left out.

    Each row holds the columns' values: int, float, or None for an empty field. OutputError if the file cannot
    be read or is no history.
    """
    path = Path(path)
    header, lines = _history_lines(path)
    return [_parse_row(path, header, line, number) for number, line in enumerate(lines, start=2)]


def _history_lines(path: Path) -> tuple[list[str], list[str]]:
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise OutputError(f"cannot read the history {printable(path)}: {reason}") from error
    header, *lines = text.replace("\r\n", "\n").split("\n")
    if not lines:
        raise OutputError(f"cannot read the history {printable(path)}: it has no header line")
    return header.split(","), lines[:-1]  # the text after the last line break is incomplete


def _parse_row(path: Path, header: Sequence[str], line: str, number: int) -> dict[str, Number]:
    try:
        return {name: _number(field) for name, field in zip(header, line.split(","), strict=True)}
    except ValueError as error:
        raise OutputError(f"cannot read the history {printable(path)}: line {number} is damaged") from error


def _line(columns: Sequence[str], row: Mapping[str, Any]) -> str:
    if unknown := set(row) - set(columns):
        raise ValueError(f"no column of this history: {sorted(unknown)[0]!r}")
    return ",".join(_field(row.get(name)) for name in columns)


def _field(value: Any) -> str:
    """Return a number as text that reads back to the same bits; nothing for None."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, Integral) else repr(float(value))


def _number(field: str) -> Number:
    """Return the value of a field; an integer has digits only, which `repr` of a float never has."""
    if not field:
        return None
    return int(field) if re.fullmatch("-?[0-9]{1,18}", field) else float(field)
