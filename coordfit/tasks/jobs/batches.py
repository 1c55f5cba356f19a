"""Which jobs of different pictures are trained together: small networks of one shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...backends import Backend
from ...encoders.registry import encoding_of
from ...models import memory
from ...network.cost import layout_for
from ...tiles.plan import AUTO_PIXELS
from ...training.job import group_by_shape
from .network import NetworkJob
from .plan import FitJob

# More members at once gain nothing, and a group's results come when it is done.
MOST_MEMBERS = 32
# Of a step, on the CPU: rows times weights. Sixteen pictures of 32x32 took half of the time of one after
# another with 0.8 million; with 67 million as long, and rows come at the end of a batch alone.
_MOST_PRODUCTS_ON_CPU = 2_000_000


def can_be_batched(job: FitJob, backend: Backend) -> bool:
    """Whether a job gives the same result in a batch as alone, and gains by it."""
    is_small = len(job.signal.grid) <= AUTO_PIXELS
    return job.is_same_in_batch and is_small and _gains(job, backend)


def _gains(job: FitJob, backend: Backend) -> bool:
    """Whether calls take a good part of a step, and not the products alone."""
    if backend.device != "cpu":
        return True
    config, samples = job.config, len(job.signal.grid)
    encoding = encoding_of(config, job.signal.shape)
    state = encoding.draw(np.random.default_rng(0), config.dtype)
    rows = min(config.batch_size or samples, samples)
    return rows * layout_for(config, encoding, state, job.signal.channels).size <= _MOST_PRODUCTS_ON_CPU


def batches(jobs: Sequence[NetworkJob], backend: Backend) -> list[list[int]]:
    """Return the numbers of jobs that are trained together: of one shape, and as many as memory holds."""
    found = []
    for group in group_by_shape(jobs):
        most = _most_together(jobs[group[0]], backend, len(group))
        found += [group[start : start + most] for start in range(0, len(group), most)]
    return found


def _most_together(job: NetworkJob, backend: Backend, count: int) -> int:
    """Return how many jobs like this one fit into the free memory, each with a picture of its own."""
    free = backend.free_memory()
    count = min(count, MOST_MEMBERS)
    while count > 1 and free is not None:
        need = memory.need_of_training(job.config, job.signal, backend, count)
        if need.total + (count - 1) * need.pixels <= free:
            break
        count -= 1
    return count
