"""One fit in a folder: what `coordfit fit --out DIR` and `coordfit.fit(..., out=DIR)` do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..._backends import Backend
from ...errors import ConfigError, OutputError
from ...files.lock import output_folder
from ...training.result import FitResult
from ...training.state import Callback, TrainingState
from ..jobs.plan import AnyFit, FitJob, digests_of
from .resume import Asked, Begun, finished_before
from .run_folder import RUN_OUTPUTS, RunFolder

_KEYWORDS = {"--overwrite": "overwrite=True", "--resume": "resume=True", "--out": "out"}


class FolderFit:
    """A fit whose folder is locked.

    Attributes
    ----------
    result : FitResult or None
        That of an earlier run that has nothing left to do.
    fit : running fit
        What `begin` has made.
    """

    fit: AnyFit

    def __init__(self, folder: RunFolder, asked: Asked, backend: Backend, *, resume: bool) -> None:
        self.folder, self._asked, self._backend, self._resume = folder, asked, backend, resume
        self._state: TrainingState | None = None
        self.result: FitResult | None = None

    def look(self, job: FitJob, begun: Begun) -> None:
        """Find the result or the state of an earlier run; ConfigError if `job` cannot go on from it."""
        document = self.folder.config_document()
        if document.get("pixels", {}) != digests_of(job):
            raise ConfigError("cannot resume with other known pixels or weights than those that the run has")
        self.result = finished_before(self.folder.path, document, job, self._backend)
        if self.result is None:
            self._state = self.folder.state_of(job, begun)

    def begin(self, job: FitJob) -> None:
        """Make everything that the steps of a job with a number for sigma touch, and write `config.json`."""
        self.fit = self.folder.begin(job, self._backend, self._asked, self._state, resume=self._resume)

    def train(
        self, callback: Callback | None = None, first_look: Callable[[Path, float], object] | None = None
    ) -> FitResult:
        """Train with `history.csv` and checkpoints; see `RunFolder.train`."""
        return self.folder.train(self.fit, self.fit.run, callback, first_look)

    def write(self, result: FitResult) -> FitResult:
        """Write what a run leaves, if it has figures, and return its result."""
        if result.metrics:
            self.folder.write_result(result, self.fit)
        return result


@contextlib.contextmanager
def opened(
    path: Path | None,
    job: FitJob,
    asked: Asked,
    begun: Begun | None,
    backend: Backend,
    *,
    overwrite: bool = False,
    resume: bool = False,
    file: Path | None = None,
) -> Iterator[FolderFit]:
    """Lock the folder of a run until the block ends, and find what an earlier run left there.

    Parameters
    ----------
    path : Path or None
        None for the next numbered folder.
    begun : Begun or None
        What `RunFolder.read_config` found, if the run goes on.
    file : Path or None
        One more file that the run writes.

    Raises
    ------
    OutputError
        The folder holds a run, and neither `overwrite` nor `resume` is given; or it cannot be written.
    """
    outputs = RUN_OUTPUTS.with_file(file)
    with output_folder(path, outputs, overwrite=overwrite, resume=resume) as place:
        run = FolderFit(RunFolder(place), asked, backend, resume=resume)
        if begun is not None:
            run.look(job, begun)
        yield run


@contextlib.contextmanager
def named_as_keywords() -> Iterator[None]:
    """Name the options of a folder in errors as keywords of Python."""
    try:
        yield
    except (ConfigError, OutputError) as error:
        words: Any = re.sub(r"--[a-z]+(?![\w-])", lambda match: _KEYWORDS.get(match[0], match[0]), str(error))
        raise type(error)(words) from error
