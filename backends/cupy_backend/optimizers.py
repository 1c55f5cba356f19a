"""Optimizers: one pass over the flat buffers, which writes the copy in 16 bits too where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base import Backend
from ..dispatch import fused
from ..protocols import Array, Orthogonalize
from .kernels import blocks_for
from .losses import Losses
from .strides import C_TYPES, fault_of, fault_of_written, member_stride, members_of


class Optimizers(Losses):
    """The fused bodies of `sgd_step`, `adam_step` and `muon_step`."""

    def _update_fits(self, gradients: Sequence[Array], *buffers: Array | None) -> str:
        arrays = [array for array in (*buffers, *gradients) if array is not None]
        fault = fault_of(*arrays, core=1) or fault_of_written(*arrays, core=1)
        if fault or len({member_stride(array, 1) for array in arrays}) == 1:
            return fault
        return "takes buffers that are laid out alike"

    def _sgd_fits(self, parameters: Array, gradients: Sequence[Array], velocity: Array | None, **_: Any) -> str:
        return self._update_fits(gradients, parameters, velocity)

    @fused("sgd_step", supports=_sgd_fits)
    def _sgd_step(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        velocity: Array | None,
        *,
        learning_rate: float | Array,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        rates, stride = self._rates(learning_rate)
        count, members = parameters.shape[-1], members_of(parameters.shape, 1)
        compute_copy, types = self._shadow_and_types(parameters)
        self.launch(
            "sgd_step",
            types,
            (blocks_for(count), members),
            *(parameters, self._sum(gradients), velocity, compute_copy, member_stride(parameters, 1), count),
            *(rates, stride, momentum, int(nesterov), self._loss_scale(parameters)),
        )

    def _adam_fits(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        first_moment: Array,
        second_moment: Array,
        **_: Any,
    ) -> str:
        return self._update_fits(gradients, parameters, first_moment, second_moment)

    @fused("adam_step", supports=_adam_fits)
    def _adam_step(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        first_moment: Array,
        second_moment: Array,
        *,
        step: int | Array,
        learning_rate: float | Array,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> None:
        rates, stride = self._rates(learning_rate)
        if isinstance(step, int):
            counter = self._reuse("step", (1,), np.int64)
            counter.fill(step)
            step = counter
        count, members = parameters.shape[-1], members_of(parameters.shape, 1)
        compute_copy, types = self._shadow_and_types(parameters)
        self.launch(
            "adam_step",
            types,
            (blocks_for(count), members),
            *(parameters, self._sum(gradients), first_moment, second_moment, compute_copy),
            *(member_stride(parameters, 1), count, step, rates, stride, beta1, beta2, epsilon),
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
