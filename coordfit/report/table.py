"""Tabulate results by column name, for terminals, notebooks, files and pandas."""

from __future__ import annotations

import csv
import html
import io
import math
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..files import escaped

Row = Mapping[str, Any]
_GAP = 2  # places between columns
_MOST_LETTERS = 120  # letters of the names in a table's repr


class Table(Sequence[Row]):
    """Rows with the same columns; a missing value is None.

    Parameters
    ----------
    rows : iterable of mappings
    columns : sequence of str, optional
        The columns in order; by default those of the rows, in the order of their first appearance.
    """

    def __init__(self, rows: Sequence[Row], columns: Sequence[str] | None = None) -> None:
        found = dict.fromkeys(name for row in rows for name in row) if columns is None else columns
        self.columns = tuple(found)
        self.rows: list[dict[str, Any]] = [{name: row.get(name) for name in self.columns} for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """Return a row by number, a column by name (a list), or a table of a slice of rows."""
        if isinstance(index, str):
            return [row[index] for row in self.rows]
        if isinstance(index, slice):
            return Table(self.rows[index], self.columns)
        return self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def sorted_by(self, column: str, *, descending: bool = True) -> Table:
        """Return the table sorted by a column: numbers before words, missing values last."""

        def has_value(row: Row) -> bool:
            value = row[column]
            return value is not None and not (isinstance(value, float) and math.isnan(value))

        def place(row: Row) -> tuple[bool, Any]:
            value = row[column]
            number = _is_number(value)
            return number == descending, value if number else str(value)

        present = sorted((row for row in self.rows if has_value(row)), key=place, reverse=descending)
        return Table([*present, *(row for row in self.rows if not has_value(row))], self.columns)

    def to_pandas(self) -> Any:
        """Return the table as a `pandas.DataFrame`; pandas must be installed."""
        import pandas  # not a dependency of coordfit

        return pandas.DataFrame(self.rows, columns=list(self.columns))

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [_pipes(self.columns), _pipes("---" for _ in self.columns)]
        return "\n".join([*lines, *(_pipes(cell(row[name]) for name in self.columns) for row in self.rows)])

    def to_csv(self) -> str:
        """Return the table as CSV (RFC 4180 with plain line feeds), with every digit of its floats."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def __repr__(self) -> str:
        names = textwrap.shorten(", ".join(map(escaped, self.columns)), _MOST_LETTERS, placeholder=" ...")
        return f"<Table, rows: {len(self)}, columns: {names}>"

    def __str__(self) -> str:
        """Return the table in aligned columns, as wide as the terminal (`COLUMNS`, or 80).

        If it is too wide, names of columns break into several lines, and further columns follow in further
        tables, each of which begins with the columns that tell the rows apart.
        """
        available = shutil.get_terminal_size((80, 24)).columns
        cells = {name: max((cell_width(cell(row[name])) for row in self), default=0) for name in self.columns}
        widths = {name: max(cell_width(name), width) for name, width in cells.items()}
        if _fits(widths.values(), available):
            return _drawn(self, widths)
        broken = {name: max(*map(cell_width, name.split("_")), width) for name, width in cells.items()}
        return "\n\n".join(_drawn(part, broken) for part in self._parts(broken, available))

    def _parts(self, widths: Mapping[str, int], available: int) -> Iterator[Table]:
        """Yield the table in parts that fit the width."""
        keys = list(self._keys(widths, available // 2))
        names = keys
        for name in self.columns[len(keys) :]:
            if _fits([widths[own] for own in (*names, name)], available):
                names = [*names, name]
                continue
            yield Table(self.rows, names)
            names = [*keys, name] if _fits([widths[own] for own in (*keys, name)], available) else [name]
        yield Table(self.rows, names)

    def _keys(self, widths: Mapping[str, int], available: int) -> tuple[str, ...]:
        """Return the fewest columns from the left that tell all rows apart, or the first one."""
        for count in range(1, len(self.columns)):
            keys = self.columns[:count]
            if not _fits([widths[name] for name in keys], available):
                break
            if len({tuple(str(row[name]) for name in keys) for row in self.rows}) == len(self.rows):
                return keys
        return self.columns[:1]

    def _repr_html_(self) -> str:
        """Return the table for a notebook, with every cell escaped."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell(row[name]))}</td>" for name in self.columns) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cell(value: Any) -> str:
    """Return a value as text: four significant digits, two decimals from 10 on, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if 10.0 <= abs(value) < 1e5 else f"{value:.4g}"
    return escaped(str(value))


def _drawn(table: Table, widths: Mapping[str, int]) -> str:
    """Return a table as lines of text, with columns of these widths."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for name in table.columns:
        numeric = all(_is_number(row[name]) or row[name] is None for row in table)
        header = Text(name if cell_width(name) <= widths[name] else name.replace("_", " "))
        grid.add_column(header, justify="right" if numeric else "left", width=widths[name])
    for row in table:
        grid.add_row(*(Text(cell(row[name]), no_wrap=True) for name in table.columns))
    text = io.StringIO()
    wide = sum(widths[name] + _GAP for name in table.columns)
    Console(file=text, width=wide, color_system=None, force_terminal=False, legacy_windows=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _fits(widths: Iterable[int], available: int) -> bool:
    widths = list(widths)
    return sum(widths) + _GAP * (len(widths) - 1) <= available


def cell_width(text: str) -> int:
    """Return the width of a text on a terminal: a Chinese, Japanese or Korean letter takes two places."""
    from rich.cells import cell_len

    return cell_len(text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pipes(cells: Any) -> str:
    return "| " + " | ".join(str(text).replace("|", "\\|") for text in cells) + " |"
