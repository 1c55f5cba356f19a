"""The results of several pictures, with a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from ..report.table import Table
from ..training.result import FitResult

COLUMNS = ("name", "size", "psnr", "ssim", "seconds", "stopped", "file")
FAILED = "failed"
"""In the column `stopped`."""


@dataclass(frozen=True, repr=False)
class FittedPictures(Sequence[FitResult]):
    """The fits of several pictures, in the order of the pictures; those that failed are left out.

    Attributes
    ----------
    by_name : dict
        The results by the names of their pictures, which no two share.
    failed : dict
        The reasons of those that have none, by name.
    folder : Path or None
        Where each has a folder of its name.
    """

    by_name: dict[str, FitResult] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    names: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int | str) -> FitResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[FitResult]: ...
    def __getitem__(self, index: int | str | slice) -> FitResult | list[FitResult]:
        """Return a result by number or by name, or a list of them."""
        return self.by_name[index] if isinstance(index, str) else self._in_order()[index]

    def __len__(self) -> int:
        return len(self.by_name)

    def _in_order(self) -> list[FitResult]:
        return [self.by_name[name] for name in self.names if name in self.by_name]

    @property
    def table(self) -> Table:
        """One row for each picture that is finished or failed."""
        rows = {name: self.row(name) for name in self.names if name in {*self.by_name, *self.failed}}
        return Table(list(rows.values()), COLUMNS)

    def row(self, name: str) -> dict[str, Any]:
        """Return a picture's row: `seconds` of training, and its share of those of a batch."""
        if name not in self.by_name:
            return dict.fromkeys(COLUMNS) | {"name": name, "stopped": FAILED}
        result = self.by_name[name]
        m = result.metrics
        return {
            "name": name,
            "size": result.picture.extent,
            "psnr": m["psnr"],
            "ssim": m["ssim"],
            "seconds": m["seconds"] / m.get("networks", 1),
            "stopped": result.stopped,
            "file": None if self.folder is None else str(self.folder / name),
        }

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        psnrs = [result.metrics["psnr"] for result in self.by_name.values()]
        quality = f"; PSNR {min(psnrs):.2f} to {max(psnrs):.2f} dB" if psnrs else ""
        return f"<FittedPictures: {len(self)} fits{failed}{quality}>"

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return self.table._repr_html_()
