"""`sigma="auto"`: a spread of frequencies chosen from the training pixels alone.

The right sigma follows the picture's own spectrum and the density of the pixels that training sees. A short
batch of smaller networks, one for each candidate, is trained together, and the best score is taken:

- where pixels are held out from training, the networks learn four fifths of the training pixels and are scored
  on the rest, since what memorises best does not interpolate best;
- where all pixels are trained, memorising them is the task, and the score is that of the training pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._backends import Backend
from .config import FitConfig
from .ensemble import Job, fit_together
from .evaluation import training_mask
from .metrics import psnr
from .result import FitResult

CANDIDATES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Cycles per longer side of the picture."""

_HELD_OUT_SHARE = 0.2
_SHORT_RUN = {"batch_size": 512, "hidden_size": 64, "num_frequencies": 64, "steps": 200, "evaluate_every": 200}


def with_sigma(job: Job, backend: Backend) -> FitConfig:
    """The job's settings with a sigma chosen for its picture, its training pixels and its encoding."""
    return job.config.replace(sigma=choose_sigma(job, backend)[0])


def choose_sigma(job: Job, backend: Backend) -> tuple[float, dict[float, float]]:
    """The best of `CANDIDATES` for a job, and the score of each in dB.

    The pixels that the job holds out are never looked at.
    """
    train = training_mask(job.config.train_on, job.picture.height, job.picture.width)
    train = train.reshape(job.picture.height, job.picture.width) if job.known is None else job.known
    interpolates = not bool(train.all())
    seen = _without_some(train, job.config.seed) if interpolates else train
    base = job.config.replace(train_on="all", seconds=None, target_psnr=None, epochs=None, **_SHORT_RUN)
    jobs = [Job(job.picture, base.replace(sigma=sigma), seen) for sigma in CANDIDATES]
    results = fit_together(jobs, backend)
    scored = train & ~seen if interpolates else train
    scores = {s: _score(result, scored) for s, result in zip(CANDIDATES, results, strict=True)}
    return max(scores, key=lambda sigma: scores[sigma]), scores


def _without_some(train: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """The training pixels but for a random fifth."""
    numbers = np.flatnonzero(train)
    hidden = np.random.default_rng(seed).permutation(numbers)[: int(_HELD_OUT_SHARE * len(numbers))]
    seen = train.copy()
    seen.reshape(-1)[hidden] = len(hidden) == 0
    return seen


def _score(result: FitResult, where: NDArray[np.bool_]) -> float:
    value = psnr(result.reconstruction, result.picture.pixels, where=where)
    return -np.inf if value is None or not np.isfinite(value) else value
