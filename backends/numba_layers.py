"""A layer's products and loops in one compiled call, without the interpreter between them.

With two worker threads every return into Python may be a wait for the interpreter's lock, and a step of four
layers has forty of them. Here compiled code calls the BLAS that NumPy brought, so that a layer is one call
forward and one backward; dW is accumulated by the product itself, and a block is masked while it is in cache.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .base import Array
from .numba_loops import add_bias, add_bias_and_clip, column_sums, compiled, mask, vectors

__all__ = ["Gemm", "backward", "find_gemm", "forward", "vectors"]

_ROW_MAJOR, _AS_IT_IS, _TRANSPOSED = 101, 111, 112
# Names under which an OpenBLAS or another CBLAS exports its products, with the width of its integers.
_NAMES = (
    ("scipy_cblas_{}gemm64_", np.int64),
    ("cblas_{}gemm64_", np.int64),
    ("scipy_cblas_{}gemm", np.int32),
    ("cblas_{}gemm", np.int32),
)


class Gemm:
    """cblas_sgemm and cblas_dgemm of a library that is loaded: addresses, and the type of their integers.

    `argument(dtype)` is what compiled code is handed: (address, a number of the integers' type).
    """

    def __init__(self, addresses: dict[str, int], integer: type[np.integer[Any]]) -> None:
        self._arguments = {np.dtype(char): (address, integer(0)) for char, address in addresses.items()}

    def argument(self, dtype: Any) -> tuple[int, np.integer[Any]] | None:
        """For arrays of a dtype; None where the BLAS has no product for it."""
        return self._arguments.get(dtype)


def find_gemm(libraries: list[ctypes.CDLL]) -> Gemm | None:
    """The first library's products by one of the known names, or None where no name is known."""
    for library in libraries:
        for name, integer in _NAMES:
            found = [getattr(library, name.format(letter), None) for letter in "sd"]
            if None not in found:
                addresses = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in found)  # type: ignore[arg-type]
                return Gemm(dict(zip("fd", addresses, strict=True)), integer)
    return None


def _call_gemm(typing_context, gemm, turn_a, turn_b, m, n, k, a, lda, b, ldb, beta, c, ldc):  # type: ignore[no-untyped-def]
    """C <- op(A) op(B) + beta C by the function at an address; a, b and c are addresses, row-major."""
    word, width = types.intp, gemm[1].bitwidth

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        where, turn_a, turn_b, m, n, k, a, lda, b, ldb, beta, c, ldc = arguments
        flag, integer, real = ir.IntType(32), ir.IntType(width), beta.type

        def narrow(value: Any, kind: Any) -> Any:
            if isinstance(kind, ir.PointerType):
                return builder.inttoptr(value, kind)
            return builder.trunc(value, kind) if kind.width < 64 else value

        order, one, pointer = ir.Constant(flag, _ROW_MAJOR), ir.Constant(real, 1.0), real.as_pointer()
        kinds = [flag, flag, integer, integer, integer, pointer, integer, pointer, integer, pointer, integer]
        words = [turn_a, turn_b, m, n, k, a, lda, b, ldb, c, ldc]
        ta, tb, m, n, k, a, lda, b, ldb, c, ldc = (narrow(v, t) for v, t in zip(words, kinds, strict=True))
        values = [order, ta, tb, m, n, k, one, a, lda, b, ldb, beta, c, ldc]
        function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        address = builder.inttoptr(builder.extract_value(where, 0), function.as_pointer())
        builder.call(address, values)
        return context.get_dummy_value()

    return types.void(gemm, *[word] * 9, beta, word, word), generate


_call: Any = intrinsic(_call_gemm)


@compiled
def forward(gemm: Any, x: Array, W: Array, b: Array, y: Array, clip: bool) -> None:
    """Y = X W + b, clipped at 0 where asked: x (1 or E, N, n_in), W (E, n_in, n_out), b (E, n_out)."""
    members, rows, units = y.shape
    inner = x.shape[2]
    zero = y.dtype.type(0)
    for e in range(members):
        at_x = x.ctypes.data + (e % x.shape[0]) * x.strides[0]
        at_W, at_y = W.ctypes.data + e * W.strides[0], y.ctypes.data + e * y.strides[0]
        _call(gemm, _AS_IT_IS, _AS_IT_IS, rows, units, inner, at_x, inner, at_W, units, zero, at_y, units)
        if clip:
            add_bias_and_clip(y[e : e + 1], b[e : e + 1])
        else:
            add_bias(y[e : e + 1], b[e : e + 1])


@compiled
def backward(
    gemm: Any, dz: Array, x: Array, W: Array, dW: Array, db: Array, keep: bool, dx: Any, y: Any
) -> None:
    """DW = X^T dZ (added to it with `keep`), db = sum of dZ; dX = dZ W^T where asked, masked by y if given."""
    members, rows, units = dz.shape
    inner = x.shape[2]
    one, zero = dz.dtype.type(1), dz.dtype.type(0)
    for e in range(members):
        at_x = x.ctypes.data + (e % x.shape[0]) * x.strides[0]
        at_dz, at_dW = dz.ctypes.data + e * dz.strides[0], dW.ctypes.data + e * dW.strides[0]
        column_sums(dz[e : e + 1], db[e : e + 1])
        beta = one if keep else zero
        _call(gemm, _TRANSPOSED, _AS_IT_IS, inner, units, rows, at_x, inner, at_dz, units, beta, at_dW, units)
        if dx is not None:
            at_W, at_dx = W.ctypes.data + e * W.strides[0], dx.ctypes.data + e * dx.strides[0]
            _call(
                gemm, _AS_IT_IS, _TRANSPOSED, rows, inner, units, at_dz, units, at_W, units, zero, at_dx, inner
            )
            if y is not None:
                mask(dx[e : e + 1], y[e : e + 1])
