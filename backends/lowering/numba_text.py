"""Expressions as source text for Numba: kernels over rows, over residuals, and over flat buffers.

A kernel takes addresses and sizes, so that compiled code can call it by its own address. Coefficients come in a
table of float64, or are computed from fields, step and learning rate at the top of an optimizer's kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from .expressions import nodes_below
from .formulas import LEARNING_RATE, STEP, Formula, Function
from .statements import Printer, Table, indented

_CHOICES = {
    # A comparison with NaN is false: what is returned then is the NaN.
    "clip": "({2} if {0} > {2} else ({1} if {0} < {1} else {0}))",
    "where": "({1} if {0} else {2})",
    "maximum": "({0} if {0} > {1} or {0} != {0} else {1})",
    "minimum": "({0} if {0} < {1} or {0} != {0} else {1})",
    "maximum of scalar": "({1} if {0} <= {1} else {0})",
    "minimum of scalar": "({1} if {0} >= {1} else {0})",
    "neg": "(-{0})",
    "abs": "abs({0})",
    "sqrt": "np.sqrt({0})",
}
_DOUBLE: Table = {
    **{name: f"math.{name}({{0}})" for name in ("exp", "log", "log1p", "expm1", "sin", "cos", "tanh")},
    **_CHOICES,
    "sign": "np.sign({0})",
    "**": "math.pow({0}, {1})",
}
# LLVM makes vector instructions of polynomials and none of calls.
_SINGLE: Table = {
    **_DOUBLE,
    "sin": "sine({0})",
    "cos": "cosine({0})",
    "exp": "exponential({0})",
    "tanh": "hyperbolic_tangent({0})",
    "sign": "(ONE if {0} > ZERO else (-ONE if {0} < ZERO else {0} + ZERO))",
}
_HEAD = """import math

import numpy as np

from backends.numba_backend.compiled.addresses import vector
from backends.numba_backend.compiled.elementwise import summed
from backends.numba_backend.compiled.functions import cosine, exponential, hyperbolic_tangent, sine

number = np.{dtype}
ZERO, ONE, REAL, WORD = number(0), number(1), np.float64(0), np.int64(0)
"""


def forward_text(formula: Formula, dtype: str, *, saves_input: bool) -> str:
    """Return a kernel for z + b in the place of z, or f(z + b) there if the input is not saved, else in y."""
    function = formula.functions["forward"]
    printer, lines = _elements(formula, function, dtype, {"z": "z"})
    stores = [f"z_row[j] = {'z' if saves_input else printer.name(function.outputs[0])}"]
    if saves_input:
        stores.append(f"y_row[j] = {printer.name(function.outputs[0])}")
    return (
        _head(dtype)
        + "\n\ndef kernel(z_at, b_at, y_at, rows, columns, stride, table):\n"
        + indented([*_table(formula, dtype), "b = vector(b_at, columns, ZERO)", "for i in range(rows):"], 1)
        + indented(["z_row = vector(z_at + i * stride, columns, ZERO)"], 2)
        + indented(["y_row = vector(y_at + i * stride, columns, ZERO)"] if saves_input else [], 2)
        + indented(["for j in range(columns):"], 2)
        + indented(["z = z_row[j] + b[j]", *lines, *stores], 3)
    )


def backward_text(formula: Formula, dtype: str) -> str:
    """Return a kernel for dz = dy f'(z) in the place of dy."""
    function = formula.functions["backward"]
    printer, lines = _elements(formula, function, dtype, {"dy": "dy", "saved": "saved"})
    return (
        _head(dtype)
        + "\n\ndef kernel(dy_at, saved_at, rows, columns, stride, table):\n"
        + indented([*_table(formula, dtype), "for i in range(rows):"], 1)
        + indented(["dy_row = vector(dy_at + i * stride, columns, ZERO)"], 2)
        + indented(["saved_row = vector(saved_at + i * stride, columns, ZERO)"], 2)
        + indented(["for j in range(columns):"], 2)
        + indented(["dy, saved = dy_row[j], saved_row[j]", *lines], 3)
        + indented([f"dy_row[j] = {printer.name(function.outputs[0])}"], 3)
    )


def loss_text(formula: Formula, dtype: str) -> str:
    """Return a kernel for a member's loss and its gradient, in float64; `scale` ends the table."""
    function = formula.functions["value_and_gradient"]
    printer, lines = _elements(formula, function, "float64", {"residual": "r"})
    value, gradient = map(printer.name, function.outputs)
    return (
        _head(dtype)
        + "\n\ndef kernel(prediction_at, target_at, weights_at, dy_at, value_at, rows, channels, table):\n"
        + indented([*_table(formula, "float64"), f"scale = vector(table, {_count(formula) + 1}, REAL)[-1]"], 1)
        + indented(["prediction = vector(prediction_at, rows * channels, ZERO)"], 1)
        + indented(["target = vector(target_at, rows * channels, ZERO)"], 1)
        + indented(["dy = vector(dy_at, rows * channels, ZERO)", "total = 0.0", "for i in range(rows):"], 1)
        + indented(["weight = 1.0", "if weights_at != 0:"], 2)
        + indented(["weight = np.float64(vector(weights_at, rows, ZERO)[i])"], 3)
        + indented(["for j in range(i * channels, (i + 1) * channels):"], 2)
        + indented(["r = np.float64(prediction[j]) - np.float64(target[j])", *lines], 3)
        + indented([f"total += weight * {value}", f"dy[j] = weight * {gradient} * scale"], 3)
        + indented(["vector(value_at, 1, ZERO)[0] = total * scale"], 1)
    )


