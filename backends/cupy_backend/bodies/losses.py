"""The loss of a batch: one pass for value and gradient, or one kernel for the whole output layer.

A library's products would read the hidden activations from memory three times for a few output channels. The
kernel reads them once, and writes partial sums for the gradients of W and b.
"""

from __future__ import annotations

import numpy as np

from ...calls import LossAndGradient, OutputStep
from ...dispatch import fused
from ...lowering.cuda_text import cuda_activation, cuda_loss
from ...primitives import Primitives
from ...protocols import Array
from ..device import Device
from ..kernels import KERNELS, blocks_for, groups_of_rows
from ..strides import c_types, fault_of, fault_of_written, is_packed, member_stride, members_of, strided
from .sums import sum_partials, sum_values

_ROWS_AT_ONCE = 32  # for a block of `head_step`
# Each block writes partial sums, which the second stage adds one after the other.
_MAX_BLOCKS = 256
_CHANNELS = {int(channels) for *_, channels in KERNELS["head_step"].instances}


def loss_scale_of(gpu: Device, array: Array) -> float:
    """Return the factor of gradients in the backward pass, for parameters of this dtype."""
    return gpu.loss_scale if str(array.dtype) == "float32" else 1.0


def _loss_fits(gpu: Device, call: LossAndGradient) -> str:
    return fault_of(call.prediction, call.target, call.weights)


@fused(Primitives.loss_and_gradient, supports=_loss_fits)
def loss_and_gradient(gpu: Device, call: LossAndGradient) -> tuple[Array, Array]:
    """Compute the gradient and partial sums of the loss in one pass, then the total."""
    prediction, target = gpu.packed(call.prediction), gpu.packed(call.target)
    weights = None if call.weights is None else gpu.packed(call.weights)
    dy = gpu.out_or_new(call.out, prediction.shape, prediction)
    rows, channels = prediction.shape[-2:]
    members = members_of(prediction.shape)
    blocks = blocks_for(rows * channels)
    partials = gpu.reuse("losses", (members, blocks), np.float64)
    # Not a reused buffer: a caller that adds up losses may still hold the last one.
    value = gpu.new(prediction.shape[:-2], prediction.dtype)
    gpu.launch(
        "loss_and_gradient",
        c_types(prediction),
        (blocks, members),
        *strided(prediction, target, weights, dy),
        *(partials, blocks, rows, channels, loss_scale_of(gpu, prediction) / call.divisor),
        cuda_loss(call.loss),
    )
    sum_values(gpu, partials, 1.0 / call.divisor, value)
    return value, dy


def _output_fits(gpu: Device, call: OutputStep) -> str:
    h, W, b, dW, db = call.h, call.W, call.b, call.dW, call.db
    if call.previous is None:
        return "takes the output of a layer"
    if W.shape[-1] not in _CHANNELS:
        return f"takes at most {max(_CHANNELS)} channels"
    saved = call.previous[1]
    fault = fault_of(h, W, b, dW, db, call.target, call.weights, saved, stored=gpu.stored)
    fault = fault or fault_of_written(dW, db)
    if not fault and saved.dtype != h.dtype:
        fault = f"takes arrays of one dtype, not of {h.dtype} and {saved.dtype}"
    if not fault and not all(map(is_packed, (h, W, b, saved))):
        fault = "takes packed arrays"
    return fault or _fault_of_places(dW, db)


@fused(Primitives.output_step, supports=_output_fits)
def output_step(gpu: Device, call: OutputStep) -> tuple[Array, Array | None]:
    """Take the output layer forward, the loss and the layer backward in one kernel."""
    assert call.previous is not None
    h, W, b, dW, buffers, (previous, saved) = call.h, call.W, call.b, call.dW, call.buffers, call.previous
    (rows, hidden), channels, members = h.shape[-2:], W.shape[-1], members_of(h.shape)
    target = gpu.packed(call.target)
    weights = None if call.weights is None else gpu.packed(call.weights)
    dh = gpu.out_or_new(buffers.dz_previous, h.shape, h)
    gpu.masks.forget(dh)
    blocks, bias_offset = blocks_for(rows, _ROWS_AT_ONCE, _MAX_BLOCKS), _elements_between(dW, call.db)
    parts = blocks * groups_of_rows(hidden, gpu.output_threads)
    width = bias_offset + channels
    partials = gpu.reuse("output gradients", (members, parts, width), W.dtype)
    values = gpu.reuse("losses", (members, blocks), np.float64)
    gpu.launch(
        "head_step",
        (*c_types(h), str(channels)),
        (blocks, members),
        *strided(h, W, b, target, weights, None, None if saved is h else saved, dh),
        *(partials, parts * width, bias_offset, values, blocks, rows, hidden),
        *(cuda_activation(call.activation), cuda_loss(call.loss), cuda_activation(previous)),
        loss_scale_of(gpu, W) / call.divisor,
        block=gpu.output_threads,
    )
    sum_partials(gpu, partials, dW, member_stride(dW), call.accumulate)
    value = buffers.value
    if value is None or value.shape != h.shape[:-2] or value.dtype != W.dtype:
        value = gpu.new(h.shape[:-2], W.dtype)
    sum_values(gpu, values, 1.0 / call.divisor, value)
    return value, dh


def _elements_between(dW: Array, db: Array) -> int:
    return int(db.data.ptr - dW.data.ptr) // int(dW.itemsize)


def _fault_of_places(dW: Array, db: Array) -> str:
    """Return why the kernel cannot write dW and db as neighbours in one flat buffer, or an empty string."""
    gap = _elements_between(dW, db) - dW.shape[-2] * dW.shape[-1]
    if 0 <= gap < 64 and member_stride(dW) == member_stride(db):
        return ""
    return "takes dW and db of one flat buffer"
