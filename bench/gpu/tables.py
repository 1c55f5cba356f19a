"""The report of a measurement: whether all of it holds, and as tables."""

from __future__ import annotations

from typing import Any


def holds(report: dict[str, Any]) -> bool:
    """Whether nothing that says `holds` in any row of any part says no."""
    rows = [row for part in report["parts"].values() for row in part]
    return bool(rows) and all(row.get("holds", True) for row in rows)


def as_markdown(report: dict[str, Any]) -> str:
    """The report as tables, one for each part, after what does not hold."""
    text = ["# The GPU path, measured", "", f"All checks hold: {report['holds']}", ""]
    failed = [
        f"- {name}: {_cell(row)}"
        for name, part in report["parts"].items()
        for row in part
        if not row.get("holds", True)
    ]
    text += ["What does not hold:", "", *failed, ""] if failed else []
    for name, rows in report["parts"].items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text += [f"## {name} ({report['seconds'].get(name)} s)", ""]
        text += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        text += [f"| {' | '.join(_cell(row.get(key)) for key in columns)} |" for row in rows]
        text.append("")
    return "\n".join(text)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "/").replace("\n", " ")