def update_text(formula: Formula, dtype: str, fields: list[str]) -> str:
    """Return a kernel for members [first_row, last_row) and columns [first, last) of flat buffers.

    The table holds the rule's fields. Gradients are summed in pieces that stay in the nearest cache.
    """
    function = formula.functions["update"]
    scalars = _Scalars(formula, fields)
    arrays = dict(
        zip(function.inputs, ["p", "g", *(f"s{i}" for i in range(len(function.inputs) - 2))], strict=True)
    )
    printer, lines = _elements(formula, function, dtype, {name: f"{a}_i" for name, a in arrays.items()})
    states = list(arrays.values())[2:]
    stored = zip(["p", *states], map(printer.name, function.outputs), strict=True)
    takes = "parameters, gradients, num_gradients, states, first_row, last_row, first, last, units"
    return (
        _head(dtype)
        + f"CHUNK = 4096\n\n\ndef kernel({takes}, rates_at, num_rates, counter, table):\n"
        + indented(
            ["step = np.float64(vector(counter, 1, WORD)[0])", "rates = vector(rates_at, num_rates, REAL)"], 1
        )
        + indented([f"fields = vector(table, {max(1, len(fields))}, REAL)", *scalars.before], 1)
        + indented([f"{s}_at = vector(states, {len(states)}, WORD)[{i}]" for i, s in enumerate(states)], 1)
        + indented(["for e in range(first_row, last_row):"], 1)
        + indented(["learning_rate = rates[e % num_rates]", *scalars.inside, *scalars.narrowed], 2)
        + indented(["for start in range(e * units + first, e * units + last, CHUNK):"], 2)
        + indented(["size = min(CHUNK, e * units + last - start)", f"there = start * {_bytes(dtype)}"], 3)
        + indented(["g = summed(gradients, num_gradients, there, size, ZERO)"], 3)
        + indented(["p = vector(parameters + there, size, ZERO)"], 3)
        + indented([f"{s} = vector({s}_at + there, size, ZERO)" for s in states], 3)
        + indented(["for i in range(size):"], 3)
        + indented([f"{a}_i = {a}[i]" for a in arrays.values()], 4)
        + indented([*lines, *(f"{a}[i] = {text}" for a, text in stored)], 4)
    )


class _Scalars:
    """The coefficients of an optimizer's kernel: those before the loop over members, and those inside it."""

    def __init__(self, formula: Formula, fields: list[str]) -> None:
        names = {f"self.{name}": f"fields[{i}]" for i, name in enumerate(fields)}
        names |= {STEP: "step", LEARNING_RATE: "learning_rate"}
        nodes = nodes_below(formula.coefficients)
        printer = Printer(
            {**_DOUBLE, "**": "({0} ** {1})"},
            _literal("float64"),
            "{0} = {1}",
            {node: names[node.value] for node in nodes if node.op == "name"},
            prefix="q",
        )
        early = [node for node in nodes if all(n.value != LEARNING_RATE for n in nodes_below([node]))]
        self.before = printer.lines(early)
        self.inside = printer.lines(formula.coefficients)
        self.narrowed = [f"k{i} = number({printer.name(node)})" for i, node in enumerate(formula.coefficients)]


def _elements(
    formula: Formula, function: Function, dtype: str, arrays: dict[str, str]
) -> tuple[Printer, list[str]]:
    """A printer of the element-wise work, and its lines."""
    graph = function.outputs[0].graph
    names = {graph.symbol(name): text for name, text in arrays.items()}
    names |= {node: f"k{i}" for i, node in enumerate(formula.coefficients)}
    table = _SINGLE if dtype == "float32" else _DOUBLE
    printer = Printer(table, _literal(dtype), "{0} = {1}", names)
    return printer, printer.lines(function.outputs)


def _table(formula: Formula, dtype: str) -> list[str]:
    """Lines that read the coefficients."""
    count = _count(formula)
    lines = [f"k = vector(table, {count}, REAL)"] if count else []
    return lines + [f"k{i} = np.{dtype}(k[{i}])" for i in range(count)]


def _count(formula: Formula) -> int:
    return len(formula.coefficients)


def _literal(dtype: str) -> Callable[[float], str]:
    return lambda value: f"np.{dtype}({value!r})"


def _head(dtype: str) -> str:
    return _HEAD.format(dtype=dtype)


def _bytes(dtype: str) -> int:
    return 4 if dtype == "float32" else 8
