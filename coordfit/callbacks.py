"""Callbacks that keep the figures of a run: in a CSV file, for TensorBoard, or in Python's `logging`.

    logs = CallbackList([coordfit.progress_bar(), CSVLogger("run.csv"), PythonLogger()])
    coordfit.fit("photo.png", callback=logs)

Each takes the `Progress` of `fit`, `fit_many`, `compare`, `inpaint` and their like, and that of `compress`. Of
networks that are trained together each has rows of its own.
"""

from __future__ import annotations

import csv
import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from .errors import OutputError
from .files.atomic import as_output_error

logging.getLogger("coordfit").addHandler(logging.NullHandler())

Row = dict[str, Any]


def new_rows(progress: Any) -> Iterator[tuple[int | None, Row]]:
    """Yield the new rows of figures of a `Progress`, each with the number of its network among several."""
    if not progress.evaluated:
        return
    members = getattr(progress, "members", ())
    if len(members) > 1:
        yield from ((number, member.history[-1]) for number, member in enumerate(members, 1) if member.history)
    elif hasattr(progress, "row"):
        yield from [] if progress.row is None else [(None, progress.row)]
    else:  # of a compression
        yield None, {name: getattr(progress, name) for name in ("step", "seconds", "psnr", "bits_per_pixel")}


class CallbackList:
    """A callback that calls several, and stops the run if one of them does."""

    def __init__(self, callbacks: Sequence[Callable[[Any], object]]) -> None:
        self.callbacks = list(callbacks)

    def __call__(self, progress: Any) -> bool:
        """Call all of them."""
        answers = [callback(progress) for callback in self.callbacks]
        return any(answers)


class CSVLogger:
    """Writes a row for each evaluation, which is in the file when the next step begins.

    Parameters
    ----------
    path : path
        A new file; OutputError if there is one, or if it cannot be written.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._columns: list[str] = []
        with as_output_error(self.path):
            self.path.open("x").close()

    def __call__(self, progress: Any) -> None:
        """Write the new figures."""
        with as_output_error(self.path):
            for number, row in new_rows(progress):
                self._write(row if number is None else {"network": number} | row)

    def _write(self, row: Row) -> None:
        is_first = not self._columns
        self._columns = self._columns or list(row)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, extrasaction="ignore", lineterminator="\n")
            if is_first:
                writer.writeheader()
            writer.writerow(row)


class TensorBoardLogger:
    """Writes curves for TensorBoard, and the picture if it is asked for; needs the extra `tensorboard`.

    Parameters
    ----------
    folder : path
        Where TensorBoard looks: `tensorboard --logdir FOLDER`. Each run has a file of its own in it.
    pictures : bool
        Whether the picture is drawn at each evaluation; it takes as long as a third of a step on each pixel.
    """

    def __init__(self, folder: str | PathLike[str], *, pictures: bool = False) -> None:
        try:
            module = importlib.import_module("tensorboardX")
        except ImportError as error:
            raise OutputError(
                f"TensorBoard's files need the package tensorboardX ({error}): "
                "pip install 'coordfit[tensorboard]'"
            ) from error
        self.folder, self.pictures = Path(folder), pictures
        with as_output_error(self.folder):
            self._writer = module.SummaryWriter(str(folder))

    def __call__(self, progress: Any) -> None:
        """Write the new figures."""
        step = 0
        for number, row in new_rows(progress):
            step = int(row["step"])
            for name, value in row.items():
                if value is not None and name != "step":
                    tag = name if number is None else f"{name}/network {number}"
                    self._writer.add_scalar(tag, value, step)
        if step and self.pictures and hasattr(progress, "render"):
            self._writer.add_image("picture", progress.render(), step, dataformats="HWC")
        if step:
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class PythonLogger:
    """Logs a line for each evaluation, to the logger `coordfit` by default; no handler, no output.

    Parameters
    ----------
    logger : logging.Logger or str
        The logger, or its name.
    level : int
        That of the records, whose `figures` are the row as a dict.
    """

    def __init__(self, logger: logging.Logger | str = "coordfit", level: int = logging.INFO) -> None:
        self.logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self.level = level

    def __call__(self, progress: Any) -> None:
        """Log the new figures."""
        for number, row in new_rows(progress):
            name = "" if number is None else f"network {number}, "
            others = ", ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "step" and value)
            self.logger.log(
                self.level, "%sstep %d: %s", name, row["step"], others, extra={"figures": dict(row)}
            )
