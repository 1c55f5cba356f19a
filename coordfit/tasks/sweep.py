"""Any settings given several values: their product, grouped by shape, each group trained as one batch.

Groups are independent of each other, and run one after the other or on any `concurrent.futures` executor: a
process pool, or the executor of a cluster. One row comes out for each network, as its group finishes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..backends import Backend
from ..config import FitConfig
from ..errors import ConfigError
from ..executors import finished
from ..fit_options import RecipeName
from ..images import Picture, load_picture
from ..models.model import Model
from ..report.table import Table
from ..signals.signal import Signal
from ..tiles.model import TiledModel
from ..tiles.plan import TILE_OPTIONS, TileOptions
from ..training.job import group_by_shape
from ..training.result import FitResult
from ..training.state import Callback, ShouldStop, Trial
from .jobs.plan import AnyJob, key_of, plan, settled
from .jobs.settings import DEVICE_OPTIONS, Device, Settings, values_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

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


@dataclass(frozen=True)
class Run:
    """One fit of a sweep: what is trained, and the values that make it differ from the others."""

    job: AnyJob
    values: dict[str, Any]

    @property
    def key(self) -> str:
        """Tells this run from all others: a digest of the picture and of every setting."""
        return key_of(self.job)


@dataclass(frozen=True)
class Outcome:
    """What came of one run, to be sent between processes: its row, and what was learned if that is asked for.

    `learned` is where the training of a network stopped, or all tiles.
    """

    row: dict[str, Any]
    learned: Any = None


def plan_sweep(
    pictures: Sequence[Picture],
    layers: Sequence[Mapping[str, Any]],
    varied: Mapping[str, Sequence[Any]],
    *,
    recipe: str | None = None,
    **pixels: Any,
) -> list[Run]:
    """Every combination of the values in `varied`, for every picture, over the settings in `layers`.

    Settings are fields of `FitConfig` and of `TileOptions`. `pixels` are the known ones and their weights, as
    `plan` takes them.

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
        runs.append(Run(_job(picture, [*layers, own], recipe, pixels), {"picture": picture.name} | own))
    return _sharing_pictures(runs)


def _job(
    picture: Picture, layers: Sequence[Mapping[str, Any]], recipe: str | None, pixels: Mapping[str, Any]
) -> AnyJob:
    """One fit: by tiles if they are asked for, else by one network."""
    asked = {name: layer[name] for layer in layers for name in TILE_OPTIONS if name in layer}
    own = [{name: layer[name] for name in layer if name not in TILE_OPTIONS} for layer in layers]
    settings = Settings(own, recipe)
    config = settings.config
    sized = load_picture(picture, size=config.size, background=config.background)
    return plan(sized, settings, TileOptions(**asked), **pixels)


def _sharing_pictures(runs: list[Run]) -> list[Run]:
    """Runs on equal pictures with one and the same array: a batch then holds its pixels once."""
    known: dict[str, Signal] = {}
    shared = [known.setdefault(run.job.signal.digest, run.job.signal) for run in runs]
    return [
        Run(dataclasses.replace(run.job, signal=signal), run.values)
        for run, signal in zip(runs, shared, strict=True)
    ]


