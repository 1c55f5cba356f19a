"""The loss of a batch and its gradient, in one pass over predictions and targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dispatch import fused
from ..lowering.cuda_text import cuda_loss
from ..protocols import Array, ElementwiseLoss
from .features import Pixels
from .kernels import blocks_for
from .strides import C_TYPES, fault_of, member_stride, members_of


class Losses(Pixels):
    """The fused body of `loss_and_gradient`."""

    def _loss_fits(
        self,
        loss: ElementwiseLoss,
        prediction: Array,
        target: Array,
        *,
        weights: Array | None = None,
        **_: Any,
    ) -> str:
        return fault_of(prediction, target, weights)

    @fused("loss_and_gradient", supports=_loss_fits)
    def _loss_and_gradient(
        self,
        loss: ElementwiseLoss,
        prediction: Array,
        target: Array,
        *,
        count: int,
        weights: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array]:
        prediction, target = self._packed(prediction), self._packed(target)
        weights = None if weights is None else self._packed(weights)
        dy = self._out_or_new(out, prediction.shape, prediction)
        rows, channels = prediction.shape[-2:]
        members, c_type = members_of(prediction.shape), C_TYPES[str(prediction.dtype)]
        blocks = blocks_for(rows * channels)
        partials = self._reuse("losses", (members, blocks), np.float64)
        # Not a buffer that the next call would write over: who sums up losses may still hold this one.
        value = self._new(prediction.shape[:-2], prediction.dtype)
        self.launch(
            "loss_and_gradient",
            (c_type,),
            (blocks, members),
            *(prediction, member_stride(prediction), target, member_stride(target)),
            *(weights, 0 if weights is None else member_stride(weights), dy, member_stride(dy)),
            *(partials, blocks, rows, channels, self._loss_scale(prediction) / count),
            cuda_loss(loss),
        )
        self._sum_values(partials, 1.0 / count, value)
        return value, dy

    def _loss_scale(self, array: Array) -> float:
        return self.loss_scale if str(array.dtype) == "float32" else 1.0
