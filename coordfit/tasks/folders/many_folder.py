"""The folder of several fits: a folder for each picture, and a table of all.

`pictures.json` has the path of each picture by its name, which is that of its folder; `table.csv`, `table.md`
and `metrics.json` have a row for each.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ...errors import OutputError
from ...files import Outputs, printable, read_json, write_bytes, write_json
from ...files.lock import output_folder
from ...report.table import Table

MANY_OUTPUTS = Outputs(("pictures.json", "metrics.json", "table.md", "table.csv"), begun=("pictures.json",))
_MOST_LETTERS = 80  # of a folder's name
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


@dataclass(frozen=True)
class ManyFolder:
    """The folder of several fits, locked."""

    path: Path

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path | None, *, overwrite: bool = False, resume: bool = False) -> Iterator[Self]:
        """Lock the folder until the block ends; OutputError if its fits are neither replaced nor continued."""
        with output_folder(path, MANY_OUTPUTS, overwrite=overwrite, resume=resume) as place:
            yield cls(place)

    def names(self, paths: Sequence[str], *, resume: bool = False) -> list[str]:
        """Return a name for each picture, by its path or what stands for it, and write `pictures.json`.

        With `resume` those that are in it keep their names.
        """
        before = self._named_before() if resume else {}
        kept: dict[str, list[str]] = {}
        for name, path in before.items():
            kept.setdefault(path, []).append(name)
        found = [kept[path].pop(0) if kept.get(path) else None for path in paths]
        missing = [path for path, name in zip(paths, found, strict=True) if name is None]
        new = unique_names(missing, taken=[*before, *MANY_OUTPUTS.names])
        names = [name or new.pop(0) for name in found]
        write_json(self.path / "pictures.json", before | dict(zip(names, paths, strict=True)))
        return names

    def _named_before(self) -> dict[str, str]:
        file = self.path / "pictures.json"
        if not file.exists():
            return {}
        try:
            found = read_json(file)
        except (OSError, ValueError):
            found = None
        # A name is a folder's: nothing in the file may lead elsewhere.
        if isinstance(found, dict) and all(name == safe_name(name) for name in found):
            return found
        raise OutputError(f"cannot resume {printable(self.path)}: pictures.json cannot be read")

    def write_table(self, table: Table, failed: Mapping[str, str]) -> None:
        """Write the rows of all pictures."""
        write_json(self.path / "metrics.json", {"rows": list(table), "failed": dict(failed)})
        write_bytes(self.path / "table.md", (table.to_markdown() + "\n").encode())
        write_bytes(self.path / "table.csv", table.to_csv().encode())


def unique_names(paths: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return a safe name for each path that no other has, on any file system."""
    used, names = {name.casefold() for name in taken}, []
    for path in paths:
        stem = safe_name(Path(path).stem)
        name, number = stem, 2
        while name.casefold() in used:
            name, number = f"{stem}-{number}", number + 1
        used.add(name.casefold())
        names.append(name)
    return names


def safe_name(name: str) -> str:
    """Return a name that every file system takes: letters, digits, `.`, `_` and `-`."""
    plain = re.sub(r"[^\w.-]+", "_", name)[:_MOST_LETTERS].strip(".") or "picture"
    is_special = plain.split(".")[0].casefold() in _RESERVED or plain.startswith("-")
    return f"_{plain}" if is_special else plain
