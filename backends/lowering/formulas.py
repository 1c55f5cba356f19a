"""The traced formulas of activations, losses and optimizers.

A formula's class is a frozen dataclass. Numeric fields become symbols, so that one text serves all their
values; other fields (`nesterov=True`) are part of the formula.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .expressions import FUNCTIONS, Expr, FormulaError, Graph, Recorder, coefficients, nodes_below
from .statements import Printer, indented

STEP, LEARNING_RATE = "step", "learning_rate"


@dataclass(frozen=True)
class Function:
    """One function of a formula: the names of its inputs, and its outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[Expr, ...]


class Formula:
    """The traced functions of a class by name, and their coefficients.

    Attributes
    ----------
    coefficients : list of Expr
        Scalar expressions of fields, step and learning rate that the element-wise work uses.
    """

    def __init__(self, owner: str, functions: dict[str, Function]) -> None:
        self.owner, self.functions = owner, functions
        outputs = [output for function in functions.values() for output in function.outputs]
        self.coefficients = coefficients(outputs)
        self._evaluate = _evaluator(self.coefficients)

    def values(self, op: Any, step: Any = 0, learning_rate: Any = 0.0) -> tuple[Any, ...]:
        """Return the coefficients for an object: floats, or arrays if the learning rate is one."""
        return tuple(map(_plain, self._evaluate(numbers_of(op), step, learning_rate)))


class Lowered(NamedTuple):
    """A formula with the coefficients of one object."""

    formula: Formula
    values: tuple[float, ...]


@functools.lru_cache(maxsize=512)
def lowered_activation(activation: Any) -> Lowered:
    """Return an activation's `forward(z)` and `backward(dy, saved)`."""
    return _lowered(activation, "activation", _trace_activation)


@functools.lru_cache(maxsize=512)
def lowered_loss(loss: Any) -> Lowered:
    """Return a loss's `value_and_gradient(residual)`."""
    return _lowered(loss, "loss", _trace_loss)


@functools.lru_cache(maxsize=512)
def lowered_rule(rule: Any) -> Formula:
    """Return a rule's `update(parameter, gradient, state)`, whose coefficients change with step and rate."""
    # Names of the state may depend on numbers, which the formula has as symbols.
    return _formula(rule, tuple(rule.state), functools.partial(_trace_rule, tuple(rule.state)))


def _lowered(op: Any, kind: str, trace: Callable[..., dict[str, Function]]) -> Lowered:
    formula = _formula(op, kind, trace)
    return Lowered(formula, formula.values(op))


_NUMPY_ITSELF = f"it calls a function of NumPy itself; call those of xp: {', '.join(FUNCTIONS)}"
_FORMULAS: dict[tuple[Any, ...], Formula] = {}


def _formula(op: Any, kind: Any, trace: Callable[..., dict[str, Function]]) -> Formula:
    """Return the formula of an object's class, traced once for all values of its numbers."""
    if not dataclasses.is_dataclass(op) or isinstance(op, type):
        raise FormulaError(f"{op!r} is no object of a frozen dataclass, as a formula must be")
    fields, numbers = dataclasses.fields(op), numbers_of(op)  # type: ignore[arg-type]
    fixed = {field.name: getattr(op, field.name) for field in fields if field.name not in numbers}
    key = (kind, type(op), *fixed.items())
    if key not in _FORMULAS:
        owner = type(op).__name__
        graph = Graph(owner)
        try:
            functions = trace(_symbolic(op, graph), Recorder(graph), graph)
        except FormulaError:
            raise
        except (AttributeError, TypeError, ValueError) as error:
            told = _NUMPY_ITSELF if "__array_ufunc__" in str(error) else error
            raise FormulaError(f"the formula of {owner} cannot be lowered: {told}") from error
        _FORMULAS[key] = Formula(owner, functions)
    return _FORMULAS[key]


@functools.lru_cache(maxsize=512)
def numbers_of(op: Any) -> dict[str, float]:
    """Return the numeric fields by name; callers must not change the dictionary."""
    values = ((f.name, getattr(op, f.name)) for f in dataclasses.fields(op))
    return {name: float(v) for name, v in values if hasattr(v, "__float__") and not isinstance(v, bool)}


def _symbolic(op: Any, graph: Graph) -> Any:
    """Return a copy of an object with symbols for its numbers, without running its constructor."""
    twin, numbers = object.__new__(type(op)), numbers_of(op)
    for field in dataclasses.fields(op):
        is_number = field.name in numbers
        value = graph.symbol(f"self.{field.name}", is_scalar=True) if is_number else getattr(op, field.name)
        object.__setattr__(twin, field.name, value)
    return twin


def _evaluator(nodes: Sequence[Expr]) -> Callable[[dict[str, float], Any, Any], tuple[Any, ...]]:
    """Return a function (fields, step, learning_rate) that computes scalar expressions."""
    known: dict[Expr, str] = {}
    for node in nodes_below(nodes):
        if node.op == "name":
            is_field = node.value.startswith("self.")
            known[node] = f"fields[{node.value.removeprefix('self.')!r}]" if is_field else node.value
    printer = Printer(_SCALAR, repr, "{0} = {1}", known)
    lines = printer.lines(nodes)
    result = "".join(f"{printer.name(node)}, " for node in nodes)
    text = f"def evaluate(fields, step, learning_rate):\n{indented([*lines, f'return ({result})'], 1)}"
    scope: dict[str, Any] = {"np": np}
    exec(compile(text, "<coefficients>", "exec"), scope)  # runs only our own text
    evaluate: Callable[[dict[str, float], Any, Any], tuple[Any, ...]] = scope["evaluate"]
    return evaluate


_SCALAR = {name: f"np.{name}({', '.join(f'{{{i}}}' for i in range(n))})" for name, n in FUNCTIONS.items()}
_SCALAR["neg"] = "(-{0})"


def _plain(value: Any) -> Any:
    """Return a scalar as a Python float, since a NumPy scalar would widen float32 arrays."""
    if type(value) is float or getattr(value, "size", 1) > 1:
        return value
    return float(value.item() if hasattr(value, "item") else value)


def _trace_activation(op: Any, xp: Any, graph: Graph) -> dict[str, Function]:
    z, dy, saved = map(graph.symbol, ("z", "dy", "saved"))
    return {
        "forward": Function(("z",), (graph.of(op.forward(xp, z)),)),
        "backward": Function(("dy", "saved"), (graph.of(op.backward(xp, dy, saved)),)),
    }


def _trace_loss(op: Any, xp: Any, graph: Graph) -> dict[str, Function]:
    r = graph.symbol("residual")
    outputs = (graph.of(op.value(xp, r)), graph.of(op.gradient(xp, r)))
    return {"value_and_gradient": Function(("residual",), outputs)}


def _trace_rule(names: Sequence[str], op: Any, xp: Any, graph: Graph) -> dict[str, Function]:
    p, g, *state = (graph.symbol(name) for name in ("parameter", "gradient", *names))
    step, rate = (graph.symbol(name, is_scalar=True) for name in (STEP, LEARNING_RATE))
    parameter, new_state = op.update(xp, p, g, tuple(state), step, rate)
    outputs = tuple(map(graph.of, (parameter, *new_state)))
    if len(outputs) != 1 + len(names):
        raise FormulaError(f"{graph.owner}.update returns {len(outputs) - 1} of the state {', '.join(names)}")
    return {"update": Function(("parameter", "gradient", *names), outputs)}
