"""Matrix products: by cublasLt on the tier that it has, or by CuPy where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dispatch import fused
from ..protocols import Array
from .cublaslt import PRECISIONS, WORKSPACE_BYTES, Pointers, Product, Strides, Tier, Types, Workspace, matmul
from .sixteen_bits import SixteenBits
from .storage import PRODUCT_TYPES
from .strides import ensemble_of, fault_of, is_packed, member_stride, members_of


class Products(SixteenBits):
    """The fused body of `matmul`, and how every product is run."""

    def _types(self, operand: Array) -> Types:
        name = str(operand.dtype)
        return PRECISIONS["tf32" if name == "float32" and self.precision == "tf32" else PRODUCT_TYPES[name]]

    def _run(
        self,
        product: Product,
        pointers: Pointers,
        *,
        finish: Callable[[], None] | None = None,
        only: Tier | None = None,
    ) -> Tier:
        """Run a product on its tier, or on `only` if it has that one; return the tier that was found.

        `finish` launches what a plain product leaves to kernels, for a trial of that tier; it is not called for
        the run itself.
        """
        stream = self.xp.cuda.get_current_stream().ptr
        step = self.autotuner.resolve(
            product,
            pointers,
            self._get_workspace(),
            stream,
            finish=finish,
            is_recording=self._is_recording,
        )
        if step.tier is not Tier.LIBRARY and only in (None, step.tier):
            step.run(pointers, self._get_workspace(), stream)
        return step.tier

    def _get_workspace(self) -> Workspace:
        if self._lane not in self._workspaces:
            if self.autotuner.planner is None:  # nobody will use it
                return Workspace(0, 0)
            memory = self._reuse("workspace", (WORKSPACE_BYTES,), np.uint8)
            self._workspaces[self._lane] = Workspace(memory.data.ptr)
        return self._workspaces[self._lane]

    def _multiply(self, a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool) -> Array:
        """out = op(a) op(b), of packed operands; `out` is packed too."""
        rows, columns = out.shape[-2:]
        product = matmul(
            rows,
            columns,
            a.shape[-2] if transpose_a else a.shape[-1],
            self._types(out),
            transpose_left=transpose_a,
            transpose_right=transpose_b,
            members=members_of(out.shape),
            strides=Strides(member_stride(a), member_stride(b), member_stride(out)),
        )
        self._or_library(self._run(product, at(a, b, out)), a, b, out, transpose_a, transpose_b)
        return out

    def _or_library(
        self,
        tier: Tier,
        a: Array,
        b: Array,
        out: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        accumulate: bool = False,
    ) -> None:
        """CuPy's own product, where the tier says that none of cublasLt's has run."""
        if tier is not Tier.LIBRARY:
            return
        xp = self.xp
        a, b = self._widened("left", a), self._widened("right", b)
        a = xp.swapaxes(a, -1, -2) if transpose_a else a
        b = xp.swapaxes(b, -1, -2) if transpose_b else b
        product = xp.matmul(a, b)
        if self._is_stored(out):
            self._cast(product, out)
        else:
            out[...] = out + product if accumulate else product

    def _matmul_fits(
        self, a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False, out: Any = None
    ) -> str:
        return fault_of(a, b)

    @fused("matmul", supports=_matmul_fits)
    def _matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        out: Array | None = None,
    ) -> Array:
        a, transpose_a = self._as_it_lies(a, transpose_a)
        b, transpose_b = self._as_it_lies(b, transpose_b)
        rows = a.shape[-1] if transpose_a else a.shape[-2]
        columns = b.shape[-2] if transpose_b else b.shape[-1]
        out = self._out_or_new(out, (*ensemble_of(a, b), rows, columns), a)
        self._masks.forget(out)
        return self._multiply(a, b, out, transpose_a, transpose_b)

    def _as_it_lies(self, array: Array, transposed: bool) -> tuple[Array, bool]:
        """A packed operand and its flag: a transposed view is told by the flag, and anything else copied."""
        if not is_packed(array):
            turned = self.xp.swapaxes(array, -1, -2)
            if is_packed(turned):
                return turned, not transposed
        return self._packed(array), transposed


def at(left: Array, right: Array, out: Array) -> Pointers:
    """The addresses of packed operands and result."""
    return Pointers(left.data.ptr, right.data.ptr, out.data.ptr)
