"""Estimates of the memory that a run needs, checked before it is allocated.

Operating systems grant more memory than they have, and kill processes that use it. The estimate counts the
large arrays, and not the 100 MB or so of Python and its libraries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backends import Backend
from ..config import FitConfig
from ..encoders.registry import encoding_of
from ..errors import NotEnoughMemoryError
from ..network.cost import cost_of_a_row, item_size, layout_for, table_fits
from ..optimizers.gauss_newton import MOST_ROWS, kernel_bytes
from ..optimizers.make import state_names
from ..signals.signal import Signal

# Measured at the peak of runs: copies of the activations (forward, backward and temporary ones), and copies of
# the parameters and optimizer state on the host (the last good one, the next, and those being written).
_PASSES, _COPIES = 2, 5


@dataclass(frozen=True)
class Need:
    """Bytes of a run, by the setting that lowers them."""

    network: int
    rows: int
    pixels: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.network + self.rows + self.pixels

    @property
    def cure(self) -> str:
        """Advice to lower the largest part."""
        cures = {"network": "--hidden-size or --depth", "rows": "--batch-size", "pixels": "--size"}
        return "lower " + cures[max(cures, key=lambda name: int(getattr(self, name)))]


def check(need: Need, backend: Backend, what: str) -> None:
    """Raise NotEnoughMemoryError if the backend knows that less memory than `need` is free."""
    free = backend.free_memory()
    if free is not None and need.total > free:
        raise NotEnoughMemoryError(
            f"{what} needs about {in_words(need.total)} of memory and {in_words(free)} are free; {need.cure}"
        )


def need_of_training(config: FitConfig, signal: Signal, backend: Backend, members: int = 1) -> Need:
    """Return the peak memory of training `members` networks on one signal."""
    item, N, channels = item_size(config.dtype), math.prod(signal.samples), signal.channels
    encoding = encoding_of(config, signal.shape)
    layout = layout_for(config, encoding, encoding.draw(np.random.default_rng(0), config.dtype), channels)
    row_bytes, row_flops = cost_of_a_row(layout.layer_sizes, config.dtype)
    stride = 1 if config.train_on == "all" else 2
    seen = math.prod(math.ceil(side / stride) for side in signal.samples)

    def of_blocks(rows: int, members: int, alive: int, flops: int) -> tuple[int, int]:
        partitions = backend.partition(rows, members, alive, flops)
        longest = sum(
            max(block.stop - block.start for block in partition.blocks) * _largest(partition.groups, members)
            for partition in partitions
        )
        return longest * row_bytes, len(partitions) if partitions[0].members is None else 1

    in_step, gradients = of_blocks(min(config.batch_size or seen, seen), members, row_bytes, 3 * row_flops)
    alive, _ = cost_of_a_row(layout.layer_sizes, config.dtype, forward_alone=True)
    in_rendering, _ = of_blocks(min(N, 65_536), 1, alive, row_flops)
    states = len(state_names(config))
    kernels = 0
    if config.optimizer == "gauss-newton":  # larger batches are refused, as they take too long
        kernels = kernel_bytes(min(config.batch_size or seen, seen, MOST_ROWS), config.dtype)
    copies = 1 + gradients + states + _COPIES * (1 + states)
    table = seen * layout.layer_sizes[0] * item
    tables = table * members if table_fits(table, members) else table  # one for each, or shared
    return Need(
        network=members * copies * layout.size * item,
        rows=_PASSES * max(in_step, in_rendering) + kernels + (tables if table_fits(table, 1) else 0),
        # The training pixels, the reconstruction, the drawings of both.
        pixels=N * (2 * channels * item + 24),
    )


def _largest(groups: Sequence[slice | None], members: int) -> int:
    """Return the number of members of the largest group; None stands for all."""
    return max(members if group is None else group.stop - group.start for group in groups)


def need_of_rendering(*shape: int, dtype: str) -> Need:
    """Return the memory of a rendering as one array."""
    return Need(network=0, rows=0, pixels=math.prod(shape) * item_size(dtype))


def in_words(size: int) -> str:
    """Return a number of bytes in words."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
