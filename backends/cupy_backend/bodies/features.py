"""Inputs of the first layer: Fourier features of coordinates, pixel numbers and grids, and gathered rows."""

from __future__ import annotations

from ...calls import FourierFeatures, GridFourierFeatures, PixelFourierFeatures, TakeRows
from ...dispatch import fused
from ...primitives import Primitives
from ...protocols import Array
from ..device import Device
from ..kernels import blocks_for, groups_of_rows
from ..strides import c_types, ensemble_of, fault_of, members_of, strided
from .sixteen_bits import is_stored


def _features_fit(gpu: Device, call: FourierFeatures) -> str:
    if call.coordinates.shape[-1] != 2:
        return f"takes coordinates in 2 dimensions, not {call.coordinates.shape[-1]}"
    return fault_of(call.coordinates, call.B)


@fused(Primitives.fourier_features, supports=_features_fit)
def fourier_features(gpu: Device, call: FourierFeatures) -> Array:
    """Compute each pair of cosine and sine in one thread."""
    coordinates, B = gpu.packed(call.coordinates), gpu.packed(call.B)
    rows, m = coordinates.shape[-2], B.shape[-2]
    out = _features(gpu, call.out, (*ensemble_of(coordinates, B), rows, 2 * m), B)
    grid = (blocks_for(rows, groups_of_rows(m)), members_of(out.shape))
    gpu.launch("fourier_features", c_types(B, out), grid, *strided(coordinates, B, out), rows, m)
    return out


def _pixels_fit(gpu: Device, call: PixelFourierFeatures) -> str:
    pixels, B = call.pixels, call.B
    if len(call.lattice.counts) != 2:
        return f"takes grids of 2 axes, not of {len(call.lattice.counts)}"
    if str(pixels.dtype) != "int64" or pixels.ndim not in (1, 2) or str(B.dtype) != call.dtype:
        return "takes numbers of pixels in int64, and frequencies of the coordinates' dtype"
    return fault_of(B) or ("" if pixels.size else "takes no empty arrays")


@fused(Primitives.pixel_fourier_features, supports=_pixels_fit)
def pixel_fourier_features(gpu: Device, call: PixelFourierFeatures) -> Array:
    """Compute coordinates and features in one kernel."""
    pixels, B = gpu.packed(call.pixels, core=1), gpu.packed(call.B)
    rows, m = pixels.shape[-1], B.shape[-2]
    out = _features(gpu, call.out, (*max(pixels.shape[:-1], B.shape[:-2]), rows, 2 * m), B)
    grid = (blocks_for(rows, groups_of_rows(m)), members_of(out.shape))
    counts, (x_scale, y_scale), (x_start, y_start) = call.lattice
    lattice = counts[0], x_scale, x_start, y_scale, y_start
    arguments = (*strided(pixels, core=1), *strided(B, out), rows, m, *lattice)
    gpu.launch("pixel_fourier_features", c_types(B, out), grid, *arguments)
    return out


def _tables_fit(gpu: Device, call: GridFourierFeatures) -> str:
    if call.x_table.ndim != 2 or call.rows.stop <= call.rows.start:
        return "takes tables of one network, and a pixel or more"
    return fault_of(call.x_table, call.y_table)


@fused(Primitives.grid_fourier_features, supports=_tables_fit)
def grid_fourier_features(gpu: Device, call: GridFourierFeatures) -> Array:
    """Combine the tables of rows and columns, each feature in one thread."""
    x, y = gpu.packed(call.x_table), gpu.packed(call.y_table)
    count, width, m = call.rows.stop - call.rows.start, x.shape[0], x.shape[1] // 2
    out = _features(gpu, call.out, (count, 2 * m), x)
    grid = (blocks_for(count, groups_of_rows(m)), 1)
    gpu.launch("grid_fourier_features", c_types(x, out), grid, x, y, out, call.rows.start, count, m, width)
    return out


def _rows_fit(gpu: Device, call: TakeRows) -> str:
    if str(call.rows.dtype) != "int64" or not call.rows.size:
        return "takes numbers of rows of int64"
    return fault_of(call.array, stored=gpu.stored)


@fused(Primitives.take_rows, supports=_rows_fit)
def take_rows(gpu: Device, call: TakeRows) -> Array:
    """Gather rows, the same or different ones for each member."""
    array, rows = gpu.packed(call.array), gpu.packed(call.rows, core=1)
    count, width = rows.shape[-1], array.shape[-1]
    ensemble = array.shape[:-2] or rows.shape[:-1]
    out = gpu.out_or_new(call.out, (*ensemble, count, width), array)
    grid = (blocks_for(count, groups_of_rows(width)), members_of(out.shape))
    arguments = (*strided(array), *strided(rows, core=1), *strided(out), count, width)
    gpu.launch("take_rows", c_types(array), grid, *arguments)
    return out


def _features(gpu: Device, offered: Array | None, shape: tuple[int, ...], like: Array) -> Array:
    """Return memory for features: the offered buffer, which may have 16 bits, or a new array."""
    return gpu.out_or_new(offered, shape, offered if is_stored(gpu, offered) else like)
