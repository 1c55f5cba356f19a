"""What is asked becomes a job: of one network, of tiles, or of few bits; and what every job can do.

    job = settled(plan(picture, Settings.of(layers, recipe=...), TileOptions(...)), backend)
    result = job.run(backend, callback)

`plan` decides which kind it is, and `plan_fit` for `coordfit.fit`; it is asked nowhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...backends import Backend
from ...encoders.registry import encoding_class
from ...errors import ConfigError
from ...executors import finished
from ...images import Picture
from ...images.interpolation import mean_spacing
from ...pixels.weights import checked_mask, checked_weights
from ...signals.signal import Signal
from ...tiles.fit import TiledFit
from ...tiles.plan import AUTO_PIXELS, TileOptions
from ...training.job import group_by_shape
from ...training.result import FitResult
from ...training.state import Callback, ShouldStop, Trial
from .average import check_average
from .compact import COMPACT, CompactFit, CompactJob, why_not_compact
from .network import NetworkFit, NetworkJob
from .settings import Device, Settings
from .sigma import choose_sigma
from .tiles import TiledJob

# Sigma of arrays as a share of the samples along the longest side: to memorise them, which is about that of
# pictures of 128x128, and to interpolate. A volume of 40^3 and sounds of 100 and 4000 samples are learned best
# at 1/12 to 1/3; half of them hidden, they are filled best at 1/25 to 1/50 (`python -m bench.signals`).
_SIGMA_OF_SEEN, _SIGMA_BETWEEN, _LEAST_SIGMA = 1 / 10, 1 / 30, 0.5

AnyJob = NetworkJob | TiledJob
FitJob = AnyJob | CompactJob
AnyFit = NetworkFit | TiledFit | CompactFit
SomeJob = TypeVar("SomeJob", NetworkJob | TiledJob, NetworkJob | TiledJob | CompactJob)


def plan_fit(
    signal: Signal,
    settings: Settings,
    tiles: TileOptions | None = None,
    device: Device | None = None,
    *,
    known: NDArray[np.bool_] | None = None,
    weights: ArrayLike | None = None,
    average: int = 1,
) -> FitJob:
    """Decide how `coordfit.fit` learns a picture, or an array, with what was asked by name.

    The recipe `compact` is that of few bits. It is also that of pictures of more than 256x256 pixels if nothing
    is asked for that it cannot have, nor a number of steps, which is taken to be for one network. Otherwise
    `plan` decides, with tiles for such pictures by default.

    Raises
    ------
    ConfigError
        As of `plan`; or the recipe is `compact`, and something else cannot be had with it.
    """
    if not isinstance(signal, Picture):
        return plan_array(signal, settings, tiles, known=known, weights=weights, average=average)
    options = tiles or TileOptions()
    is_masked = known is not None or weights is not None
    reason = why_not_compact(signal, settings, options, device or Device(), is_masked=is_masked)
    reason = "it is no mean of networks; leave average out" if average > 1 else reason
    if settings.recipe == COMPACT:
        if reason:
            raise ConfigError(f"the recipe {COMPACT!r} makes a function of few bits: {reason}")
        return CompactJob.of(signal, settings)
    is_large = len(signal.grid) > AUTO_PIXELS
    if is_large and not (reason or settings.recipe or "steps" in settings.asked):
        return CompactJob.of(signal, settings)
    if options.tiles is None and options.budget_parameters is None:
        options = dataclasses.replace(options, tiles="none" if average > 1 else "auto")
    return plan(signal, settings, options, known=known, weights=weights, average=average)


def plan_array(
    signal: Signal,
    settings: Settings,
    tiles: TileOptions | None = None,
    *,
    known: NDArray[np.bool_] | None = None,
    weights: ArrayLike | None = None,
    average: int = 1,
) -> AnyJob:
    """Decide how `coordfit.fit_array` and `coordfit.fit_points` learn a signal.

    Raises
    ------
    ConfigError
        As of `plan`; or pictures alone can have what is asked.
    """
    if known is None:
        known = signal.known
    elif signal.known is not None:
        known = checked_mask(known, signal) & signal.known
    for name in ("size", "background"):
        if settings.asked.get(name) is not None:
            raise ConfigError(f"{name} is for pictures; leave it out")
    options = tiles or TileOptions()
    if options.tiles is None and options.budget_parameters is None:
        options = dataclasses.replace(options, tiles="none" if average > 1 else "auto")
    job = plan(signal, settings, options, known=known, weights=weights, average=average)
    encoding = encoding_class(job.config.encoding)
    if job.kind != NetworkJob.kind or job.config.sigma is not None or not encoding.has_sigma:
        return job
    axes = len(signal.shape)
    spacing = 1.0 if job.known is None else mean_spacing(job.known, axes)
    is_seen = spacing == 1.0 and job.config.train_on == "all" and signal.coordinates is None
    share = _SIGMA_OF_SEEN if is_seen else _SIGMA_BETWEEN
    sigma = encoding.sigma_times * share * max(signal.shape) / spacing
    return job.with_config(job.config.replace(sigma=float(f"{max(sigma, _LEAST_SIGMA):.2g}")))


def plan(
    signal: Signal,
    settings: Settings,
    tiles: TileOptions | None = None,
    *,
    known: NDArray[np.bool_] | None = None,
    weights: ArrayLike | None = None,
    average: int = 1,
) -> AnyJob:
    """Decide whether a picture is learned by one network or by tiles, and how.

    Parameters
    ----------
    signal : Signal
        A picture at the size that the settings ask for.
    known : boolean array (H, W), optional
        The pixels that training may see, instead of those that `train_on` names.
    weights : array (H, W), optional
        How much each pixel counts in training, relative to the others.
    average : int
        Of how many networks the mean is taken.

    Raises
    ------
    ConfigError
        A setting is impossible, or tiles are asked for and cannot be had with the others.
    """
    if settings.recipe == COMPACT:
        raise ConfigError(f"the recipe {COMPACT!r} is of `coordfit fit` alone; leave it out")
    options, spacing = tiles or TileOptions(), None
    if known is not None:
        known = checked_mask(known, signal)
        spacing = mean_spacing(known, len(signal.shape))
        if settings.config.train_on != "all":
            raise ConfigError("train_on has no meaning where a mask says which pixels are known; leave it out")
    counts = None if weights is None else checked_weights(weights, signal)
    made = options.plan(signal, settings.asked, recipe=settings.recipe, spacing=spacing)
    if isinstance(made, str):
        surprises = options.tiles == "auto" and len(signal.grid) > AUTO_PIXELS
        words = f"one network for the whole picture: {made}" if surprises else ""
        check_average(average, settings.config)
        return NetworkJob(signal, settings.config, known, counts, average, words)
    if average > 1:
        raise ConfigError("average is of networks of the whole picture; leave it out, or take tiles=none")
    if counts is not None and made.config.target_psnr is not None:
        raise ConfigError("target_psnr counts all pixels alike; leave weights out, or take tiles=none")
    return TiledJob(
        signal, made.config, known, counts, plan=made, every_tile=options.every_tile, stored=options.stored
    )


def settled(job: SomeJob, backend: Backend, trial: Trial | None = None) -> tuple[SomeJob, dict[float, float]]:
    """Choose a number for a sigma that is `auto`; the job with it, and the score in dB of each candidate.

    `trial` is told of the progress of the choice.
    """
    if job.config.sigma != "auto":
        return job, {}
    if not encoding_class(job.config.encoding).has_sigma:
        return job.with_config(job.config.replace(sigma=None)), {}
    sigma, scores = choose_sigma(job, backend, trial)
    return job.with_config(job.config.replace(sigma=sigma)), scores


def key_of(job: AnyJob) -> str:
    """Return what tells a job from all others: a digest of the picture and of every setting."""
    settings = json.dumps(job.config.as_key() | job.facts | digests_of(job), sort_keys=True)
    return hashlib.sha256(f"{job.signal.digest}\n{settings}".encode()).hexdigest()[:16]


def digests_of(job: FitJob) -> dict[str, str]:
    """Return what tells the arrays `known` and `weights` of a job from others, if there are any."""
    given = {"known": job.known, "weights": job.weights}
    return {name: _digest(array) for name, array in given.items() if array is not None}


def trained(
    jobs: Sequence[AnyJob],
    backend: Backend,
    callback: Callback | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[tuple[int, FitResult]]:
    """Train jobs, those of one shape as one batch; the number and the result of each as it is finished.

    Tiles that were interrupted are no result, and end it.
    """
    for group in group_by_shape(jobs):
        results = jobs[group[0]].run_together([jobs[i] for i in group], backend, callback, should_stop)
        if not all(result.metrics for result in results):
            return
        yield from zip(group, results, strict=True)


def trained_elsewhere(
    executor: Executor, jobs: Sequence[AnyJob], device: Device
) -> Iterator[tuple[int, FitResult]]:
    """Do what `trained` does on an executor: each batch is a task."""
    groups = group_by_shape(jobs)
    tasks = [([jobs[i] for i in group], device) for group in groups]
    for number, results in finished(executor, _train_group, tasks):
        yield from zip(groups[number], results, strict=True)


def _train_group(jobs: Sequence[AnyJob], device: Device) -> list[FitResult]:
    """Train a batch in a worker; all that goes in and comes out can be pickled."""
    return jobs[0].run_together(jobs, device.make(), None, None)


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
