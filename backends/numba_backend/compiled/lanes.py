"""Vectors of 64 bytes as values of compiled code, for loops that LLVM does not vectorize by itself.

`fused` multiplies and adds in one rounding wherever the processor can, inlined or not, so that code from the
cache and code just compiled agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

BYTES = 64
_WORD, _PLACE = ir.IntType(64), ir.IntType(32)


class Lanes(types.Type):
    """The type of a vector of numbers."""

    def __init__(self, number: Any) -> None:
        self.number = number
        super().__init__(name=f"Lanes({number})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        number = ir.FloatType() if kind.number == types.float32 else ir.DoubleType()
        numbers = ir.VectorType(number, BYTES * 8 // kind.number.bitwidth)
        super().__init__(manager, kind, numbers)  # type: ignore[no-untyped-call]


def _places(builder: Any, kind: Any, address: Any, step: Any) -> list[Any]:
    """Return pointers to the numbers of a vector that are `step` numbers apart."""
    distance = builder.mul(step, ir.Constant(_WORD, BYTES // kind.count))
    offsets = (builder.mul(distance, ir.Constant(_WORD, i)) for i in range(kind.count))
    return [builder.inttoptr(builder.add(address, o), kind.element.as_pointer()) for o in offsets]


def _load(typing_context, address, step, like):  # type: ignore[no-untyped-def]
    """Return numbers of the type of `like`, the first at an address, the others each `step` further."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = context.get_value_type(signature.return_type)
        value = ir.Constant(kind, ir.Undefined)
        for i, place in enumerate(_places(builder, kind, *arguments[:2])):
            value = builder.insert_element(value, builder.load(place), ir.Constant(_PLACE, i))
        return value

    return Lanes(like)(types.intp, types.intp, like), generate


def _store(typing_context, lanes, address, step):  # type: ignore[no-untyped-def]
    """Write numbers to an address, the others each `step` further."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        value, address, step = arguments
        for i, place in enumerate(_places(builder, value.type, address, step)):
            builder.store(builder.extract_element(value, ir.Constant(_PLACE, i)), place)
        return context.get_dummy_value()

    return types.void(lanes, types.intp, types.intp), generate


def _load_next(typing_context, address, like):  # type: ignore[no-untyped-def]
    """Return numbers that follow one another."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = context.get_value_type(signature.return_type)
        place = builder.inttoptr(arguments[0], kind.as_pointer())
        return builder.load(place, align=BYTES // kind.count)

    return Lanes(like)(types.intp, like), generate


def _store_next(typing_context, lanes, address):  # type: ignore[no-untyped-def]
    """Write numbers one after another."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        value, address = arguments
        place = builder.inttoptr(address, value.type.as_pointer())
        builder.store(value, place, align=BYTES // value.type.count)
        return context.get_dummy_value()

    return types.void(lanes, types.intp), generate


def _spread(typing_context, number):  # type: ignore[no-untyped-def]
    """Return a vector that has one number in all places."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = context.get_value_type(signature.return_type)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), arguments[0], ir.Constant(_PLACE, 0))
        first = ir.Constant(ir.VectorType(_PLACE, kind.count), [0] * kind.count)
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), first)

    return Lanes(number)(number), generate


def _fused(typing_context, a, b, c):  # type: ignore[no-untyped-def]
    """Return `a b + c`."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = arguments[0].type
        name = f"llvm.fmuladd.v{kind.count}f{512 // kind.count}"
        function = builder.module.declare_intrinsic(name, (), ir.FunctionType(kind, [kind] * 3))
        return builder.call(function, arguments)

    return a(a, a, a), generate


load: Callable[..., Any] = intrinsic(_load)
store: Callable[..., Any] = intrinsic(_store)
load_next: Callable[..., Any] = intrinsic(_load_next)
store_next: Callable[..., Any] = intrinsic(_store_next)
spread: Callable[..., Any] = intrinsic(_spread)
fused: Callable[..., Any] = intrinsic(_fused)
