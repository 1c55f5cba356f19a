"""Compilation of functions, and arrays from addresses in compiled code."""

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
    """Compile a function for each combination of argument types; it runs without Python's lock."""
    # No fastmath, not even "contract": fused multiply-adds depend on inlining, so a process that compiles would
    # differ in the last bit from one with cached code. No gain was measurable: these loops wait for memory.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    compiled: Any = numba.njit(**options)(kernel)
    with contextlib.suppress(RuntimeError):  # no writable place for a cache
        compiled._cache = Cache(kernel)
    return cast(Kernel, compiled)


def _pointer_to(typing_context, address, like):  # type: ignore[no-untyped-def]
    """Return the address as a pointer to numbers of the type of `like`."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.intp, like), generate  # type: ignore[no-untyped-call]


_pointer: Any = intrinsic(_pointer_to)
_carray: Any = numba.carray  # type: ignore[attr-defined]  # only the compiler knows its types


@jit
def vector(address: int, size: int, like: Any) -> Array:
    """Return `size` numbers of the type of `like` at an address."""
    return _carray(_pointer(address, like), size)


def _call(typing_context, address, arguments):  # type: ignore[no-untyped-def]
    """Call the kernel at an address with a tuple of integers."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        address, packed = values
        words = [builder.extract_value(packed, i) for i in range(len(arguments))]
        function = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * len(words))
        builder.call(builder.inttoptr(address, function.as_pointer()), words)
        return context.get_dummy_value()

    words = types.UniTuple(types.intp, len(arguments))  # type: ignore[no-untyped-call]
    return types.void(types.intp, words), generate


call_kernel: Any = intrinsic(_call)


def address_of(array: Array) -> int:
    """Return the address of an array's memory."""
    return int(array.__array_interface__["data"][0])


def member_step(array: Array) -> int:
    """Return the bytes between members of an array (*E, n, m); 0 if all share it."""
    return 0 if array.ndim == 2 or array.shape[0] == 1 else int(array.strides[0])


def is_plain(array: Array) -> bool:
    """Whether an array is (n, m) or (E, n, m) with contiguous last two axes."""
    if array.ndim not in (2, 3):
        return False
    return bool(array.flags.c_contiguous or (array.ndim == 3 and array[0].flags.c_contiguous))
