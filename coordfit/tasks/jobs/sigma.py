"""`sigma="auto"`: a spread of frequencies chosen from the training pixels alone.

The right sigma follows the picture, the density of the pixels that training sees, and how long it goes on.
Small networks, some for each candidate, are trained together as one batch on a smaller problem, and a parabola
through the best scores says where between the candidates the right sigma lies. There are two problems:

- Where all pixels are trained, memorising them is the task, and a longer training wants a larger sigma: a short
  trial would choose too small a one. So the trial is the fit itself made smaller: a mosaic of blocks, one pixel
  in sixteen, learned by a network with about a tenth of the weights in batches of a sixteenth, which visits
  each pixel half as often. The score is that of the mosaic, a mean of two mosaics; what is beyond the rounding
  of the picture's own bits does not count, since small pictures are learned to the last bit with any sigma.
- Where pixels are held out, what memorises best does not interpolate best: the networks learn four fifths of
  the training pixels for a tenth of the steps, and are scored on the other fifth; of few pixels, each fifth
  takes its turn.

Axes of signals that are no pictures have no common scale, so a second batch tries a smaller and a larger sigma
along each axis alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...backends import Backend
from ...config import FitConfig
from ...encoders.registry import encoding_class
from ...images.interpolation import mean_spacing
from ...images.metrics import psnr_from_mse
from ...pixels.masks import training_mask
from ...training.job import Job
from ...training.state import Trial
from ...training.trainer import Trainer

CANDIDATES = (2.5, 4.0, 6.3, 10.0, 16.0, 25.0, 40.0)
"""For memorising: cycles per longer side of a picture, and per 128 samples of another signal."""
SHARES = (1 / 80, 1 / 50, 1 / 31, 1 / 20, 1 / 12, 1 / 7.6, 1 / 4.8)
"""For interpolating: of the number of training pixels along the longer side."""

_TIMES = (0.4, 1.0, 2.5)
"""For one axis alone: of the sigma of all."""

_MOSAICS = 2
_MOSAIC_SHARE = 16  # of the pixels, one of this many
_FEWEST_PIXELS = 64
_FOLDS = 5
_ENOUGH_SCORED = 512  # pixels; fewer say little
_LEVEL = 0.05  # dB

Mask = NDArray[np.bool_]
Sigma = float | tuple[float, ...]


@dataclass(frozen=True)
class _Trial:
    """What one candidate is tried on: settings but for sigma, pixels (H, W) to learn and to be scored on."""

    config: FitConfig
    seen: Mask
    scored: Mask


def choose_sigma(job: Job, backend: Backend, trial: Trial | None = None) -> tuple[Sigma, dict[float, float]]:
    """The sigma for a job, to two digits, and the score of each candidate in dB.

    It is one number for a picture, and one for each coordinate of signals with other axes. The pixels that the
    job holds out are never looked at. `trial` is told of the steps taken and of all steps.
    """
    train = job.known
    if train is None:
        train = training_mask(job.config.train_on, job.signal.samples)
    if train.all():
        per_side = 1.0 if job.signal.is_picture else max(job.signal.shape) / 128.0
        candidates = tuple(per_side * sigma for sigma in CANDIDATES)
        trials = _memorising(job, train)
    else:
        rate = max(job.signal.shape) / mean_spacing(train, len(job.signal.shape))
        candidates = tuple(rate * share for share in SHARES)
        trials = _interpolating(job, train)
    times = encoding_class(job.config.encoding).sigma_times
    candidates = tuple(times * sigma for sigma in candidates)
    scores = dict(zip(candidates, _scores(job, trials, candidates, backend, trial), strict=True))
    sigma = _peak(scores)
    if job.signal.is_picture or len(job.signal.shape) == 1:
        return float(f"{sigma:.2g}"), scores
    return tuple(float(f"{own:.2g}") for own in _by_axis(job, trials, sigma, backend, trial)), scores


def _by_axis(job: Job, trials: list[_Trial], sigma: float, backend: Backend, told: Trial | None) -> list[float]:
    """Return the best sigma along each coordinate, with that of all along the others."""
    axes = range(len(job.signal.shape))
    changed = [(axis, times) for axis in axes for times in _TIMES]
    candidates = [tuple(sigma * (times if k == axis else 1.0) for k in axes) for axis, times in changed]
    scores = iter(_scores(job, trials, candidates, backend, told))
    return [_peak({sigma * times: next(scores) for times in _TIMES}) for _ in axes]


def _memorising(job: Job, train: Mask) -> list[_Trial]:
    """The fit made smaller, once for each mosaic."""
    config, steps = job.config, job.config.resolved_steps(train.size)
    trials = []
    for number in range(_MOSAICS):
        mosaic = _mosaic(train.shape, np.random.default_rng([config.seed, number]))
        batch = math.ceil((config.batch_size or train.size) * np.count_nonzero(mosaic) / train.size)
        small = _smaller(config, width=0.3, frequencies=0.375, steps=steps // 2, batch_size=batch)
        trials.append(_Trial(small.replace(seed=(config.seed + number) % 2**63), mosaic, mosaic))
    return trials


def _interpolating(job: Job, train: Mask) -> list[_Trial]:
    """The training pixels but for a fifth, which is to be guessed; several fifths where pixels are few."""
    numbers = np.flatnonzero(train)
    batch = min(512, job.config.batch_size or 512)
    steps = job.config.resolved_steps(len(numbers)) // 10
    small = _smaller(job.config, width=0.5, frequencies=0.5, steps=steps, batch_size=batch)
    if len(numbers) < _FOLDS:
        return [_Trial(small, train, train)]
    share = len(numbers) // _FOLDS
    order = np.random.default_rng(job.config.seed).permutation(numbers)
    trials = []
    for fold in range(min(_FOLDS, math.ceil(_ENOUGH_SCORED / share))):
        scored = np.zeros_like(train)
        scored.reshape(-1)[order[fold * share : (fold + 1) * share]] = True
        trials.append(_Trial(small, train & ~scored, scored))
    return trials


def _smaller(config: FitConfig, *, width: float, frequencies: float, steps: int, batch_size: int) -> FitConfig:
    return config.replace(
        hidden_size=max(16, round(width * config.hidden_size)),
        num_frequencies=max(8, round(frequencies * config.num_frequencies)),
        steps=max(50, steps),
        batch_size=batch_size,
        optimizer="adam" if config.optimizer == "gauss-newton" else config.optimizer,  # trials are one batch
        train_on="all",
        epochs=None,
        seconds=None,
        target_psnr=None,
    )


def _mosaic(samples: tuple[int, ...], rng: np.random.Generator) -> Mask:
    """A sixteenth of the samples, as square blocks spread over the signal; `_FEWEST_PIXELS` at least.

    Samples that were spread one by one would have no neighbours, and be memorised with any sigma.
    """
    side = int(np.clip(min(samples) // 16, 1, 8))
    blocks = tuple(length // side for length in samples)
    numbers, size = np.arange(math.prod(blocks)), side ** len(samples)
    count = max(len(numbers) // _MOSAIC_SHARE, min(len(numbers), math.ceil(_FEWEST_PIXELS / size)))
    mosaic = np.zeros(samples, np.bool_)
    for stretch in np.array_split(numbers, count):
        first = (side * int(place) for place in np.unravel_index(rng.choice(stretch), blocks))
        mosaic[tuple(slice(start, start + side) for start in first)] = True
    return mosaic


def _scores(
    job: Job,
    trials: list[_Trial],
    candidates: Sequence[Sigma],
    backend: Backend,
    told: Trial | None,
) -> list[float]:
    """PSNR in dB of each candidate, a mean over the trials; all networks are one batch."""
    jobs = [
        Job(job.signal, trial.config.replace(sigma=sigma), trial.seen)
        for trial in trials
        for sigma in candidates
    ]
    with backend.activate():
        models = Trainer(jobs, backend).train(told)
        scores = np.empty((len(trials), len(candidates)))
        for number, trial in enumerate(trials):
            pixels = np.flatnonzero(trial.scored)
            target = job.signal.pixels.reshape(-1, job.signal.channels)[pixels]
            points = job.signal.coordinates_of(pixels)
            for k in range(len(candidates)):
                model = models[number * len(candidates) + k]
                error = np.clip(model.predict(points), 0.0, 1.0) - target
                scores[number, k] = psnr_from_mse(float(np.mean(np.square(error, dtype=np.float64))))
    scores = np.minimum(scores, _rounding(job.signal.bit_depth)).mean(axis=0)
    return [float(score) if np.isfinite(score) else -math.inf for score in scores]


def _rounding(bit_depth: int) -> float:
    """Return the PSNR in dB of a picture rounded to a bit depth: the error is spread evenly between levels."""
    return psnr_from_mse(1.0 / (12.0 * (2**bit_depth - 1) ** 2))


def _peak(scores: dict[float, float]) -> float:
    """The top of the parabola through the best score and its neighbours, or the middle of those that are level.

    Sigma is on a log scale.
    """
    sigmas, values = np.array(list(scores)), np.array(list(scores.values()))
    level = sigmas[values >= values.max() - _LEVEL]
    best = int(np.argmax(values))
    beside = slice(best - 1, best + 2)
    if len(level) > 1:
        return math.sqrt(level[0] * level[-1])
    if best in (0, len(values) - 1) or not np.isfinite(values[beside]).all():
        return float(sigmas[best])
    curvature, slope, _ = np.polyfit(np.log(sigmas[beside]), values[beside], 2)
    return math.exp(-slope / (2.0 * curvature))
