"""Matrix products in compiled code, by NumPy's BLAS."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112
# Names of the products in OpenBLAS and other CBLAS libraries, with their integer types.
_NAMES = (
    ("scipy_cblas_{}gemm64_", np.int64),
    ("cblas_{}gemm64_", np.int64),
    ("scipy_cblas_{}gemm", np.int32),
    ("cblas_{}gemm", np.int32),
)


_AVX512_KERNELS = ("SkylakeX", "Cooperlake", "SapphireRapids")

Gemm = tuple[int, np.integer[Any]]
"""The address of a product, and a number of its integers' type."""


def find_gemm(libraries: list[ctypes.CDLL]) -> dict[Any, Gemm] | None:
    """Return, by dtype, the products of the first library that has them under a known name, or None."""
    for library in libraries:
        for name, integer in _NAMES:
            found = [getattr(library, name.format(letter), None) for letter in "sd"]
            if None not in found:
                addresses = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in found)  # type: ignore[arg-type]
                return {np.dtype(c): (at, integer(0)) for c, at in zip("fd", addresses, strict=True)}
    return None


def has_small_products(libraries: list[Any]) -> bool:
    """Whether these libraries of threadpoolctl are one OpenBLAS with its kernels for AVX-512."""
    kernels = [getattr(library, "architecture", None) for library in libraries]
    return bool(kernels) and all(kernel in _AVX512_KERNELS for kernel in kernels)


def _call_gemm(typing_context, gemm, turn_a, turn_b, m, n, k, a, lda, b, ldb, beta, c, ldc):  # type: ignore[no-untyped-def]
    """Compute `C <- op(A) op(B) + beta C`, row-major at addresses a, b and c, by the function of `gemm`."""
    word, width = types.intp, gemm[1].bitwidth

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        gemm, turn_a, turn_b, m, n, k, a, lda, b, ldb, beta, c, ldc = arguments
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
        address = builder.inttoptr(builder.extract_value(gemm, 0), function.as_pointer())
        builder.call(address, values)
        return context.get_dummy_value()

    return types.void(gemm, *[word] * 9, beta, word, word), generate


call_gemm: Any = intrinsic(_call_gemm)
