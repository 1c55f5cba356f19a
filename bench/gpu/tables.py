"""Write a report as Markdown: what does not hold, then a table for each part, or several if rows name them."""

from __future__ import annotations

import itertools
from typing import Any

Row = dict[str, Any]
_FOR_THE_JSON = ("table", "traceback", "plans")  # too long for a cell


def as_markdown(report: Row) -> str:
    """Return the report as tables."""
    text = ["# The GPU path, measured", "", f"All checks hold: {report['holds']}", ""]
    text += table(report["runs"])
    failed = [
        f"- {name}: {cell(without_long(row))}"
        for name, part in report["parts"].items()
        for row in part["rows"]
        if not row.get("holds", True)
    ]
    text += ["What does not hold:", "", *failed, ""] if failed else []
    for name, part in report["parts"].items():
        of_run = f", run {part['run'] + 1}" if len(report["runs"]) > 1 else ""
        text += [f"## {name} ({part['seconds']} s{of_run})", ""]
        for title, rows in itertools.groupby(part["rows"], lambda row: row.get("table", "")):
            text += [f"### {title}", ""] if title else []
            text += table([without_long(row) for row in rows])
    return "\n".join(text)


def without_long(row: Row) -> Row:
    """Return a row without what is for the JSON alone."""
    return {key: value for key, value in row.items() if key not in _FOR_THE_JSON}


def table(rows: list[Row]) -> list[str]:
    """Return lines of a table with a column for each key, and an empty line."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*lines, *(f"| {' | '.join(cell(row.get(key)) for key in columns)} |" for row in rows), ""]


def cell(value: Any) -> str:
    """Return a value as text in one line without a bar."""
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "/").replace("\n", " ")
