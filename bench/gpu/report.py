"""Keep the results of `python -m bench.gpu`: rows by part, of one run or of several that were merged."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from ..records import commit
from .tables import as_markdown

ROOT = Path(__file__).parents[2]
Row = dict[str, Any]


class Report:
    """The rows of all parts, and which run each part is of; written to a folder as it grows.

    Parameters
    ----------
    quick : bool
        Whether sizes are tiny: such a report has no figures.
    earlier : dict, optional
        The content of an earlier report, whose parts stand until they are measured again.
    """

    def __init__(self, quick: bool, earlier: Row | None = None) -> None:
        before = earlier or {"runs": [], "parts": {}}
        if earlier and earlier["quick"] != quick:
            raise ValueError("a report of tiny sizes and one of full sizes cannot be merged")
        self.quick = quick
        self.runs: list[Row] = list(before["runs"])
        self.parts: dict[str, Row] = dict(before["parts"])
        self._written: Path | None = None

    @property
    def holds(self) -> bool:
        """Whether there are rows, and none says that something does not hold."""
        rows = [row for part in self.parts.values() for row in part["rows"]]
        return bool(rows) and all(row.get("holds", True) for row in rows)

    @property
    def name(self) -> str:
        """Return the file name without its ending, after the GPU."""
        gpu = next((row["gpu"] for row in self.rows("machine") if "gpu" in row), "")
        return "-".join(["gpu", *re.findall("[a-z0-9]+", gpu.lower().replace("nvidia", ""))])

    def rows(self, part: str) -> list[Row]:
        """Return the rows of a part, none if it was not measured."""
        return list(self.parts.get(part, {}).get("rows", []))

    def begin(self, command: str) -> None:
        """Note a new run, to which the parts that follow belong."""
        self.runs.append(
            {"command": command, "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())} | commit()
        )

    def keep(self, part: str, rows: list[Row], seconds: float, *, is_done: bool = True) -> None:
        """Put the rows of a part in place of those that it had."""
        seconds = round(seconds, 2)
        self.parts[part] = {"run": len(self.runs) - 1, "seconds": seconds, "done": is_done, "rows": rows}

    def lacks(self, parts: list[str]) -> list[str]:
        """Return those of some parts that were not measured to their end, or have rows that are no results."""
        done = {name for name, part in self.parts.items() if part["done"]}
        return [name for name in parts if name not in done or any(map(is_bad, self.rows(name)))]

    def as_dict(self) -> Row:
        """Return plain data."""
        return {"quick": self.quick, "holds": self.holds, "runs": self.runs, "parts": self.parts}

    def write(self, folder: Path) -> None:
        """Write `<name>.json` and `<name>.md`, each as a whole."""
        file = folder / f"{self.name}.json"
        for path, text in (
            (file, json.dumps(self.as_dict(), indent=1, default=str)),
            (file.with_suffix(".md"), as_markdown(self.as_dict())),
        ):
            work = path.with_name(f".{path.name}")
            work.write_text(text + "\n", encoding="utf-8")
            work.replace(path)
        if self._written not in (None, file):  # before the GPU's name was known
            for old in (self._written, self._written.with_suffix(".md")):
                old.unlink(missing_ok=True)
        self._written = file


def is_bad(row: Row) -> bool:
    """Whether a row is no result: a fault, something left out, or a check that does not hold."""
    return "fault" in row or not row.get("holds", True)
