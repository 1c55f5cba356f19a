"""Any settings given several values: their product, grouped by shape, each group trained as one batch.

Groups are independent of each other, and run one after the other or on any `concurrent.futures` executor: a
process pool, or the executor of a cluster. One row comes out for each network, as its group finishes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from ._backends import Backend, get_backend
from .config import FitConfig, make_config
from .ensemble import Callback, Job, ShouldStop, fit_together, group_by_shape
from .errors import ConfigError, CoordfitError
from .images import Picture, load_picture
from .model import Model
from .result import FitResult
from .table import Table
from .training import TrainingState

# More members at once gain nothing, and a group's rows come when it is done.
MOST_MEMBERS = 32
# Columns of figures, and their names among a result's metrics: an option may have the same name.
_METRICS = {
    "psnr": "psnr",
    "psnr_train": "psnr_train",
    "psnr_held_out": "psnr_held_out",
    "ssim": "ssim",
    "final_loss": "loss",
    "steps_taken": "steps",
    "batch_seconds": "seconds",
    "networks": "networks",
    "parameters": "parameters",
    "bits_per_pixel": "bits_per_pixel",
    "stopped": "stopped",
}
FIGURES = tuple(_METRICS)
_MORE_IS_BETTER = ("psnr", "psnr_train", "psnr_held_out", "ssim")
DIVERGED = "diverged"  # in the column `stopped`
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Run:
    """One network of a sweep: what is trained, and the values that make it differ from the others."""

    job: Job
    values: dict[str, Any]

    @property
    def key(self) -> str:
        """Tells this run from all others: a digest of the picture and of every setting."""
        settings = json.dumps(self.job.config.as_dict(), sort_keys=True)
        return hashlib.sha256(f"{self.job.picture.digest}\n{settings}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What came of one run, small enough to be sent between processes: its row and where training stopped."""

    row: dict[str, Any]
    state: TrainingState


@dataclass(frozen=True)
class Device:
    """How a worker makes its backend: the words that `coordfit.get_backend` takes."""

    device: str = "auto"
    threads: int | None = None
    fused: str = "auto"
    precision: str = "float32"

    def make(self) -> Backend:
        """The backend."""
        return get_backend(self.device, fused=self.fused, threads=self.threads, precision=self.precision)


def plan(
    pictures: Sequence[Picture],
    layers: Sequence[Mapping[str, Any]],
    varied: Mapping[str, Sequence[Any]],
    *,
    recipe: str | None = None,
) -> list[Run]:
    """Every combination of the values in `varied`, for every picture, over the settings in `layers`.

    Raises
    ------
    ConfigError
        A value is impossible, or there is none for an option.
    """
    for name, values in varied.items():
        if not values:
            raise ConfigError(f"{name} was given no value")
        if len(set(map(str, values))) < len(values):
            raise ConfigError(f"{name} has a value twice")
    names = list(varied)
    runs = []
    for picture, combination in itertools.product(pictures, itertools.product(*varied.values())):
        own = dict(zip(names, combination, strict=True))
        config = make_config(*layers, own, recipe=recipe)
        sized = load_picture(picture, size=config.size, background=config.background)
        runs.append(Run(Job(sized, config), {"picture": picture.name} | own))
    return _sharing_pictures(runs)


def _sharing_pictures(runs: list[Run]) -> list[Run]:
    """Runs on equal pictures with one and the same array: a batch then holds its pixels once."""
    known: dict[str, Picture] = {}
    return [
        Run(Job(known.setdefault(run.job.picture.digest, run.job.picture), run.job.config), run.values)
        for run in runs
    ]


