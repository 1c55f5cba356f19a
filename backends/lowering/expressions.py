"""Expressions of element-wise formulas: unique nodes, and a recorder in place of `xp`.

A formula may use `+ - * / **`, comparisons, and the functions in `FUNCTIONS`. A node is *scalar* if it depends
only on numbers, fields, the step and the learning rate; other nodes have a value for each element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

FUNCTIONS = {
    **dict.fromkeys(("abs", "exp", "log", "log1p", "expm1", "sin", "cos", "tanh", "sqrt", "sign"), 1),
    **dict.fromkeys(("square", "zeros_like", "ones_like"), 1),
    **dict.fromkeys(("maximum", "minimum"), 2),
    **dict.fromkeys(("clip", "where"), 3),
}
"""Functions of `xp` that a formula may call, with their numbers of arguments."""


class FormulaError(TypeError):
    """A formula cannot be lowered; the message names its class and the reason."""


class Expr:
    """An operation and its arguments; equal expressions of one `Graph` are one object."""

    __slots__ = ("args", "graph", "is_scalar", "op", "value")
    __array_ufunc__ = None  # so that a NumPy scalar on the left defers to this class

    def __init__(self, graph: Graph, op: str, args: tuple[Expr, ...], value: Any, is_scalar: bool) -> None:
        self.graph, self.op, self.args, self.value, self.is_scalar = graph, op, args, value, is_scalar

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise FormulaError(
            f"{self.graph.owner} asks whether an element is true (an `if`, `and`, `not` or `min`); "
            "use xp.where, xp.minimum or xp.maximum, which choose for each element"
        )

    def __float__(self) -> float:
        raise FormulaError(
            f"{self.graph.owner} makes a number of an element (by `float` or a function of `math`); "
            f"use + - * / ** and xp's {', '.join(FUNCTIONS)}"
        )

    __int__ = __index__ = __float__


COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "**": "pow"}


def _method(op: str, swapped: bool = False) -> Callable[..., Expr]:
    if swapped:
        return lambda self, other: self.graph.node(op, other, self)
    return lambda self, *others: self.graph.node(op, self, *others)


for _op, _name in {**_OPERATORS, **COMPARISONS, "neg": "neg", "abs": "abs"}.items():
    setattr(Expr, f"__{_name}__", _method(_op))
for _op, _name in _OPERATORS.items():
    setattr(Expr, f"__r{_name}__", _method(_op, swapped=True))


class Graph:
    """The nodes of one formula's expressions, each made once; `owner` names the formula in messages."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._nodes: dict[tuple[Any, ...], Expr] = {}

    def symbol(self, name: str, *, is_scalar: bool = False) -> Expr:
        """Return the symbol of this name."""
        return self._once("name", (), name, is_scalar)

    def number(self, value: Any) -> Expr:
        """Return a constant."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise FormulaError(f"{self.owner} computes with {value!r}, which is not a number") from None
        if not math.isfinite(number):
            raise FormulaError(f"{self.owner} computes with {number}; a formula's numbers are finite")
        return self._once("number", (), number, True)

    def of(self, value: Any) -> Expr:
        """Return `value` as a node of this graph."""
        return value if isinstance(value, Expr) and value.graph is self else self.number(value)

    def node(self, op: str, *operands: Any) -> Expr:
        """Return an operation applied to operands."""
        if op == "**":
            return self._power(*operands)
        if op in ("zeros_like", "ones_like"):
            return self.number(op == "ones_like")
        args = tuple(self.of(operand) for operand in operands)
        if op != "where":
            args = tuple(self._as_number(arg) for arg in args)
        elif args[0].op not in COMPARISONS:
            args = (self.node("!=", args[0], 0.0), *args[1:])
        if op == "square":
            op, args = "*", (args[0], args[0])
        if op in ("maximum", "minimum") and args[0].is_scalar:
            args = args[::-1]
        return self._once(op, args, None, all(arg.is_scalar for arg in args))

    def _as_number(self, arg: Expr) -> Expr:
        """Return a comparison as 1 or 0, for arithmetic."""
        return self.node("where", arg, 1.0, 0.0) if arg.op in COMPARISONS else arg

    def _power(self, base: Any, exponent: Any) -> Expr:
        """Return a power, as a product for 2 and as a root for 0.5, like NumPy."""
        base = self.of(base)
        if not base.is_scalar and exponent == 2:
            return self.node("*", base, base)
        if not base.is_scalar and exponent == 0.5:
            return self.node("sqrt", base)
        exponent = self.of(exponent)
        return self._once("**", (base, exponent), None, base.is_scalar and exponent.is_scalar)

    def _once(self, op: str, args: tuple[Expr, ...], value: Any, is_scalar: bool) -> Expr:
        # By repr, since 0.0 == -0.0.
        key = (op, tuple(map(id, args)), repr(value))
        if key not in self._nodes:
            self._nodes[key] = Expr(self, op, args, value, is_scalar)
        return self._nodes[key]


class Recorder:
    """Replaces the array module while a formula is traced."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __getattr__(self, name: str) -> Callable[..., Expr]:
        if name.startswith("__"):
            raise AttributeError(name)
        graph = self._graph
        if name not in FUNCTIONS:
            raise FormulaError(f"{graph.owner} calls xp.{name}; a formula may call {', '.join(FUNCTIONS)}")

        def call(*operands: Any, **options: Any) -> Expr:
            if options or len(operands) != FUNCTIONS[name]:
                raise FormulaError(f"{graph.owner} calls xp.{name} with other than {FUNCTIONS[name]} arguments")
            return graph.node(name, *operands)

        return call


def in_order(outputs: Iterable[Expr]) -> list[Expr]:
    """Return the non-scalar nodes in the order of evaluation, arguments first."""
    found: dict[int, Expr] = {}

    def visit(node: Expr) -> None:
        if node.is_scalar or id(node) in found:
            return
        for arg in node.args:
            visit(arg)
        found[id(node)] = node

    for output in outputs:
        visit(output)
    return list(found.values())


def nodes_below(outputs: Iterable[Expr]) -> list[Expr]:
    """Return all nodes of expressions, each once."""
    found: dict[int, Expr] = {}
    left = list(outputs)
    while left:
        node = left.pop()
        if id(node) not in found:
            found[id(node)] = node
            left += node.args
    return list(found.values())


def coefficients(outputs: Iterable[Expr]) -> list[Expr]:
    """Return the scalar nodes, without plain numbers, that element-wise nodes or outputs use."""
    outputs = list(outputs)
    used = [arg for node in in_order(outputs) for arg in node.args] + outputs
    return list({id(node): node for node in used if node.is_scalar and node.op != "number"}.values())


def same(left: Iterable[Expr], right: Iterable[Expr]) -> bool:
    """Whether expressions of two graphs are equal node by node."""
    pairs = list(zip(left, right, strict=True))
    known: dict[int, int] = {}
    while pairs:
        a, b = pairs.pop()
        if known.get(id(a)) == id(b):
            continue
        if a.op != b.op or repr(a.value) != repr(b.value) or len(a.args) != len(b.args):
            return False
        known[id(a)] = id(b)
        pairs += zip(a.args, b.args, strict=True)
    return True
