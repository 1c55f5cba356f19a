"""Sums in a fixed order: over rows, over partial results, and of two buffers."""

from __future__ import annotations

import math

from ...protocols import Array
from ..device import Device
from ..kernels import blocks_for, groups_of_rows
from ..strides import C_TYPES, member_stride, members_of

# Two blocks for each multiprocessor of a large GPU; the second stage has few threads for all parts.
_MOST_PARTS = 264


def sum_over_rows(gpu: Device, dz: Array, db: Array, accumulate: bool) -> None:
    """Fill db with the sum of dz over rows, or add the sum to it."""
    rows, width = dz.shape[-2:]
    members, c_type = members_of(db.shape), (C_TYPES[str(dz.dtype)],)
    blocks = blocks_for(rows, groups_of_rows(width), _MOST_PARTS)
    partials = gpu.reuse("column sums", (members, blocks, width), db.dtype)
    grid = (blocks, members)
    gpu.launch("column_sums", c_type, grid, dz, member_stride(dz), partials, blocks * width, rows, width)
    sum_partials(gpu, partials, db, member_stride(db), accumulate)


def sum_partials(gpu: Device, partials: Array, out: Array, stride: int, accumulate: bool) -> None:
    """Sum partials (K, parts, width) over parts into `width` numbers at `out`, for each member."""
    members, parts, width = partials.shape
    grid = (blocks_for(width, 32), members)
    places = (partials, parts * width, out, stride, parts, width, int(accumulate))
    gpu.launch("sum_partials", (C_TYPES[str(out.dtype)],), grid, *places)


def sum_values(gpu: Device, partials: Array, scale: float, value: Array) -> None:
    """Fill `value`, shape E, with `scale` times the sum of partials (K, blocks)."""
    members, blocks = partials.shape
    places = (value, 1, 1, None, 0, 0)  # no history: one value for each member
    c_type = (C_TYPES[str(value.dtype)],)
    gpu.launch("sum_values", c_type, (1, members), partials, blocks, blocks, scale, *places)


def add(gpu: Device, total: Array, part: Array, core: int) -> None:
    """Add a part to a total of the same shape."""
    count, members = math.prod(total.shape[-core:]), members_of(total.shape, core)
    places = (total, member_stride(total, core), part, member_stride(part, core), count)
    gpu.launch("add", (C_TYPES[str(total.dtype)],), (blocks_for(count), members), *places)
