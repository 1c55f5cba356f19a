"""The output layer of a training step on the GPU: forward, loss and backward in one kernel.

Three or four output channels are too few for a library's products, which would read the hidden activations
from memory three times. The kernel reads them once, and leaves partial sums for the gradients of W and b.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dispatch import fused
from ..lowering.cuda_text import cuda_activation, cuda_loss
from ..protocols import Activation, Array, ElementwiseLoss, OutputBuffers
from .kernels import KERNELS, blocks_for, groups_of_rows
from .optimizers import Optimizers
from .strides import C_TYPES, fault_of, fault_of_written, is_packed, member_stride, members_of

_ROWS_AT_ONCE = 32  # of a block of `head_step`
# Each block leaves partial sums of its own, which the second stage adds one after the other.
_MOST_BLOCKS = 256
_CHANNELS = {int(channels) for *_, channels in KERNELS["head_step"].instances}


class OutputLayer(Optimizers):
    """The fused body of `output_step`."""

    output_threads = 256
    """Threads of a block of the kernel."""

    def _output_fits(
        self,
        loss: ElementwiseLoss,
        h: Array,
        W: Array,
        b: Array,
        activation: Activation,
        target: Array,
        *,
        weights: Array | None = None,
        dW: Array,
        db: Array,
        previous: tuple[Activation, Array] | None = None,
        **_: Any,
    ) -> str:
        if previous is None:
            return "takes the output of a layer"
        if W.shape[-1] not in _CHANNELS:
            return f"takes at most {max(_CHANNELS)} channels"
        saved = previous[1]
        fault = fault_of(h, W, b, dW, db, target, weights, saved, stored=self._stored)
        fault = fault or fault_of_written(dW, db)
        if not fault and saved.dtype != h.dtype:
            fault = f"takes arrays of one dtype, not of {h.dtype} and {saved.dtype}"
        if not fault and not all(map(is_packed, (h, W, b, saved))):
            fault = "takes packed arrays"
        return fault or _fault_of_places(dW, db)

    @fused("output_step", supports=_output_fits)
    def _output_step(
        self,
        loss: ElementwiseLoss,
        h: Array,
        W: Array,
        b: Array,
        activation: Activation,
        target: Array,
        *,
        count: int,
        weights: Array | None = None,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        previous: tuple[Activation, Array] | None = None,
        buffers: OutputBuffers = OutputBuffers(),  # noqa: B008 - a tuple of None
    ) -> tuple[Array, Array | None]:
        assert previous is not None
        below, saved = previous
        (rows, hidden), channels, members = h.shape[-2:], W.shape[-1], members_of(h.shape)
        target = self._packed(target)
        weights = None if weights is None else self._packed(weights)
        dh = self._out_or_new(buffers.dz_previous, h.shape, h)
        self._masks.forget(dh)
        blocks, bias_offset = blocks_for(rows, _ROWS_AT_ONCE, _MOST_BLOCKS), _elements_between(dW, db)
        parts = blocks * groups_of_rows(hidden, self.output_threads)
        width = bias_offset + channels
        partials = self._reuse("output gradients", (members, parts, width), W.dtype)
        values = self._reuse("losses", (members, blocks), np.float64)
        self.launch(
            "head_step",
            (C_TYPES[str(h.dtype)], str(channels)),
            (blocks, members),
            *(h, member_stride(h), W, member_stride(W), b, member_stride(b), target, member_stride(target)),
            *(weights, 0 if weights is None else member_stride(weights), None, 0),
            *((None, 0) if saved is h else (saved, member_stride(saved))),
            *(dh, member_stride(dh), partials, parts * width, bias_offset, values, blocks, rows, hidden),
            *(cuda_activation(activation), cuda_loss(loss), cuda_activation(below)),
            self._loss_scale(W) / count,
            block=self.output_threads,
        )
        self._sum_partials(partials, dW, member_stride(dW), accumulate)
        value = self._value_buffer(buffers.value, h.shape[:-2], W)
        self._sum_values(values, 1.0 / count, value)
        return value, dh

    def _value_buffer(self, offered: Array | None, shape: tuple[int, ...], like: Array) -> Array:
        if offered is not None and offered.shape == shape and offered.dtype == like.dtype:
            return offered
        return self._new(shape, like.dtype)


def _elements_between(dW: Array, db: Array) -> int:
    return int(db.data.ptr - dW.data.ptr) // int(dW.itemsize)


def _fault_of_places(dW: Array, db: Array) -> str:
    """The kernel leaves dW and db side by side, as they lie in a flat buffer, with what is between zero."""
    gap = _elements_between(dW, db) - dW.shape[-2] * dW.shape[-1]
    if 0 <= gap < 64 and member_stride(dW) == member_stride(db):
        return ""
    return "takes dW and db of one flat buffer"
