"""Optimizers: one pass over the flat buffers, which writes the copy in 16 bits too where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base import Backend
from ..dispatch import fused
from ..lowering.cuda_text import cuda_rule
from ..protocols import Array, Orthogonalize, UpdateRule
from .kernels import blocks_for
from .losses import Losses
from .strides import C_TYPES, fault_of, fault_of_written, member_stride, members_of

_MOST_STATES = 4  # of `optimizer_step` in optimizers.cu


class Optimizers(Losses):
    """The fused bodies of `optimizer_step` and `muon_step`."""

    def _update_fits(self, gradients: Sequence[Array], *buffers: Array) -> str:
        arrays = [*buffers, *gradients]
        fault = fault_of(*arrays, core=1) or fault_of_written(*arrays, core=1)
        if fault or len({member_stride(array, 1) for array in arrays}) == 1:
            return fault
        return "takes buffers that are laid out alike"

    def _step_fits(
        self,
        rule: UpdateRule,
        parameters: Array,
        gradients: Sequence[Array],
        state: Sequence[Array],
        **_: Any,
    ) -> str:
        if len(state) > _MOST_STATES:
            return f"takes at most {_MOST_STATES} buffers of state, not {len(state)}"
        return self._update_fits(gradients, parameters, *state)

    @fused("optimizer_step", supports=_step_fits)
    def _optimizer_step(
        self,
        rule: UpdateRule,
        parameters: Array,
        gradients: Sequence[Array],
        state: Sequence[Array],
        *,
        step: int | Array,
        learning_rate: float | Array,
    ) -> None:
        rates, stride = self._rates(learning_rate)
        if isinstance(step, int):
            counter = self._reuse("step", (1,), np.int64)
            counter.fill(step)
            step = counter
        count, members = parameters.shape[-1], members_of(parameters.shape, 1)
        compute_copy, types = self._shadow_and_types(parameters)
        self.launch(
            "optimizer_step",
            types,
            (blocks_for(count), members),
            *(parameters, self._sum(gradients), *state, *[None] * (_MOST_STATES - len(state)), compute_copy),
            *(member_stride(parameters, 1), count, step, rates, stride, cuda_rule(rule)),
            self._loss_scale(parameters),
        )

    @fused("muon_step")
    def _muon_step(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        momenta: Array,
        *,
        orthogonalize: Orthogonalize,
        learning_rate: float | Array,
        momentum: float,
        scale: float,
        out: Array,
    ) -> None:
        # A loss scale changes the length of gradient and momentum, and no step is as long as those.
        Backend.muon_step(  # of primitives, whose products are our own
            self,
            parameters,
            gradients,
            momenta,
            orthogonalize=orthogonalize,
            learning_rate=learning_rate,
            momentum=momentum,
            scale=scale,
            out=out,
        )
        compute_copy = self._compute_copies.of_part(parameters)
        if compute_copy is not None:
            self._cast(parameters, compute_copy, core=1)

    def _shadow_and_types(self, parameters: Array) -> tuple[Array | None, tuple[str, str]]:
        """The copy in 16 bits that the optimizer's pass keeps up to date, if there is one, and both types."""
        compute_copy, own = self._compute_copies.of_part(parameters), C_TYPES[str(parameters.dtype)]
        return compute_copy, (own, own if compute_copy is None else C_TYPES[str(compute_copy.dtype)])

    def _rates(self, learning_rate: float | Array) -> tuple[Array, int]:
        """Learning rates in float64 on the device, and the stride from one member's to the next."""
        if isinstance(learning_rate, int | float):
            rates = self._reuse("rate", (1,), np.float64)
            rates.fill(learning_rate)
            return rates, 0
        stride = 0 if learning_rate.size == 1 else 1
        if str(learning_rate.dtype) == "float64" and learning_rate.flags.c_contiguous:
            return learning_rate, stride
        rates = self._reuse("rates", learning_rate.shape, np.float64)
        rates[...] = learning_rate
        return rates, stride

    def _sum(self, gradients: Sequence[Array]) -> Array:
        """The sum of the workers' gradients, in the first of them."""
        for part in gradients[1:]:
            self._add(gradients[0], part, core=1)
        return gradients[0]
