"""Make folders for results: a numbered one, or the one that a user names."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ConfigError, OutputError
from .atomic import as_output_error, cause, probe
from .names import FilePath, printable
from .outputs import Outputs

RUNS = Path("runs")
"""Where numbered folders are made, in the current folder."""


def new_run_folder(parent: FilePath = RUNS) -> Path:
    """Make the next numbered folder in `parent`: ``001``, ``002``, ..., with more digits past 999.

    Processes that do this at the same time get different folders. `parent` is made if it is missing.

    Raises
    ------
    OutputError
        No folder can be made there, or no file in it.
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
    """Make the folder that a user named, and find out before training whether it can be written.

    Parameters
    ----------
    path
        The folder; it is made, with its parents, if it is missing.
    outputs
        The files that the run may write.
    overwrite
        Whether files that are already there may be replaced, one by one as the new ones come.
    resume
        Whether a run that is already there is continued. If none is there, a new one begins.

    Raises
    ------
    OutputError
        A file of one of the names is there and neither option was given; a link, a folder or something else
        that is not a file has one of the names; or the folder cannot be made or written.
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
    except (FileExistsError, NotADirectoryError) as error:
        message = f"cannot make the folder {printable(folder)}: a file is in its place"
        raise OutputError(message) from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {printable(folder)}: {cause(error, folder)}") from error
    except ValueError as error:
        message = f"cannot make the folder {printable(folder)}: not a possible name"
        raise OutputError(message) from error
    return folder
