"""Compiled functions, and arrays from addresses inside of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ...protocols import Array
from .cache import Cache

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def jit(kernel: Kernel) -> Kernel:
    """Compile for whatever types come; the interpreter's lock is free while it runs."""
    # No fastmath, not even "contract": which of two products a fused multiply-add takes in depends on what was
    # inlined, so that a process which compiles would differ in the last bit from one that finds code in the
    # cache. It bought nothing that could be measured: these loops wait for memory.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    compiled: Any = numba.njit(**options)(kernel)
    with contextlib.suppress(RuntimeError):  # nowhere to write the cache
        compiled._cache = Cache(kernel)
    return cast(Kernel, compiled)


def _pointer_to(typing_context, address, like):  # type: ignore[no-untyped-def]
    """The address as a pointer to numbers of the type of `like`."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.intp, like), generate  # type: ignore[no-untyped-call]


_pointer: Any = intrinsic(_pointer_to)
_carray: Any = numba.carray  # type: ignore[attr-defined]  # its types are known to the compiler alone


@jit
def vector(address: int, size: int, like: Any) -> Array:
    """`size` numbers of the type of `like` at an address."""
    return _carray(_pointer(address, like), size)


def _call(typing_context, address, arguments):  # type: ignore[no-untyped-def]
    """Call the kernel at an address with a tuple of integers."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        where, packed = values
        words = [builder.extract_value(packed, i) for i in range(len(arguments))]
        function = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * len(words))
        builder.call(builder.inttoptr(where, function.as_pointer()), words)
        return context.get_dummy_value()

    words = types.UniTuple(types.intp, len(arguments))  # type: ignore[no-untyped-call]
    return types.void(types.intp, words), generate


call_kernel: Any = intrinsic(_call)


def address_of(array: Array) -> int:
    """Where an array's memory begins."""
    return int(array.__array_interface__["data"][0])


def member_step(array: Array) -> int:
    """Bytes from one member's matrix to the next of (*E, n, m); 0 where all share it."""
    return 0 if array.ndim == 2 or array.shape[0] == 1 else int(array.strides[0])


def is_plain(array: Array) -> bool:
    """Whether an array is (n, m) or (E, n, m) with the last two axes contiguous, as in a flat buffer."""
    if array.ndim not in (2, 3):
        return False
    return bool(array.flags.c_contiguous or (array.ndim == 3 and array[0].flags.c_contiguous))
