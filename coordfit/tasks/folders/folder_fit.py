"""One fit in a folder: what `coordfit fit --out DIR` and `coordfit.fit(..., out=DIR)` do."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

from ...backends import Backend
from ...errors import ConfigError, OutputError
from ...files.lock import output_folder
from ...training.result import FitResult
from ...training.state import Callback, TrainingState
from ..jobs.plan import AnyFit, FitJob, digests_of, plan_fit, settled
from ..jobs.settings import Device
from .resume import Asked, Begun, finished_before
from .run_folder import RUN_OUTPUTS, RunFolder

_KEYWORDS = {"--overwrite": "overwrite=True", "--resume": "resume=True", "--out": "out"}


class FolderFit:
    """A fit whose folder is locked.

    Attributes
    ----------
    result : FitResult or None
        That of an earlier run that has nothing left to do.
    state : TrainingState or None
        Where an earlier run of one network stands.
    fit : running fit
        What `begin` has made.
    """

    fit: AnyFit

    def __init__(self, folder: RunFolder, asked: Asked, backend: Backend, *, resume: bool) -> None:
        self.folder, self._asked, self._backend, self._resume = folder, asked, backend, resume
        self.state: TrainingState | None = None
        self.result: FitResult | None = None

    def look(self, job: FitJob, begun: Begun, *, with_networks: bool = False) -> None:
        """Find the result or the state of an earlier run; ConfigError if `job` cannot go on from it."""
        document = self.folder.config_document()
        if document.get("pixels", {}) != digests_of(job):
            raise ConfigError("cannot resume with other known pixels or weights than those that the run has")
        self.result = finished_before(
            self.folder.path, document, job, self._backend, with_networks=with_networks
        )
        if self.result is None:
            self.state = self.folder.state_of(job, begun)

    def begin(self, job: FitJob) -> None:
        """Make everything that the steps of a job with a number for sigma touch, and write `config.json`."""
        self.fit = self.folder.begin(job, self._backend, self._asked, self.state, resume=self._resume)

    def begin_in_batch(self, job: FitJob) -> None:
        """Write `config.json` of a network that is trained with others, and `write_trained` at its end."""
        if not self._resume:
            self.folder.drop_checkpoint()
        self.folder.describe(job, self._backend, self._asked)

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


@dataclass(frozen=True)
class Planned:
    """What is to be fitted: what was asked, what a run began with that goes on, and the job."""

    asked: Asked
    begun: Begun | None
    job: FitJob

    @classmethod
    def of(cls, asked: Asked, image: Any, device: Device, begun_in: Path | None = None, **pixels: Any) -> Self:
        """Plan the fit of a picture or an array; `begun_in` is the folder of a run that goes on.

        `pixels` are the known ones and their weights.
        """
        begun = None if begun_in is None else RunFolder(begun_in).read_config()
        asked = asked if begun is None else begun.going_on(asked)
        average = 1 if asked.average is None else asked.average
        job = plan_fit(asked.load(image), asked.settings, asked.tiles, device, average=average, **pixels)
        return cls(asked, begun, job)

    def run(
        self,
        backend: Backend,
        out: Path | None = None,
        callback: Callback | None = None,
        *,
        with_networks: bool = False,
        **how: Any,
    ) -> FitResult:
        """Fit, in a folder if there is one; for `with_networks` and `how` see `opened`."""
        if out is None:
            return settled(self.job, backend)[0].run(backend, callback)
        with opened(out, self, backend, with_networks=with_networks, **how) as fitting:
            if fitting.result is not None:
                return fitting.result
            fitting.begin(settled(self.job, backend)[0])
            return fitting.write(fitting.train(callback))


@dataclass(frozen=True)
class Files:
    """Where a fit keeps its files, by the words of `coordfit.fit`; ConfigError for those that need `out`."""

    out: str | PathLike[str] | None = None
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.out is None and (self.overwrite or self.resume):
            raise ConfigError("overwrite and resume need out, the folder of the run")


def fit_in(
    files: Files,
    asked: Asked,
    image: Any,
    device: Device,
    callback: Callback | None,
    executor: Executor | None = None,
    **pixels: Any,
) -> FitResult:
    """Fit what is asked of a picture or a signal, in a folder if there is one."""
    folder = None if files.out is None else Path(files.out)
    with named_as_keywords():
        planned = Planned.of(asked, image, device, folder if files.resume else None, **pixels)
        if executor is not None:
            planned = dataclasses.replace(planned, job=planned.job.trained_by(executor, device))
        backend = planned.job.device(device).make()
        return planned.run(backend, folder, callback, overwrite=files.overwrite, resume=files.resume)


@contextlib.contextmanager
def opened(
    path: Path | None,
    planned: Planned,
    backend: Backend,
    *,
    overwrite: bool = False,
    resume: bool = False,
    with_networks: bool = False,
    file: Path | None = None,
) -> Iterator[FolderFit]:
    """Lock the folder of a run until the block ends, and find what an earlier run left there.

    Parameters
    ----------
    path : Path or None
        None for the next numbered folder.
    with_networks : bool
        Whether one network may be finished too: see `finished_before`.
    file : Path or None
        One more file that the run writes.

    Raises
    ------
    OutputError
        The folder holds a run, and neither `overwrite` nor `resume` is given; or it cannot be written.
    """
    outputs = RUN_OUTPUTS.with_file(file)
    with output_folder(path, outputs, overwrite=overwrite, resume=resume) as place:
        run = FolderFit(RunFolder(place), planned.asked, backend, resume=resume)
        if planned.begun is not None:
            run.look(planned.job, planned.begun, with_networks=with_networks)
        yield run


@contextlib.contextmanager
def named_as_keywords() -> Iterator[None]:
    """Name the options of a folder in errors as keywords of Python."""
    try:
        yield
    except (ConfigError, OutputError) as error:
        words: Any = re.sub(r"--[a-z]+(?![\w-])", lambda match: _KEYWORDS.get(match[0], match[0]), str(error))
        raise type(error)(words) from error
