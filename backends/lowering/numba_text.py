"""Expressions as source text for Numba: kernels over rows, residuals and flat buffers.

A kernel takes addresses and sizes, so that compiled code can call it by its address. Coefficients are a table
of float64; an optimizer's kernel computes them from fields, step and learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from string import Template

from .expressions import nodes_below
from .formulas import LEARNING_RATE, STEP, Formula, Function
from .statements import Printer, Table

_CHOICES = {
    # A comparison with NaN is false, so these return NaN.
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
# LLVM vectorizes polynomials, but no calls.
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

from .addresses import vector
from .elementwise import summed
from .functions import cosine, exponential, hyperbolic_tangent, sine

number = np.$dtype
ZERO, ONE, REAL, WORD = number(0), number(1), np.float64(0), np.int64(0)
CHUNK = 4096


"""
_FORWARD = """def kernel(z_at, b_at, y_at, rows, columns, stride, table):
    $coefficients
    b = vector(b_at, columns, ZERO)
    for i in range(rows):
        z_row = vector(z_at + i * stride, columns, ZERO)
        $y_row
        for j in range(columns):
            z = z_row[j] + b[j]
            $formula
            $stores
"""
_BACKWARD = """def kernel(dy_at, saved_at, rows, columns, stride, table):
    $coefficients
    for i in range(rows):
        dy_row = vector(dy_at + i * stride, columns, ZERO)
        saved_row = vector(saved_at + i * stride, columns, ZERO)
        for j in range(columns):
            dy, saved = dy_row[j], saved_row[j]
            $formula
            dy_row[j] = $dz
"""
_LOSS = """def kernel(prediction_at, target_at, weights_at, dy_at, value_at, rows, channels, table):
    $coefficients
    scale = vector(table, $table_size, REAL)[-1]
    prediction = vector(prediction_at, rows * channels, ZERO)
    target = vector(target_at, rows * channels, ZERO)
    dy = vector(dy_at, rows * channels, ZERO)
    total = 0.0
    if weights_at == 0:
        for j in range(rows * channels):
            r = np.float64(prediction[j]) - np.float64(target[j])
            $formula
            total += $value
            dy[j] = $gradient * scale
    else:
        weights = vector(weights_at, rows, ZERO)
        for i in range(rows):
            weight = np.float64(weights[i])
            for j in range(i * channels, (i + 1) * channels):
                r = np.float64(prediction[j]) - np.float64(target[j])
                $formula
                total += weight * $value
                dy[j] = weight * $gradient * scale
    vector(value_at, 1, ZERO)[0] = total * scale
"""
_UPDATE = """def kernel(
    parameters, gradients, num_gradients, states,
    first_row, last_row, first, last, units, rates_at, num_rates, counter, table,
):
    step = np.float64(vector(counter, 1, WORD)[0])
    rates = vector(rates_at, num_rates, REAL)
    fields = vector(table, $table_size, REAL)
    $before_members
    $state_addresses
    for e in range(first_row, last_row):
        learning_rate = rates[e % num_rates]
        $coefficients
        for start in range(e * units + first, e * units + last, CHUNK):
            size = min(CHUNK, e * units + last - start)
            there = start * $itemsize
            g = summed(gradients, num_gradients, there, size, ZERO)
            p = vector(parameters + there, size, ZERO)
            $states
            for i in range(size):
                $loads
                $formula
                $stores
"""


def forward_text(formula: Formula, dtype: str, *, saves_input: bool) -> str:
    """Return a kernel that fills `z <- z + b` and `y = f(z)`; without `saves_input` y replaces z."""
    function = formula.functions["forward"]
    printer, lines = _elements(formula, function, dtype, {"z": "z"})
    y = printer.name(function.outputs[0])
    return _filled(
        _FORWARD,
        dtype,
        coefficients=_table(formula, dtype),
        y_row=["y_row = vector(y_at + i * stride, columns, ZERO)"] if saves_input else [],
        formula=lines,
        stores=["z_row[j] = z", f"y_row[j] = {y}"] if saves_input else [f"z_row[j] = {y}"],
    )


def backward_text(formula: Formula, dtype: str) -> str:
    """Return a kernel that replaces dy by `dz = dy f'(z)`."""
    function = formula.functions["backward"]
    printer, lines = _elements(formula, function, dtype, {"dy": "dy", "saved": "saved"})
    dz = printer.name(function.outputs[0])
    return _filled(_BACKWARD, dtype, coefficients=_table(formula, dtype), formula=lines, dz=dz)


