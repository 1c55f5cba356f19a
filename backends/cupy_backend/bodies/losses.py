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
from ..kernels import CHUNK, KERNELS, blocks_for
from ..strides import c_types, fault_of, fault_of_written, is_packed, member_stride, members_of, strided
from .sums import MAX_PARTS, Columns, Values, sum_partials, sum_values

_WARP = 32  # threads, and the most of a team
_ROWS_OF_A_TEAM = 2  # at least, for a block of `head_step`
_HEADS = KERNELS["head_step"].instances
_MAX_CHANNELS = max(int(channels) for _, channels, _ in _HEADS)


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
    sum_values(gpu, Values(partials, 1.0 / call.divisor, value))
    return value, dy


def _output_fits(gpu: Device, call: OutputStep) -> str:
    h, W, b, dW, db = call.h, call.W, call.b, call.dW, call.db
    if call.previous is None:
        return "takes the output of a layer"
    if W.shape[-1] > _MAX_CHANNELS:
        return f"takes at most {_MAX_CHANNELS} channels"
    saved = call.previous[1]
    fault = fault_of(h, W, b, dW, db, call.target, call.weights, saved, stored=gpu.stored)
    fault = fault or fault_of_written(dW, db)
    if not fault and saved.dtype != h.dtype:
        fault = f"takes arrays of one dtype, not of {h.dtype} and {saved.dtype}"
    if not fault and not all(map(is_packed, (h, W, b, saved))):
        fault = "takes packed arrays"
    if not fault and _team(h, W)[-1] not in _HEADS:
        fault = f"does not take {h.shape[-1]} hidden units in {h.dtype}"
    return fault or _fault_of_places(dW, db)


def _team(h: Array, W: Array) -> tuple[int, int, tuple[str, ...]]:
    """Return the threads that take a row of h together, the most of a block, and the kernel's instance."""
    chunks = max(1, -(-h.shape[-1] // (_WARP * CHUNK)))
    needed = -(-h.shape[-1] // (chunks * CHUNK))
    threads = max(_MAX_CHANNELS, 1 << (needed - 1).bit_length())
    # As `most_threads` in head.cu.
    most = 256 if chunks == 1 and str(W.dtype) == "float32" else 128
    return threads, most, (*c_types(h), str(W.shape[-1]), str(chunks))


@fused(Primitives.output_step, supports=_output_fits)
def output_step(gpu: Device, call: OutputStep) -> tuple[Array, Array | None]:
    """Take the output layer forward, the loss and the layer backward in one kernel."""
    assert call.previous is not None
    h, W, b, dW, buffers, (previous, saved) = call.h, call.W, call.b, call.dW, call.buffers, call.previous
    (rows, hidden), channels, members = h.shape[-2:], W.shape[-1], members_of(h.shape)
    target = gpu.packed(call.target)
    weights = None if call.weights is None else gpu.packed(call.weights)
    dh = gpu.out_or_new(buffers.dz_previous, h.shape, h)
    gpu.column_sums.forget(dh)
    team, most, instance = _team(h, W)
    threads = min(most, gpu.output_threads)
    blocks = blocks_for(rows, _ROWS_OF_A_TEAM * threads // team, MAX_PARTS)
    bias_offset = _elements_between(dW, call.db)
    width = bias_offset + channels
    partials = gpu.reuse("output gradients", (members, blocks, width), W.dtype)
    sums = gpu.column_sums.acquire((members, blocks, hidden), W.dtype)
    values = gpu.reuse("losses", (members, blocks), np.float64)
    gpu.launch(
        "head_step",
        instance,
        (blocks, members),
        *strided(h, W, b, target, weights, None, None if saved is h else saved, dh),
        *(partials, blocks * width, sums, blocks * hidden, bias_offset, values, blocks),
        *(rows, hidden, team),
        *(cuda_activation(call.activation), cuda_loss(call.loss), cuda_activation(previous)),
        loss_scale_of(gpu, W) / call.divisor,
        block=threads,
    )
    gpu.column_sums.note(dh, sums)
    value = buffers.value
    if value is None or value.shape != h.shape[:-2] or value.dtype != W.dtype:
        value = gpu.new(h.shape[:-2], W.dtype)
    columns = Columns(partials, dW, member_stride(dW), call.accumulate)
    sum_partials(gpu, columns, Values(values, 1.0 / call.divisor, value))
    return value, dh


def _elements_between(dW: Array, db: Array) -> int:
    return int(db.data.ptr - dW.data.ptr) // int(dW.itemsize)


def _fault_of_places(dW: Array, db: Array) -> str:
    """Return why the kernel cannot write dW and db as neighbours in one flat buffer, or an empty string."""
    gap = _elements_between(dW, db) - dW.shape[-2] * dW.shape[-1]
    if 0 <= gap < 64 and member_stride(dW) == member_stride(db):
        return ""
    return "takes dW and db of one flat buffer"
