"""Expressions as CUDA C++: a struct of device functions, templated on their arithmetic type A.

The struct holds a formula's numbers as doubles, and kernels take it by value. Its text includes nothing and
calls CUDA's own mathematical functions.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .expressions import Expr, nodes_below, same
from .formulas import LEARNING_RATE, STEP, Formula, lowered_activation, lowered_loss, lowered_rule, numbers_of
from .statements import Printer, Table, indented

_FUNCTIONS: Table = {
    **{name: f"{name}({{0}})" for name in ("exp", "log", "log1p", "expm1", "sin", "cos", "tanh", "sqrt")},
    # A comparison with NaN is false, so these return NaN.
    "clip": "({0} < {1} ? {1} : {0} > {2} ? {2} : {0})",
    "where": "({0} ? {1} : {2})",
    "maximum": "({0} > {1} || {0} != {0} ? {0} : {1})",
    "minimum": "({0} < {1} || {0} != {0} ? {0} : {1})",
    "maximum of scalar": "({0} <= {1} ? {1} : {0})",
    "minimum of scalar": "({0} >= {1} ? {1} : {0})",
    "sign": "({0} > 0 ? (A)1 : {0} < 0 ? (A)-1 : {0})",
    "abs": "fabs({0})",
    "neg": "(-{0})",
    "**": "pow({0}, {1})",
}
_TEMPLATE = "template <typename A> __device__"


@dataclass(frozen=True, eq=False)
class CudaFormula:
    """A struct's name and text, and its numbers for one formula.

    Attributes
    ----------
    values : array, shape (1,)
        One record of the struct's doubles, which CuPy passes by value.
    is_identity, is_relu : bool
        Whether it is an activation that cublasLt's epilogues have.
    """

    name: str
    text: str
    values: NDArray[Any]
    saves_input: bool = False
    is_identity: bool = False
    is_relu: bool = False


@functools.lru_cache(maxsize=512)
def cuda_activation(activation: Any) -> CudaFormula:
    """Return a struct with `forward(z)` and `backward(dy, saved)`."""
    formula, values = lowered_activation(activation)
    saves = activation.saves_input
    functions = "".join(
        f"    {_TEMPLATE} A {name}({', '.join(f'A {i}' for i in function.inputs)}) const {{\n"
        + _body(formula, function.inputs, function.outputs, "return {};")
        for name, function in formula.functions.items()
    )
    text = f"    enum {{ saves_input = {int(saves)} }};\n{functions}"
    return _struct(
        formula,
        text,
        values,
        saves_input=saves,
        is_identity=_is_same(formula, _Identity()),
        is_relu=not saves and _is_same(formula, _ReLU()),
    )


@functools.lru_cache(maxsize=512)
def cuda_loss(loss: Any) -> CudaFormula:
    """Return a struct with `evaluate(residual, value, gradient)`, which fills the last two."""
    formula, values = lowered_loss(loss)
    function = formula.functions["value_and_gradient"]
    stores = "value = {};\n        gradient = {};"
    text = (
        f"    {_TEMPLATE} void evaluate(A residual, A& value, A& gradient) const {{\n"
        f"{_body(formula, function.inputs, function.outputs, stores)}"
    )
    return _struct(formula, text, values)


@functools.lru_cache(maxsize=512)
def cuda_rule(rule: Any) -> CudaFormula:
    """Return a struct with `coefficients(step, learning_rate, k)` in double, and `update(k, p, g, state)`."""
    formula, numbers = lowered_rule(rule), numbers_of(rule)
    function = formula.functions["update"]
    known = {f"self.{name}": f"number[{i}]" for i, name in enumerate(numbers)}
    scalars = _printer([], known | {STEP: STEP, LEARNING_RATE: LEARNING_RATE}, formula.coefficients)
    lines = scalars.lines(formula.coefficients)
    lines += [f"k[{i}] = {scalars.name(node)};" for i, node in enumerate(formula.coefficients)]
    arrays = ["parameter", "gradient", *(f"state[{i}]" for i in range(len(function.inputs) - 2))]
    names = dict(zip(function.inputs, arrays, strict=True))
    stores = "\n        ".join(f"{array} = {{}};" for array in [arrays[0], *arrays[2:]])
    counts = f"num_states = {len(arrays) - 2}, num_coefficients = {max(1, len(formula.coefficients))}"
    text = (
        f"    enum {{ {counts} }};\n"
        "    __device__ void coefficients(double step, double learning_rate, double* k) const {\n"
        "        typedef double A;\n"
        f"{indented(lines, 2)}    }}\n"
        f"    {_TEMPLATE} void update(const A* k, A& parameter, A gradient, A* state) const {{\n"
        f"{_body(formula, names, function.outputs, stores, narrow=False)}"
    )
    return _struct(formula, text, tuple(numbers.values()))


def _body(
    formula: Formula,
    inputs: Sequence[str] | dict[str, str],
    outputs: Sequence[Expr],
    stores: str,
    *,
    narrow: bool = True,
) -> str:
    """Return the text of a function's body: assignments, then `stores` filled with the outputs' names."""
    arrays = inputs if isinstance(inputs, dict) else dict(zip(inputs, inputs, strict=True))
    used = {id(arg) for node in nodes_below(outputs) for arg in (node, *node.args)}
    texts = {
        node: f"(A)number[{i}]" if narrow else f"k[{i}]"
        for i, node in enumerate(formula.coefficients)
        if id(node) in used
    }
    printer = _printer(list(texts.items()), arrays, outputs)
    lines = printer.lines(outputs)
    return indented([*lines, stores.format(*map(printer.name, outputs))], 2) + "    }\n"


def _printer(texts: list[tuple[Expr, str]], known: dict[str, str], outputs: Sequence[Expr]) -> Printer:
    names = dict(texts)
    names |= {
        n: known[n.value]
        for n in nodes_below(outputs)
        if n.op == "name" and n.value in known and n not in names
    }
    return Printer(_FUNCTIONS, lambda value: f"(A){value!r}", "const A {0} = {1};", names)


def _struct(formula: Formula, text: str, values: Sequence[float], **facts: bool) -> CudaFormula:
    numbers = np.array(values or (0.0,), np.float64)  # no struct is empty
    record = numbers.view([("number", np.float64, (numbers.size,))])
    record.flags.writeable = False
    body = f"{{\n    double number[{numbers.size}];\n{text}}};\n"
    name = f"{formula.owner}_{hashlib.sha256(body.encode()).hexdigest()[:12]}"
    return CudaFormula(name, f"struct {name} {body}", record, **facts)


def _is_same(formula: Formula, known: Any) -> bool:
    """Whether a formula has the functions of a known activation."""
    other, _ = lowered_activation(known)
    return all(
        same(formula.functions[name].outputs, other.functions[name].outputs) for name in formula.functions
    )


@dataclass(frozen=True)
class _Identity:
    """The identity of a bias epilogue."""

    def forward(self, xp: Any, z: Any) -> Any:
        return z

    def backward(self, xp: Any, dy: Any, saved: Any) -> Any:
        return dy


@dataclass(frozen=True)
class _ReLU:
    """The formula of a ReLU epilogue."""

    def forward(self, xp: Any, z: Any) -> Any:
        return xp.maximum(z, xp.zeros_like(z))

    def backward(self, xp: Any, dy: Any, saved: Any) -> Any:
        return xp.where(saved > 0, dy, xp.zeros_like(dy))