def execute(
    runs: Sequence[Run],
    device: Device,
    *,
    executor: Executor | None = None,
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[tuple[Run, Outcome]]:
    """Train all runs and give each with its outcome, group by group as they finish.

    Parameters
    ----------
    executor : concurrent.futures.Executor, optional
        Takes the groups; without one they run here, one after the other.
    callback : callable, optional
        Told of the progress of a group that runs here; True stops the group and those that would follow.
    should_stop : callable, optional
        Asked again and again; True stops the group that runs here, and waits for no executor any longer.
    """
    groups = [
        [runs[i] for i in group[start : start + MOST_MEMBERS]]
        for group in group_by_shape([run.job for run in runs])
        for start in range(0, len(group), MOST_MEMBERS)
    ]
    if executor is None:
        yield from _execute_here(groups, device, callback, should_stop)
    else:
        yield from _execute_elsewhere(groups, device, executor, should_stop)


def _execute_elsewhere(
    groups: Sequence[list[Run]], device: Device, executor: Executor, should_stop: ShouldStop | None
) -> Iterator[tuple[Run, Outcome]]:
    submitted: dict[Future[list[Outcome]], list[Run]] = {
        executor.submit(run_group, [run.job for run in group], [run.values for run in group], device): group
        for group in groups
    }
    waiting = set(submitted)
    while waiting and not (should_stop is not None and should_stop()):
        done, waiting = wait(waiting, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                outcomes = future.result()
            except BrokenProcessPool as error:
                raise CoordfitError(
                    "a process of the sweep was killed, for want of memory perhaps; "
                    "go on with --resume and fewer --jobs"
                ) from error
            yield from zip(submitted[future], outcomes, strict=True)
    for future in waiting:
        future.cancel()


def _execute_here(
    groups: Sequence[Sequence[Run]],
    device: Device,
    callback: Callback | None,
    should_stop: ShouldStop | None,
) -> Iterator[tuple[Run, Outcome]]:
    backend = device.make()
    for group in groups:
        results = fit_together([run.job for run in group], backend, callback, should_stop)
        yield from ((run, outcome_of(result, run.values)) for run, result in zip(group, results, strict=True))
        if any(result.stopped == "interrupted" for result in results):
            return


def run_group(jobs: list[Job], values: list[dict[str, Any]], device: Device) -> list[Outcome]:
    """Train one group in a worker; all that goes in and comes out can be pickled."""
    results = fit_together(jobs, device.make())
    return [outcome_of(result, own) for result, own in zip(results, values, strict=True)]


def outcome_of(result: FitResult, values: Mapping[str, Any]) -> Outcome:
    """The row and the state of a finished network."""
    figures = {column: result.metrics[name] for column, name in _METRICS.items()}
    return Outcome(dict(values) | figures, result.state)


def model_of(run: Run, outcome: Outcome) -> Model:
    """The fitted model of a run, on the host."""
    from .model import PictureFacts

    picture = run.job.picture
    facts = PictureFacts(picture.height, picture.width, picture.channels, picture.bit_depth, picture.name)
    state = outcome.state
    return Model(get_backend("cpu"), run.job.config, facts, state.B, state.parameters, dict(outcome.row))


def sweep(
    images: Any,
    *,
    device: str = "auto",
    threads: int | None = None,
    fused: str = "auto",
    precision: str = "float32",
    recipe: str | None = None,
    executor: Executor | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    **options: Any,
) -> Table:
    """Fit every combination of the options that are lists, and return a table, best PSNR first.

    Parameters
    ----------
    images : picture, or list of pictures
        Each as `coordfit.fit` takes it.
    executor : concurrent.futures.Executor, optional
        Takes the groups of networks of equal shape, e.g. a `ProcessPoolExecutor`, or that of a cluster:
        `dask.distributed.Client(...).get_executor()`, `mpi4py.futures.MPIPoolExecutor()`.
    on_row : callable, optional
        Told of each row as it is finished.
    **options
        Fields of `FitConfig`; a list means several values: `sweep(picture, sigma=[1, 3], loss=["mse", "mae"])`.

    Returns
    -------
    Table
        The values of a run, then its figures; `table.to_pandas()` where pandas is installed. Networks that
        diverged come last: `stopped` says so, and their figures are of the last good state.
    """
    pictures = [load_picture(image) for image in (images if isinstance(images, list) else [images])]
    varied = {name: value for name, value in options.items() if isinstance(value, list)}
    fixed = {name: value for name, value in options.items() if name not in varied}
    workers = Device(device, threads, fused, precision)
    runs = resolved(plan(pictures, [fixed], varied, recipe=recipe), workers)
    rows = []
    for _, outcome in execute(runs, workers, executor=executor):
        rows.append(outcome.row)
        if on_row is not None:
            on_row(outcome.row)
    return ranked(Table(rows, ["picture", *varied, *FIGURES]), "psnr")


def ranked(table: Table, column: str) -> Table:
    """A sweep's table in the order of a column: the best first, settings upwards, what diverged last."""
    ordered = table.sorted_by(column, descending=column in _MORE_IS_BETTER)
    rows = [row for row in ordered if row["stopped"] != DIVERGED]
    return Table([*rows, *(row for row in ordered if row["stopped"] == DIVERGED)], table.columns)


def resolved(runs: Sequence[Run], device: Device) -> list[Run]:
    """The runs with `sigma="auto"` replaced by a number, chosen once for each picture and its settings."""
    from .sigma import with_sigma

    chosen: dict[tuple[str, str], FitConfig] = {}
    finished = []
    for run in runs:
        config = run.job.config
        if config.sigma == "auto":
            about = (run.job.picture.digest, json.dumps(config.replace(seed=0).as_dict(), sort_keys=True))
            if about not in chosen:
                chosen[about] = with_sigma(run.job, device.make())
            config = config.replace(sigma=chosen[about].sigma)
        finished.append(Run(Job(run.job.picture, config, run.job.known), run.values))
    return finished
