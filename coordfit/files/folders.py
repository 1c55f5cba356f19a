"""Make folders for results: the next numbered one, or one that the user names."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ConfigError, OutputError
from .atomic import as_output_error, cause, probe
from .names import FilePath, printable
from .outputs import Outputs

RUNS = Path("runs")
"""The parent of numbered folders."""


def new_run_folder(parent: FilePath = RUNS) -> Path:
    """Make the next numbered folder in `parent`: ``001``, ``002``, ..., with more digits past 999.

    Processes that do this at the same time get different folders. `parent` is made if it is missing.
    OutputError if no folder or no file can be made there.
    """
    parent = make_folder(parent)
    with as_output_error(parent):
        number = 1 + max(
            (int(p.name) for p in parent.iterdir() if re.fullmatch("[0-9]{3,6}", p.name)), default=0
        )
    while True:
        folder = parent / f"{number:03d}"
        try:
            folder.mkdir()  # the system lets only one process make it
        except FileExistsError:
            number += 1
        except OSError as error:
            raise OutputError(f"cannot make the folder {printable(folder)}: {cause(error, folder)}") from error
        else:
            probe(folder)
            return folder


def prepare_output_folder(
    path: FilePath, outputs: Outputs, *, overwrite: bool = False, resume: bool = False
) -> Path:
    """Make the folder that a user named, and check before training that it can be written.

    Parameters
    ----------
    path
        The folder; it is made, with its parents, if it is missing.
    outputs
        The files that the run may write.
    overwrite
        Whether existing files may be replaced, one by one as the new ones are written.
    resume
        Whether an existing run is continued; without one, a new run begins.

    Raises
    ------
    OutputError
        An output exists and neither option was given; something that is not a file has its name; or the
        folder cannot be made or written.
    ConfigError
        Both options were given.
    """
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other: give one of them")
    folder = make_folder(path)
    outputs.check(folder, overwrite=overwrite, resume=resume)
    probe(folder)
    return folder


def make_folder(path: FilePath) -> Path:
    """Make a folder and its missing parents; OutputError if that fails."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except (OSError, ValueError) as error:
        reason = "not a possible name"
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "a file is in its place"
        elif isinstance(error, OSError):
            reason = cause(error, folder)
        raise OutputError(f"cannot make the folder {printable(folder)}: {reason}") from error
