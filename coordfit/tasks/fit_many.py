"""`fit_many`: several pictures, small ones of one shape trained together, large ones one after another."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

from PIL import Image

from ..backends import Backend
from ..errors import ConfigError, CoordfitError
from ..executors import finished
from ..files import FilePath
from ..fit_options import AllOptions, RecipeName
from ..images import MAX_PIXELS, Picture
from ..images.collecting import is_several, picture_files
from ..training.result import FitResult
from ..training.state import Callback
from .fit import path_of
from .fitted_pictures import FittedPictures
from .folders.folder_fit import FolderFit, Planned, named_as_keywords, opened
from .folders.many_folder import ManyFolder, unique_names
from .folders.resume import Asked
from .jobs.batches import batches, can_be_batched
from .jobs.network import NetworkJob
from .jobs.plan import FitJob, settled
from .jobs.settings import Device, Keywords, Settings

_FAILURES = (CoordfitError, MemoryError, OSError)


@dataclass(frozen=True)
class Told:
    """What is told of several fits as they go on."""

    callback: Callback | None = None
    on_result: Callable[[str, FitResult], object] | None = None
    on_failure: Callable[[str, str], object] | None = None
    on_begin: Callable[[str, FitJob], object] | None = None
    """Told of the job of a picture that is fitted alone."""


class ManyFits:
    """Fits of pictures by name, with the same settings.

    Parameters
    ----------
    images : mapping
        Each as `coordfit.fit` takes it.
    asked : Asked
        What is asked of each; its image counts for none.
    """

    def __init__(
        self,
        images: Mapping[str, Any],
        asked: Asked,
        device: Device,
        folder: Path | None = None,
        told: Told | None = None,
        make: Callable[[Device], Backend] = Device.make,
        **how: Any,
    ) -> None:
        self.images, self.asked, self.device, self.how = images, asked, device, how
        self.told, self._make = told or Told(), make
        self.fits = FittedPictures(folder=folder, names=tuple(images))
        self._backends: dict[Device, Backend] = {}
        self._small: dict[str, Planned] = {}
        self._is_ended = False

    def run(self) -> FittedPictures:
        """Fit all pictures, unless a callback ends it."""
        for group in self._groups():
            if self._is_ended:
                break
            if len(group) > 1:
                self._fit_together({name: self._small.pop(name) for name in group})
            else:
                self._fit_alone(group[0])
        return self.fits

    def run_on(self, executor: Executor) -> FittedPictures:
        """Fit each picture as a task of its own; files are named by absolute paths."""
        names, folder = list(self.images), self.fits.folder
        how = (self.asked, self.device, None if folder is None else folder.absolute(), self.how)
        tasks = [(name, _absolute(image), *how) for name, image in self.images.items()]
        for number, fits in finished(executor, _fit_one, tasks):
            for result in fits:
                self._add(names[number], result)
            for reason in fits.failed.values():
                self._fail(names[number], reason)
        return self.fits

    def _groups(self) -> list[list[str]]:
        """Return the names of pictures that are trained together; only their pictures are kept in memory."""
        alone: list[list[str]] = []
        for name in self.images:
            with self._failures(name):
                planned = self._plan(name)
                backend = self._backend(planned)
                if can_be_batched(planned.job, backend):
                    self._small[name] = dataclasses.replace(planned, job=settled(planned.job, backend)[0])
                else:
                    alone.append([name])
        names, groups = list(self._small), alone
        if names:
            jobs = [cast("NetworkJob", self._small[name].job) for name in names]
            backend = self._backend(self._small[names[0]])
            groups += [[names[i] for i in group] for group in batches(jobs, backend)]
        places = {name: place for place, name in enumerate(self.images)}
        return sorted(groups, key=lambda group: places[group[0]])

    def _plan(self, name: str) -> Planned:
        image, folder = self.images[name], self._folder(name)
        asked = dataclasses.replace(self.asked, image=path_of(image))
        return Planned.of(asked, image, self.device, folder if self.how.get("resume") else None)

    def _folder(self, name: str) -> Path | None:
        return None if self.fits.folder is None else self.fits.folder / name

    def _backend(self, planned: Planned) -> Backend:
        device = planned.job.device(self.device)
        if device not in self._backends:
            self._backends[device] = self._make(device)
        return self._backends[device]

    def _fit_alone(self, name: str) -> None:
        with self._failures(name):
            planned = self._plan(name)
            out, backend = self._folder(name), self._backend(planned)
            if self.told.on_begin is not None:
                self.told.on_begin(name, planned.job)
            result = planned.run(backend, out, self.told.callback, with_networks=True, **self.how)
            self._add(name, result)

    def _fit_together(self, group: Mapping[str, Planned]) -> None:
        """Train a batch; what an earlier run has finished is read, and what it has begun goes on alone."""
        with contextlib.ExitStack() as folders:
            waiting, alone = {}, []
            for name, planned in group.items():
                with self._failures(name):
                    fitting = self._opened(name, planned, folders)
                    if fitting is not None and fitting.result is not None:
                        self._add(name, fitting.result)
                    elif fitting is not None and fitting.state is not None:
                        alone.append(name)
                    else:
                        waiting[name] = fitting
            for name in [*waiting] if len(waiting) == 1 else []:
                del waiting[name]
                alone.append(name)
            try:
                self._train({name: group[name] for name in waiting}, waiting)
            except MemoryError:  # the estimate was too low
                alone += [name for name in waiting if name not in self.fits.by_name]
        for name in alone:
            if not self._is_ended:
                self._fit_alone(name)

    def _opened(self, name: str, planned: Planned, folders: contextlib.ExitStack) -> FolderFit | None:
        folder = self._folder(name)
        if folder is None:
            return None
        return folders.enter_context(
            opened(folder, planned, self._backend(planned), with_networks=True, **self.how)
        )

    def _train(self, group: Mapping[str, Planned], folders: Mapping[str, FolderFit | None]) -> None:
        if not group:
            return
        jobs = [planned.job for planned in group.values()]
        for fitting, job in zip(folders.values(), jobs, strict=True):
            if fitting is not None:
                fitting.begin_in_batch(job)
        backend = self._backend(next(iter(group.values())))
        results = NetworkJob.run_together(jobs, backend, self.told.callback, None)
        for name, result in zip(group, results, strict=True):
            with self._failures(name):
                fitting = folders[name]
                if fitting is not None:
                    fitting.folder.write_trained(result)
                self._add(name, result)

    def _add(self, name: str, result: FitResult) -> None:
        """Keep a result, if it has figures, and tell of it if it is finished."""
        if result.metrics:
            self.fits.by_name[name] = result
        if result.stopped == "interrupted":
            self._is_ended = True
        elif self.told.on_result is not None:
            self.told.on_result(name, result)

    @contextlib.contextmanager
    def _failures(self, name: str) -> Iterator[None]:
        """Keep the reason if the work on a picture fails, and go on with the others."""
        try:
            yield
        except _FAILURES as error:
            self._fail(name, " ".join(str(error).split()) or type(error).__name__)

    def _fail(self, name: str, reason: str) -> None:
        self.fits.failed[name] = reason
        if self.told.on_failure is not None:
            self.told.on_failure(name, reason)


def _fit_one(
    name: str, image: Any, asked: Asked, device: Device, folder: Path | None, how: Mapping[str, Any]
) -> FittedPictures:
    """Fit one picture in a worker; all that goes in and comes out can be pickled."""
    return ManyFits({name: image}, asked, device, folder, **how).run()


def _absolute(image: Any) -> Any:
    path = path_of(image)
    return image if path is None else str(Path(path).absolute())


def fit_many(
    images: Sequence[Any] | FilePath,
    *,
    out: FilePath | None = None,
    overwrite: bool = False,
    resume: bool = False,
    recipe: RecipeName | None = None,
    callback: Callback | None = None,
    on_result: Callable[[str, FitResult], object] | None = None,
    average: int = 1,
    executor: Executor | None = None,
    max_pixels: int = MAX_PIXELS,
    **options: Unpack[AllOptions],
) -> FittedPictures:
    """Fit several pictures with the same settings: each as `coordfit.fit` would, and small ones together.

    Pictures of one size with at most 256x256 pixels are trained as one batch, as many as memory holds, on a
    GPU, and on the CPU if their networks are so small that it gains; not if seconds or a target PSNR end the
    run. Others follow one after another.

    Parameters
    ----------
    images : sequence of pictures; or a folder, a pattern such as `photos/*.png`, or a path
        Each as `coordfit.fit` takes it; or an array (K, H, W, C). Folders and patterns may be in a sequence.
    out : path, optional
        A folder for a folder of each picture, as `coordfit.fit` writes it, and a table of all.
    overwrite, resume : bool
        Whether the fits in `out` are replaced, or continued: what is finished is read, what is not goes on.
    callback : callable, optional
        Told of the progress of what runs here; returning True ends the present fit and those that would follow.
    on_result : callable, optional
        Told of the name and the result of each picture as it is finished.
    executor : concurrent.futures.Executor, optional
        Takes each picture as a task; see `sweep`. Workers read the files of paths and write into `out`.
    recipe, average, max_pixels, **options
        As `coordfit.fit` takes them.

    Returns
    -------
    FittedPictures
        A sequence of results, with a `table`. Pictures that cannot be fitted do not end the others: their
        reasons are in `failed`.

    Raises
    ------
    ConfigError, OutputError, PictureError, DeviceUnavailableError
        For what concerns all of them.
    """
    keywords = Keywords.split(options)
    settings = Settings([keywords.settings], recipe)
    settings.config  # noqa: B018, raises what is wrong for all
    if out is None and (overwrite or resume):
        raise ConfigError("overwrite and resume need out, the folder of the fits")
    limit = None if max_pixels == MAX_PIXELS else max_pixels
    asked = Asked(None, settings, keywords.tiles, limit, None if average == 1 else average)
    given, told = _listed(images), Told(callback, on_result)
    if out is None:
        fits = ManyFits(named(given), asked, keywords.device, told=told)
        return fits.run() if executor is None else fits.run_on(executor)
    how: dict[str, Any] = {"overwrite": overwrite, "resume": resume}
    with named_as_keywords(), ManyFolder.opened(Path(out), **how) as folder:
        names = folder.names([label_of(image) for image in given], resume=resume)
        pictures = dict(zip(names, given, strict=True))
        fits = ManyFits(pictures, asked, keywords.device, folder.path, told, **how)
        done = fits.run() if executor is None else fits.run_on(executor)
        folder.write_table(done.table, done.failed)
        return done


def named(images: Sequence[Any]) -> dict[str, Any]:
    """Return pictures by names that no two share."""
    return dict(zip(unique_names([label_of(image) for image in images]), images, strict=True))


def label_of(image: Any) -> str:
    """Return the path of a picture, or what stands for it."""
    path = path_of(image)
    return str(getattr(image, "name", "picture")) if path is None else str(Path(path).absolute())


def _listed(images: Sequence[Any] | FilePath) -> list[Any]:
    """Return pictures one by one, with folders and patterns resolved."""
    is_one = isinstance(images, str | os.PathLike | Picture | Image.Image) or getattr(images, "ndim", 4) < 4
    given = [images] if is_one else list(cast("Sequence[Any]", images))
    found: list[Any] = []
    for image in given:
        path = path_of(image)
        found += picture_files([path]) if path is not None and is_several(path) else [image]
    return found
