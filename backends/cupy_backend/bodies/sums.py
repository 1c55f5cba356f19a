"""Sums in a fixed order: over rows, over partial results, and of two buffers."""

from __future__ import annotations

import math

from ...protocols import Array
from ..device import Device
from ..kernels import blocks_for, groups_of_rows
from ..strides import c_types, member_stride, members_of, strided

# Two blocks for each multiprocessor of a large GPU; the second stage has few threads for all parts.
_MAX_PARTS = 264


def sum_over_rows(gpu: Device, dz: Array, db: Array, accumulate: bool) -> None:
    """Fill db with the sum of dz over rows, or add the sum to it."""
    rows, width = dz.shape[-2:]
    members, blocks = members_of(db.shape), blocks_for(rows, groups_of_rows(width), _MAX_PARTS)
    partials = gpu.reuse("column sums", (members, blocks, width), db.dtype)
    arguments = (*strided(dz), partials, blocks * width, rows, width)
    gpu.launch("column_sums", c_types(dz), (blocks, members), *arguments)
    sum_partials(gpu, partials, db, member_stride(db), accumulate)


def sum_partials(gpu: Device, partials: Array, out: Array, stride: int, accumulate: bool) -> None:
    """Sum partials (K, parts, width) over parts into `width` numbers at `out`, for each member."""
    members, parts, width = partials.shape
    grid = (blocks_for(width, 32), members)
    places = (partials, parts * width, out, stride, parts, width, int(accumulate))
    gpu.launch("sum_partials", c_types(out), grid, *places)


def sum_values(gpu: Device, partials: Array, scale: float, value: Array) -> None:
    """Fill `value`, shape E, with `scale` times the sum of partials (K, blocks)."""
    members, blocks = partials.shape
    places = (value, 1, 1, None, 0, 0)  # no history: one value for each member
    gpu.launch("sum_values", c_types(value), (1, members), partials, blocks, blocks, scale, *places)


def add(gpu: Device, total: Array, part: Array, core: int) -> None:
    """Add a part to a total of the same shape."""
    count, members = math.prod(total.shape[-core:]), members_of(total.shape, core)
    grid = (blocks_for(count), members)
    gpu.launch("add", c_types(total), grid, *strided(total, part, core=core), count)
