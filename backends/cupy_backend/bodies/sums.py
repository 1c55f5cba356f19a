"""Sums in a fixed order: over rows, over partial results, and of two buffers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...protocols import Array
from ..device import Device
from ..kernels import blocks_for, groups_of_rows
from ..strides import c_types, member_stride, members_of, strided

MAX_PARTS = 264
"""Blocks of a first stage: two for each multiprocessor of a large GPU, since the second has few threads."""
_COLUMNS = 8  # of a block at once, in `sum_columns` of storage.cu


def sums_dtype(array: Array) -> Any:
    """Return the dtype of sums of an array's numbers, float32 for 16 bits."""
    return np.float64 if str(array.dtype) == "float64" else np.float32


def sum_over_rows(gpu: Device, dz: Array, db: Array, accumulate: bool) -> None:
    """Fill db with the sum of dz over rows, or add the sum to it."""
    rows, width = dz.shape[-2:]
    members, blocks = members_of(db.shape), blocks_for(rows, groups_of_rows(width), MAX_PARTS)
    partials = gpu.reuse("column sums", (members, blocks, width), db.dtype)
    arguments = (*strided(dz), partials, blocks * width, rows, width)
    gpu.launch("column_sums", c_types(dz), (blocks, members), *arguments)
    sum_partials(gpu, Columns(partials, db, member_stride(db), accumulate))


class Values(NamedTuple):
    """Partial sums (K, blocks) of a loss in float64, whose sum times `scale` is `value`, of shape E."""

    partials: Array
    scale: float
    value: Array


class Columns(NamedTuple):
    """Partial sums (K, parts, width), and where their sums over parts go: `width` numbers for each member."""

    partials: Array
    out: Array
    stride: int
    accumulate: bool

    @property
    def blocks(self) -> int:
        """Blocks that add them up."""
        return blocks_for(self.partials.shape[-1], _COLUMNS)

    def arguments(self) -> tuple[Any, ...]:
        """Return partials, sums, their strides and sizes, as kernels take them."""
        _, parts, width = self.partials.shape
        return (self.partials, parts * width, self.out, self.stride, parts, width, int(self.accumulate))


NO_COLUMNS = (None, 0, None, 0, 0, 0, 0)


def sum_partials(gpu: Device, columns: Columns, values: Values | None = None) -> None:
    """Add up partial sums of columns, and of a loss in the same launch."""
    members, grid = len(columns.partials), columns.blocks if values is None else columns.blocks + 1
    gpu.launch("sum_partials", c_types(columns.out), (grid, members), *columns.arguments(), *_of_loss(values))


def sum_values(gpu: Device, values: Values) -> None:
    """Add up partial sums of a loss."""
    gpu.launch("sum_partials", c_types(values.value), (1, len(values.partials)), *NO_COLUMNS, *_of_loss(values))


def _of_loss(values: Values | None) -> tuple[Any, ...]:
    if values is None:
        return None, 0, 0.0, None
    return values.partials, values.partials.shape[-1], values.scale, values.value


def add(gpu: Device, total: Array, part: Array, core: int) -> None:
    """Add a part to a total of the same shape."""
    count, members = math.prod(total.shape[-core:]), members_of(total.shape, core)
    grid = (blocks_for(count), members)
    gpu.launch("add", c_types(total), grid, *strided(total, part, core=core), count)
