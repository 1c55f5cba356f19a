"""Layers forward and backward: products whose epilogues do the rest, or products and kernels.

Where cublasLt refuses an epilogue, a plain product and a kernel do the same; where there is no cublasLt at
all, CuPy's own product and a kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dispatch import fused
from ..lowering.cuda_text import CudaFormula, cuda_activation
from ..protocols import Activation, Array
from .cublaslt import Tier, backward_input, backward_weights, forward, mask_bytes
from .kernels import blocks_for, groups_of_rows
from .products import Products, at
from .strides import (
    C_TYPES,
    ensemble_of,
    fault_of,
    fault_of_written,
    is_packed,
    member_stride,
    members_of,
)


class Layers(Products):
    """The fused bodies of `linear`, `activation_backward` and `linear_backward`."""

    def _linear_fits(self, x: Array, W: Array, b: Array, activation: Activation, **_: Any) -> str:
        return self._unless_16_bits(fault_of(x, W, b, stored=self._stored), x)

    @fused("linear", supports=_linear_fits)
    def _linear(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: Activation,
        *,
        out: Array | None = None,
        out_saved: Array | None = None,
    ) -> tuple[Array, Array]:
        x, W, b = self._packed(x), self._packed(W), self._packed(b)
        if self._is_stored(x) == self._is_stored(out):
            return self._layer(x, W, b, activation, out, out_saved)
        # An input that is not stored (coordinates), or an output that is not (the network's own): in float32.
        narrow = self._is_stored(out)
        shape = (*ensemble_of(x, W, b), x.shape[-2], W.shape[-1])
        rooms = [self._reuse(purpose, shape, W.dtype) for purpose in ("y", "z")] if narrow else [out, out_saved]
        y, saved = self._layer(self._widened("x", x), W, b, activation, *rooms)
        if not narrow:
            return y, saved
        stored = self._cast(y, self._out_or_new(out, shape, out))
        if saved is y:
            return stored, stored
        return stored, self._cast(saved, self._out_or_new(out_saved, shape, out))

    def _layer(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: Activation,
        out: Array | None,
        out_saved: Array | None,
    ) -> tuple[Array, Array]:
        """`linear` of packed operands, with x and the results in one dtype."""
        shape = (*ensemble_of(x, W, b), x.shape[-2], W.shape[-1])
        z = y = self._out_or_new(out_saved if activation.saves_input else out, shape, x)
        if activation.saves_input:
            y = self._out_or_new(out, shape, x)
        self._masks.forget(y, z)
        rows, width = shape[-2:]
        formula = cuda_activation(activation)
        finish = functools.partial(
            self.launch,
            "bias_activation",
            (C_TYPES[str(z.dtype)],),
            (blocks_for(rows, groups_of_rows(width)), members_of(shape)),
            *(z, member_stride(z), b, member_stride(b), y, member_stride(y), rows, width),
            formula,
        )
        if not self._forward(x, W, b, z, formula, finish, offered=z is out):
            finish()
        return y, z if activation.saves_input else y

    def _forward(
        self,
        x: Array,
        W: Array,
        b: Array,
        z: Array,
        formula: CudaFormula,
        finish: Callable[[], None],
        *,
        offered: bool,
    ) -> bool:
        """`z = x W`, and whether bias and activation were done with it; `finish` does them otherwise."""
        rows, (n_in, n_out), types = x.shape[-2], W.shape[-2:], self._types(x)
        if self._is_stored(x):
            W, b = self._shadow(W), self._shadow(b)
        strides: dict[str, Any] = {
            "members": members_of(z.shape),
            "x_stride": member_stride(x),
            "W_stride": member_stride(W),
            "b_stride": member_stride(b),
            "y_stride": member_stride(z),
        }
        pointers = at(x, W, z)._replace(vector=b.data.ptr)
        relu = formula.is_relu
        if relu and (mask := self._room_for_mask(z) if offered else None) is not None:
            product = forward(rows, n_in, n_out, types, **strides)
            masked = pointers._replace(mask=mask.data.ptr)
            if self._run(product, masked, finish=finish, only=Tier.EPILOGUE) is Tier.EPILOGUE:
                self._masks.note(z)
                return True
        ends = relu or formula.is_identity
        product = forward(rows, n_in, n_out, types, bias=ends, relu=relu, mask=False, **strides)
        tier = self._run(product, pointers if ends else at(x, W, z), finish=finish if ends else None)
        self._or_library(tier, x, W, z)
        return ends and tier is Tier.EPILOGUE

    def _room_for_mask(self, y: Array) -> Array | None:
        """Memory for the mask of y, or None where the product that would read it is refused."""
        if self.autotuner.planner is None or (*y.shape, str(y.dtype)) in self._no_masks:
            return None
        size = mask_bytes(*y.shape[-2:]) * members_of(y.shape)
        mask = self._masks.room(y, size)
        if mask is None:
            self._refuse_new_memory("mask")
            mask = self._new((size,), np.uint8)
            self._masks.keep_room(y, mask)
        return mask

    def _derivative_fits(self, activation: Activation, dy: Array, saved: Array) -> str:
        fault = fault_of(dy, saved, stored=self._stored)
        if not fault and dy.dtype != saved.dtype:
            fault = f"takes arrays of one dtype, not of {dy.dtype} and {saved.dtype}"
        return self._unless_16_bits(fault, dy, saved)

    @fused("activation_backward", supports=_derivative_fits)
    def _activation_backward(self, activation: Activation, dy: Array, saved: Array) -> Array:
        formula = cuda_activation(activation)
        if formula.is_identity:
            return dy
        dz = dy if is_packed(dy) else self.xp.ascontiguousarray(dy)
        saved = self._packed(saved)
        self._masks.forget(dz)
        rows, width = dz.shape[-2:]
        self.launch(
            "activation_backward",
            (C_TYPES[str(dz.dtype)],),
            (blocks_for(rows * width), members_of(dz.shape)),
            *(dz, member_stride(dz), saved, member_stride(saved), dz, member_stride(dz), rows * width),
            formula,
        )
        return dz

    def _backward_fits(
        self,
        dz: Array,
        x: Array,
        W: Array,
        *,
        dW: Array,
        db: Array,
        previous: tuple[Activation, Array] | None = None,
        **_: Any,
    ) -> str:
        saved = None if previous is None else previous[1]
        fault = fault_of(dz, x, W, dW, db, saved, stored=self._stored) or fault_of_written(dW, db)
        return self._unless_16_bits(fault, dz, x, saved)

    @fused("linear_backward", supports=_backward_fits)
    def _linear_backward(
        self,
        dz: Array,
        x: Array,
        W: Array,
        *,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        previous: tuple[Activation, Array] | None = None,
        out: Array | None = None,
    ) -> Array | None:
        dz, x = self._packed(dz), self._packed(x)
        if self._is_stored(dz) != self._is_stored(x):  # see `_linear`: the layer is computed in float32
            dz, x = self._widened("dz", dz), self._widened("x", x)
        of_weights = functools.partial(self._weights_backward, dz, x, dW, db, accumulate)
        if previous is None or self.stream_pair is None:
            of_weights()
            return None if previous is None else self._dz_below(dz, W, previous, out)
        # Both products read dz, and neither what the other writes; what is written next may lie where x was.
        with self.stream_pair.in_parallel(of_weights):
            return self._dz_below(dz, W, previous, out)

    def _dz_below(self, dz: Array, W: Array, previous: tuple[Activation, Array], out: Array | None) -> Array:
        """(dz W^T) f'(z) for the layer below."""
        activation, saved = previous
        W, saved = self._packed(W), saved if is_packed(saved) else self.xp.ascontiguousarray(saved)
        shape = (*ensemble_of(dz, W), dz.shape[-2], W.shape[-2])
        if self._is_stored(dz) == self._is_stored(saved):
            dx = self._out_or_new(out, shape, dz)
            finish = functools.partial(self._activation_backward, activation, dx, saved)
            if self._input_backward(dz, W, dx, saved if cuda_activation(activation).is_relu else None, finish):
                return dx
        else:
            wide = self._reuse("dx", shape, W.dtype)
            self._input_backward(dz, W, wide)
            dx = self._cast(wide, self._out_or_new(out, shape, saved))
        return self._activation_backward(activation, dx, saved)

    def _weights_backward(self, dz: Array, x: Array, dW: Array, db: Array, accumulate: bool) -> None:
        """DW = x^T dz and db = the sum over rows of dz; both added to where they accumulate."""
        members = members_of(dW.shape)
        # The library overwrites db, so that what is to be added goes to a place of its own first.
        new_db = self._reuse("db", db.shape, db.dtype) if accumulate else db
        product = backward_weights(
            x.shape[-2],
            dW.shape[-2],
            dW.shape[-1],
            self._types(x),
            accumulate=accumulate,
            members=members,
            x_stride=member_stride(x),
            dz_stride=member_stride(dz),
            dW_stride=member_stride(dW),
            db_stride=member_stride(new_db),
        )
        tier = self._run(
            product,
            at(x, dz, dW)._replace(vector=new_db.data.ptr),
            finish=functools.partial(self._sum_over_rows, dz, db, accumulate),
        )
        self._or_library(tier, x, dz, dW, transpose_a=True, accumulate=accumulate)
        if tier is not Tier.EPILOGUE:
            self._sum_over_rows(dz, db, accumulate)
        elif accumulate:
            self._add(db, new_db, core=2)

    def _input_backward(
        self,
        dz: Array,
        W: Array,
        dx: Array,
        saved: Array | None = None,
        finish: Callable[[], Any] | None = None,
    ) -> bool:
        """`dx = dz W^T`, and whether the ReLU below, whose output `saved` is, was masked with it."""
        mask = None
        if saved is not None and (*saved.shape, str(saved.dtype)) not in self._no_masks:
            mask = self._masks.find(saved, mask_bytes(*saved.shape[-2:]) * members_of(saved.shape))
        self._masks.forget(dx)
        if self._is_stored(dz):
            W = self._shadow(W)
        product = backward_input(
            dz.shape[-2],
            W.shape[-2],
            W.shape[-1],
            self._types(dz),
            masked=mask is not None,
            members=members_of(dx.shape),
            dz_stride=member_stride(dz),
            W_stride=member_stride(W),
            out_stride=member_stride(dx),
        )
        pointers = at(dz, W, dx)
        pointers = pointers if mask is None else pointers._replace(mask=mask.data.ptr)
        tier = self._run(product, pointers, finish=None if mask is None else finish)
        self._or_library(tier, dz, W, dx, transpose_b=True)
        if mask is None:
            return False
        if tier is not Tier.EPILOGUE and saved is not None:
            self._no_masks.add(
                (*saved.shape, str(saved.dtype))
            )  # a mask that nobody reads is not written again
        return tier is Tier.EPILOGUE
