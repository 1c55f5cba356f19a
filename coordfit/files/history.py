"""Write and read ``history.csv``, which grows row by row so that a killed run keeps its curve."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import OutputError
from .atomic import as_output_error, atomic_write, sync
from .names import FilePath, printable
from .reading import read_text

Number = float | int | None


class HistoryWriter:
    """Write ``history.csv``: one row for each evaluation, sent to the disk as soon as it is appended.

    A killed process keeps all its rows (a power cut may lose the last ones). The file has a header line; an
    empty field means that a figure was not measured. Floats are written so that reading gives the same bits.

    Parameters
    ----------
    path
        The file. What is there is replaced.
    columns
        Names of the columns: letters, digits, ``_``, ``.`` and ``-``.
    rows
        First rows, from a run that goes on: they are in place, whole, before the old file is gone.

    Raises
    ------
    OutputError
        The file cannot be written; from `append` and `close` too.
    ValueError
        A column's name cannot be used.
    """

    def __init__(self, path: FilePath, columns: Sequence[str], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._open(Path(path), columns, kept=[_line(columns, row) for row in rows])

    def _open(self, path: Path, columns: Sequence[str], kept: Sequence[str]) -> None:
        """Put the header and the rows kept in place, whole, and open the file to append to it."""
        if not columns or len(set(columns)) < len(columns):
            raise ValueError("a history needs columns, each of another name")
        if wrong := [name for name in columns if not re.fullmatch(r"[\w.-]+", name)]:
            raise ValueError(f"no name for a column of a history: {wrong[0]!r}")
        self.path = path
        self.columns = tuple(columns)
        with atomic_write(path) as file:
            file.write("".join(f"{line}\n" for line in [",".join(columns), *kept]).encode())
        with as_output_error(path):
            self._file = path.open("ab", buffering=0)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; a column that `row` lacks stays empty.

        Parameters
        ----------
        row
            Column names and numbers (Python's or NumPy's) or None.

        Raises
        ------
        OutputError
            The row cannot be written.
        ValueError
            `row` has a name that is no column.
        """
        line = memoryview((_line(self.columns, row) + "\n").encode())
        with as_output_error(self.path):
            while line:  # an unbuffered file may take a part only
                line = line[self._file.write(line) :]

    def sync(self) -> None:
        """Put all rows so far on the disk, so that even a power cut leaves them; OutputError if that fails."""
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
    """Read a history, even of a run that still goes on or was killed: leave out a last line cut short.

    Returns
    -------
    rows
        For each row the columns' values: int, float, or None where the field is empty.

    Raises
    ------
    OutputError
        The file cannot be read or is no history.
    """
    path = Path(path)
    header, lines = _history_lines(path)
    return [_parse_row(path, header, line, number) for number, line in enumerate(lines, start=2)]


def _history_lines(path: Path) -> tuple[list[str], list[str]]:
    """Return the header and the complete lines of a history."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise OutputError(f"cannot read the history {printable(path)}: {reason}") from error
    header, *lines = text.replace("\r\n", "\n").split("\n")
    if not lines:
        raise OutputError(f"cannot read the history {printable(path)}: it has no header line")
    return header.split(","), lines[:-1]  # what follows the last line's end was cut short


def _parse_row(path: Path, header: Sequence[str], line: str, number: int) -> dict[str, Number]:
    """Return the values of line `number` (the header is line 1)."""
    try:
        return {name: _number(field) for name, field in zip(header, line.split(","), strict=True)}
    except ValueError as error:
        raise OutputError(f"cannot read the history {printable(path)}: line {number} is damaged") from error


def _line(columns: Sequence[str], row: Mapping[str, Any]) -> str:
    if unknown := set(row) - set(columns):
        raise ValueError(f"no column of this history: {sorted(unknown)[0]!r}")
    return ",".join(_field(row.get(name)) for name in columns)


def _field(value: Any) -> str:
    """Return a number as text that reads back to the same bits, or nothing for None."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, Integral) else repr(float(value))


def _number(field: str) -> Number:
    """Return the value of a field: `repr` of a float always has a mark that no integer has."""
    if not field:
        return None
    return int(field) if re.fullmatch("-?[0-9]{1,18}", field) else float(field)
