"""Activations and parameters in 16 bits, and casts from and to float32."""

from __future__ import annotations

import math

import numpy as np

from ...dispatch import FusedUnavailableError
from ...protocols import Array
from ..device import Device
from ..kernels import blocks_for
from ..strides import c_types, members_of, strided


def is_stored(gpu: Device, array: Array | None) -> bool:
    """Whether an array holds activations in 16 bits."""
    return array is not None and str(array.dtype) == gpu.stored


def parameter_in_16_bits(gpu: Device, parameter: Array) -> Array:
    """Return W or b in 16 bits: from the copy of its flat buffer, or cast now."""
    found = gpu.compute_copies.find(parameter)
    return cast(gpu, parameter, gpu.new(parameter.shape, gpu.stored)) if found is None else found


def widened(gpu: Device, purpose: str, array: Array) -> Array:
    """Return the array in float32: itself, or a copy in memory for this purpose."""
    if not is_stored(gpu, array):
        return array
    return cast(gpu, array, gpu.reuse(f"{purpose}, widened", array.shape, np.float32))


def cast(gpu: Device, source: Array, target: Array, core: int = 2) -> Array:
    """Convert a packed array to the type of `target`, of equal shape; return `target`."""
    gpu.column_sums.forget(target)
    count, members = math.prod(source.shape[-core:]), members_of(source.shape, core)
    grid = (blocks_for(count), members)
    gpu.launch("cast", c_types(source, target), grid, *strided(source, target, core=core), count)
    return target


def update_compute_copy(gpu: Device, parameters: Array) -> None:
    """Update the 16-bit copy of a flat buffer of parameters."""
    compute_copy = gpu.compute_copies.of(parameters)
    if compute_copy is None:
        compute_copy = gpu.new(parameters.shape, gpu.stored)
    gpu.compute_copies.keep(parameters, compute_copy)
    cast(gpu, parameters, compute_copy, core=parameters.ndim)


def refuse_16_bits(gpu: Device, fault: str, *arrays: Array | None) -> str:
    """Return the fault; raise if generic bodies would read 16-bit words as integers."""
    if fault and any(is_stored(gpu, array) for array in arrays):
        raise FusedUnavailableError(
            f"precision {gpu.precision} has fused bodies alone, and this one {fault}; take float32"
        )
    return fault