def execute(
    runs: Sequence[Run],
    device: Device,
    *,
    executor: Executor | None = None,
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
    with_learned: bool = False,
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
    with_learned : bool
        Whether outcomes have what was learned, for `model_of`; it is most of what an executor sends back.
    """
    groups = _groups(runs)
    if executor is None:
        yield from _execute_here(groups, device, callback, should_stop)
    else:
        tasks = [(group, device, with_learned) for group in groups]
        for number, outcomes in finished(executor, run_group, tasks, should_stop):
            yield from zip(groups[number], outcomes, strict=True)


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of one shape together, and no more than a batch holds."""
    return [
        [runs[i] for i in group[start : start + MOST_MEMBERS]]
        for group in group_by_shape([run.job for run in runs])
        for start in range(0, len(group), MOST_MEMBERS)
    ]


def _execute_here(
    groups: Sequence[Sequence[Run]],
    device: Device,
    callback: Callback | None,
    should_stop: ShouldStop | None,
) -> Iterator[tuple[Run, Outcome]]:
    backend = device.make()
    for group in groups:
        outcomes = _outcomes(group, backend, callback, should_stop)
        yield from zip(group, outcomes, strict=True)
        if any(outcome.row["stopped"] == "interrupted" for outcome in outcomes):
            return


def run_group(group: Sequence[Run], device: Device, with_learned: bool) -> list[Outcome]:
    """Train one group in a worker; all that goes in and comes out can be pickled."""
    outcomes = _outcomes(group, device.make())
    return outcomes if with_learned else [Outcome(outcome.row) for outcome in outcomes]


def _outcomes(
    group: Sequence[Run],
    backend: Backend,
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
) -> list[Outcome]:
    """Train one group: networks of one shape, or the tiles of one picture."""
    jobs = [run.job for run in group]
    results = jobs[0].run_together(jobs, backend, callback, should_stop)
    return [outcome_of(result, run.values) for run, result in zip(group, results, strict=True)]


def outcome_of(result: FitResult, values: Mapping[str, Any]) -> Outcome:
    """The row of a finished fit, and what it learned; an interrupted one of tiles has no figures."""
    figures = {column: result.metrics.get(name) for column, name in _METRICS.items()}
    return Outcome(dict(values) | figures | {"stopped": result.stopped}, result.learned)


def model_of(run: Run, outcome: Outcome) -> Model | TiledModel:
    """The fitted model of a run, on the host."""
    return run.job.model_of(outcome.learned, dict(outcome.row))


def sweep(
    images: Any,
    *,
    recipe: RecipeName | None = None,
    executor: Executor | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    on_model: Callable[[dict[str, Any], Model | TiledModel], None] | None = None,
    known: NDArray[np.bool_] | None = None,
    weights: ArrayLike | None = None,
    **options: Any,
) -> Table:
    """Fit every combination of the options that are lists, and return a table, best PSNR first.

    Parameters
    ----------
    images : picture, or list or tuple of pictures
        Each as `coordfit.fit` takes it.
    executor : concurrent.futures.Executor, optional
        Takes the groups of networks of equal shape, e.g. a `ProcessPoolExecutor`, or that of a cluster:
        `dask.distributed.Client(...).get_executor()`, `mpi4py.futures.MPIPoolExecutor()`.
    on_row : callable, optional
        Told of each row as it is finished.
    on_model : callable, optional
        Told of each row and its fitted model; without it an executor sends rows alone.
    known, weights : arrays (H, W), optional
        As `coordfit.fit` takes them, for all pictures.
    **options
        Fields of `FitConfig`; a list means several values: `sweep(picture, sigma=[1, 3], loss=["mse", "mae"])`,
        and so does a tuple, but for `size`, a range or an array.
        Likewise `tiles` ("none" by default), `budget_parameters`, `every_tile` and `stored`, as `coordfit.fit`
        and the command line have them: `sweep(picture, tiles=[8, 16], hidden_size=[32, 64])`. And `device`,
        `threads`, `fused` and `precision`, as `coordfit.fit` takes them.

    Returns
    -------
    Table
        The values of a run, then its figures; `table.to_pandas()` where pandas is installed. Networks that
        diverged come last: `stopped` says so, and their figures are of the last good state.
    """
    pictures = [load_picture(image) for image in (images if isinstance(images, list | tuple) else [images])]
    workers = Device(**{name: options.pop(name) for name in DEVICE_OPTIONS if name in options})
    varied = {name: values_in(value) for name, value in options.items() if _is_several(name, value)}
    fixed = {name: value for name, value in options.items() if name not in varied}
    runs = resolved(plan_sweep(pictures, [fixed], varied, recipe=recipe, known=known, weights=weights), workers)
    rows = []
    for run, outcome in execute(runs, workers, executor=executor, with_learned=on_model is not None):
        rows.append(outcome.row)
        if on_row is not None:
            on_row(outcome.row)
        if on_model is not None:
            on_model(outcome.row, model_of(run, outcome))
    return ranked(Table(rows, ["picture", *varied, *FIGURES]), "psnr")


def _is_several(name: str, value: Any) -> bool:
    """Whether the value of an option is several; a tuple is one size."""
    if name == "size" and isinstance(value, tuple):
        return any(isinstance(one, tuple) for one in value)
    return isinstance(value, list | tuple | range) or getattr(value, "ndim", 0) > 0


def ranked(table: Table, column: str) -> Table:
    """A sweep's table in the order of a column: the best first, settings upwards, what diverged last."""
    ordered = table.sorted_by(column, descending=column in _MORE_IS_BETTER)
    rows = [row for row in ordered if row["stopped"] != DIVERGED]
    return Table([*rows, *(row for row in ordered if row["stopped"] == DIVERGED)], table.columns)


def resolved(runs: Sequence[Run], device: Device, trial: Trial | None = None) -> list[Run]:
    """The runs with `sigma="auto"` replaced by a number, chosen once for each picture and its settings.

    `trial` is told of the progress of each choice.
    """
    chosen: dict[tuple[str, str], FitConfig] = {}
    settled_runs = []
    for run in runs:
        config = run.job.config
        if config.sigma == "auto":
            about = (run.job.signal.digest, json.dumps(config.replace(seed=0).as_dict(), sort_keys=True))
            if about not in chosen:
                chosen[about] = settled(run.job, device.make(), trial)[0].config
            own = config.replace(sigma=chosen[about].sigma)
            run = Run(run.job.with_config(own), run.values)
        settled_runs.append(run)
    return settled_runs