def loss_text(formula: Formula, dtype: str) -> str:
    """Return a kernel for a member's loss and its gradient, in float64; `scale` ends the table."""
    function = formula.functions["value_and_gradient"]
    printer, lines = _elements(formula, function, "float64", {"residual": "r"})
    value, gradient = map(printer.name, function.outputs)
    return _filled(
        _LOSS,
        dtype,
        coefficients=_table(formula, "float64"),
        table_size=len(formula.coefficients) + 1,
        formula=lines,
        value=value,
        gradient=gradient,
    )


def update_text(formula: Formula, dtype: str, fields: list[str]) -> str:
    """Return a kernel for members [first_row, last_row) and columns [first, last) of flat buffers.

    The table holds the rule's fields. Gradients are summed in pieces that stay in the nearest cache.
    """
    function = formula.functions["update"]
    states = [f"s{i}" for i in range(len(function.inputs) - 2)]
    arrays = ["p", "g", *states]
    elements = (f"{array}_i" for array in arrays)
    printer, lines = _elements(formula, function, dtype, dict(zip(function.inputs, elements, strict=True)))
    stored = zip(["p", *states], map(printer.name, function.outputs), strict=True)
    before_members, coefficients = _scalars(formula, fields)
    return _filled(
        _UPDATE,
        dtype,
        table_size=max(1, len(fields)),
        before_members=before_members,
        state_addresses=[f"{s}_at = vector(states, {len(states)}, WORD)[{i}]" for i, s in enumerate(states)],
        coefficients=coefficients,
        itemsize=4 if dtype == "float32" else 8,
        states=[f"{s} = vector({s}_at + there, size, ZERO)" for s in states],
        loads=[f"{array}_i = {array}[i]" for array in arrays],
        formula=lines,
        stores=[f"{array}[i] = {text}" for array, text in stored],
    )


def _scalars(formula: Formula, fields: list[str]) -> tuple[list[str], list[str]]:
    """Return the lines of an optimizer's coefficients: before the loop over members, and inside it."""
    names = {f"self.{name}": f"fields[{i}]" for i, name in enumerate(fields)}
    names |= {STEP: "step", LEARNING_RATE: "learning_rate"}
    nodes = nodes_below(formula.coefficients)
    table = {**_DOUBLE, "**": "({0} ** {1})"}
    known = {node: names[node.value] for node in nodes if node.op == "name"}
    printer = Printer(table, _literal("float64"), "{0} = {1}", known, prefix="q")
    early = [node for node in nodes if all(n.value != LEARNING_RATE for n in nodes_below([node]))]
    before, inside = printer.lines(early), printer.lines(formula.coefficients)
    narrowed = (f"k{i} = number({printer.name(node)})" for i, node in enumerate(formula.coefficients))
    return before, [*inside, *narrowed]


def _elements(
    formula: Formula, function: Function, dtype: str, arrays: dict[str, str]
) -> tuple[Printer, list[str]]:
    """Return a printer of the element-wise work, and its lines."""
    graph = function.outputs[0].graph
    names = {graph.symbol(name): text for name, text in arrays.items()}
    names |= {node: f"k{i}" for i, node in enumerate(formula.coefficients)}
    table = _SINGLE if dtype == "float32" else _DOUBLE
    printer = Printer(table, _literal(dtype), "{0} = {1}", names)
    return printer, printer.lines(function.outputs)


def _table(formula: Formula, dtype: str) -> list[str]:
    """Return lines that read the coefficients."""
    count = len(formula.coefficients)
    lines = [f"k = vector(table, {count}, REAL)"] if count else []
    return lines + [f"k{i} = np.{dtype}(k[{i}])" for i in range(count)]


def _literal(dtype: str) -> Callable[[float], str]:
    return lambda value: f"np.{dtype}({value!r})"


def _filled(template: str, dtype: str, **parts: list[str] | str | int) -> str:
    """Return the text of a kernel; a list of lines takes the indentation of its place."""
    found = ""
    for line in (_HEAD + template).splitlines(keepends=True):
        indent, _, name = line.rstrip().partition("$")
        lines = parts.get(name)
        if isinstance(lines, list):
            found += "".join(f"{indent}{each}\n" for each in lines)
        else:
            found += Template(line).substitute(parts, dtype=dtype)
    return found
