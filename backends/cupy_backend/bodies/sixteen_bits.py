"""Activations that are kept in 16 bits: casts from and to float32, and parameters in 16 bits."""

from __future__ import annotations

import math

import numpy as np

from ...dispatch import FusedUnavailableError
from ...protocols import Array
from ..device import Device
from ..kernels import blocks_for
from ..strides import C_TYPES, member_stride, members_of


def is_stored(gpu: Device, array: Array | None) -> bool:
    """Whether an array holds activations in 16 bits."""
    return array is not None and str(array.dtype) == gpu.stored


def parameter_in_16_bits(gpu: Device, parameter: Array) -> Array:
    """Return W or b in 16 bits: from the copy of its flat buffer, or cast now if it has none."""
    found = gpu.compute_copies.find(parameter)
    return cast(gpu, parameter, gpu.new(parameter.shape, gpu.stored)) if found is None else found


def widened(gpu: Device, purpose: str, array: Array) -> Array:
    """Return the array in float32: itself, or a copy in memory for that purpose."""
    if not is_stored(gpu, array):
        return array
    return cast(gpu, array, gpu.reuse(f"{purpose}, widened", array.shape, np.float32))


def cast(gpu: Device, source: Array, target: Array, core: int = 2) -> Array:
    """Round the numbers of packed arrays of equal shape to another type; the result is `target`."""
    gpu.masks.forget(target)
    count, members = math.prod(source.shape[-core:]), members_of(source.shape, core)
    types = (C_TYPES[str(source.dtype)], C_TYPES[str(target.dtype)])
    places = (source, member_stride(source, core), target, member_stride(target, core), count)
    gpu.launch("cast", types, (blocks_for(count), members), *places)
    return target


def update_compute_copy(gpu: Device, parameters: Array) -> None:
    """Copy a flat buffer of parameters into 16 bits anew."""
    compute_copy = gpu.compute_copies.of(parameters)
    if compute_copy is None:
        compute_copy = gpu.new(parameters.shape, gpu.stored)
    gpu.compute_copies.keep(parameters, compute_copy)
    cast(gpu, parameters, compute_copy, core=parameters.ndim)


def unless_16_bits(gpu: Device, fault: str, *arrays: Array | None) -> str:
    """Return the fault; raise it if generic bodies would take words of 16 bits for whole numbers."""
    if fault and any(is_stored(gpu, array) for array in arrays):
        raise FusedUnavailableError(
            f"precision {gpu.precision} has fused bodies alone, and this one {fault}; take float32"
        )
    return fault
