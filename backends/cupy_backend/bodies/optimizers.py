"""Optimizers: one pass over the flat buffers, which also updates the 16-bit copy, if any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...calls import OptimizerStep
from ...dispatch import fused
from ...lowering.cuda_text import cuda_rule
from ...primitives import Primitives
from ...protocols import Array
from ..device import Device
from ..kernels import blocks_for
from ..strides import c_types, fault_of, fault_of_written, member_stride, members_of
from .losses import loss_scale_of
from .sums import add

_MAX_STATES = 4  # of `optimizer_step` in optimizers.cu


def _update_fits(gpu: Device, call: OptimizerStep) -> str:
    if len(call.state) > _MAX_STATES:
        return f"takes at most {_MAX_STATES} buffers of state, not {len(call.state)}"
    arrays = (call.parameters, *call.state, *call.gradients)
    fault = fault_of(*arrays, core=1) or fault_of_written(*arrays, core=1)
    if fault or len({member_stride(array, 1) for array in arrays}) == 1:
        return fault
    return "takes buffers that are laid out alike"


@fused(Primitives.optimizer_step, supports=_update_fits)
def optimizer_step(gpu: Device, call: OptimizerStep) -> None:
    """Update parameters and state in one launch, each number in one thread."""
    if call.ranges and len(call.gradients) > 1:  # the parts of a gradient are added range by range
        for part in call.parts():
            optimizer_step(gpu, part)
        return
    parameters, state, step = call.parameters, call.state, call.step
    gradient, *others = call.gradients
    for part in others:
        add(gpu, gradient, part, core=1)
    rates, stride = rates_of(gpu, call.learning_rate)
    if isinstance(step, int):
        counter = gpu.reuse("step", (1,), np.int64)
        counter.fill(step)
        step = counter
    ranges, count = _table(gpu, call.ranges), sum(stop - start for start, stop in call.ranges)
    count, members = count or parameters.shape[-1], members_of(parameters.shape, 1)
    compute_copy = gpu.compute_copies.of_part(parameters)
    gpu.launch(
        "optimizer_step",
        c_types(parameters, parameters if compute_copy is None else compute_copy),
        (blocks_for(count), members),
        *(parameters, gradient, *state, *[None] * (_MAX_STATES - len(state)), compute_copy),
        *(member_stride(parameters, 1), count, ranges, len(call.ranges)),
        *(step, rates, stride, cuda_rule(call.rule)),
        loss_scale_of(gpu, parameters),
    )


def _table(gpu: Device, ranges: Sequence[tuple[int, int]]) -> Array | None:
    """Return starts and ends of ranges on the device, or None for no ranges."""
    if not ranges:
        return None
    return gpu.reuse(f"ranges {ranges}", (len(ranges), 2), np.int64, first=np.array(ranges))


def rates_of(gpu: Device, learning_rate: float | Array) -> tuple[Array, int]:
    """Return learning rates in float64 on the device, and the stride between members."""
    if isinstance(learning_rate, int | float):
        rates = gpu.reuse("rate", (1,), np.float64)
        rates.fill(learning_rate)
        return rates, 0
    stride = 0 if learning_rate.size == 1 else 1
    if str(learning_rate.dtype) == "float64" and learning_rate.flags.c_contiguous:
        return learning_rate, stride
    rates = gpu.reuse("rates", learning_rate.shape, np.float64)
    rates[...] = learning_rate
    return rates, stride
