"""Expressions as NumPy passes: ufuncs with `out=` into given or reused buffers.

Each result goes to the output's own buffer, over an argument that is not needed any more, or to a temporary.
After the first call nothing is allocated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .expressions import COMPARISONS, Expr, in_order

Passes = Callable[..., tuple[Any, ...]]

_UFUNCS = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "**": "power",
    "neg": "negative",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "==": "equal",
    "!=": "not_equal",
    "abs": "absolute",
    **{name: name for name in ("exp", "log", "log1p", "expm1", "sin", "cos", "tanh", "sqrt", "sign")},
    **{name: name for name in ("maximum", "minimum", "clip")},
}


def numpy_passes(
    outputs: Sequence[Expr],
    coefficients: Sequence[Expr],
    *,
    places: dict[str, str],
    targets: Sequence[str | None],
    writable: Sequence[str] = (),
) -> Passes:
    """Return a function (reuse, coefficients, *buffers) that computes and returns the outputs.

    Parameters
    ----------
    places : dict
        The buffer of each input; all buffers have one shape.
    targets : sequence of str or None
        The buffer of each output; None allows any.
    writable : sequence of str
        Other buffers that may be overwritten.
    """
    buffers = list(dict.fromkeys([*places.values(), *(t for t in targets if t is not None)]))
    writer = _Writer(coefficients, places, buffers, {*writable, *(t for t in targets if t is not None)})
    text = writer.text(outputs, targets)
    scope: dict[str, Any] = {name: getattr(np, name) for name in (*_UFUNCS.values(), "copyto", "logical_not")}
    scope |= {"bool_": np.bool_, "int8": np.int8, "int_of": {4: np.int32, 8: np.int64}}
    exec(compile(text, f"<passes of {outputs[0].graph.owner}>", "exec"), scope)  # runs only our own text
    passes: Passes = scope["passes"]
    passes.__doc__ = text
    return passes


class _Writer:
    """Writes the text of one function, pass by pass."""

    def __init__(
        self, coefficients: Sequence[Expr], places: dict[str, str], buffers: list[str], writable: set[str]
    ) -> None:
        self.places, self.buffers, self.writable = places, buffers, writable
        self.scalars = {id(node): f"k{i}" for i, node in enumerate(coefficients)}
        self.lines: list[str] = []
        self.made: dict[str, str] = {}  # temporaries, with the expressions that make them
        self.at: dict[int, str] = {}  # the buffer of each node
        self.left: Counter[int] = Counter()  # remaining uses of each node
        self.targets: set[str] = set()
        self.outputs: set[int] = set()

    def text(self, outputs: Sequence[Expr], targets: Sequence[str | None]) -> str:
        """Return the source of the function."""
        order = in_order(outputs)
        self.left.update(id(arg) for node in order for arg in node.args)
        self.left.update(map(id, outputs))
        self.targets = {t for t in targets if t is not None}
        self.outputs = set(map(id, outputs))
        wanted = {id(o): t for o, t in zip(outputs, targets, strict=True) if t is not None and not o.is_scalar}
        self.at = {id(node): self.places[node.value] for node in order if node.op == "name"}
        for node in order:
            if node.op != "name":
                self._pass(node, wanted.get(id(node)))
        found = [self._settled(output, target) for output, target in zip(outputs, targets, strict=True)]
        head = ["".join(f"{name}, " for name in self.scalars.values()) + "= k"] if self.scalars else []
        head += [f"{name} = {made}" for name, made in self.made.items()]
        body = "".join(f"    {line}\n" for line in [*head, *self.lines, f"return {', '.join(found)},"])
        return f"def passes(reuse, k, {', '.join(self.buffers)}):\n{body}"

    def _settled(self, output: Expr, target: str | None) -> str:
        """Return the buffer of an output, after a copy into its target if needed."""
        if output.is_scalar:
            target = target or self._temporary("t")
            self.lines.append(f"copyto({target}, {self._name(output)})")
            return target
        place = self.at[id(output)]
        if target is None or place == target:
            return place
        self.lines.append(f"copyto({target}, {place})")
        return target

    def _pass(self, node: Expr, wanted: str | None) -> None:
        names = [self._name(arg) for arg in node.args]
        for arg in node.args:
            self.left[id(arg)] -= 1
        is_mask = node.op in COMPARISONS
        own = [] if is_mask else [self.at[id(arg)] for arg in node.args if id(arg) in self.at]
        if node.op == "where":  # reads the first alternative after it writes the second
            own = own[-1:] if not node.args[2].is_scalar else []
        avoid = {names[1]} if node.op == "where" and not _is_masked(node) else set()
        if id(node) in self.outputs:  # not in the target of another output
            avoid |= self.targets - {wanted}
        if _is_masked(node):
            own = [self.at[id(node.args[1])]]
        target = self._target(wanted, own, avoid, "mask" if is_mask else "t")
        self.lines += self._statements(node, names, target)
        self.at[id(node)] = target

    def _target(self, wanted: str | None, own: list[str], avoid: set[str], kind: str) -> str:
        """Return a buffer for a result: the wanted one, an argument's, or any free one."""
        live = {self.at[key] for key, count in self.left.items() if count > 0 and key in self.at}
        free = [
            name
            for name in (*([wanted] if wanted else []), *own, *self.buffers, *self.made)
            if name not in live and name not in avoid
        ]
        for name in free:
            if kind == "t" and (name in self.writable or name.startswith("t_")):
                return name
            if kind == "mask" and name.startswith("mask_"):
                return name
        return self._temporary(kind)

    def _temporary(self, kind: str) -> str:
        name, like = f"{kind}_{len(self.made)}", self.buffers[0]
        dtype = "bool_" if kind == "mask" else f"{like}.dtype"
        self.made[name] = f"reuse({name!r}, {like}.shape, {dtype})"
        return name

    def _name(self, node: Expr) -> str:
        if node.op == "number":
            return repr(node.value)
        return self.scalars[id(node)] if node.is_scalar else self.at[id(node)]

    def _statements(self, node: Expr, names: list[str], out: str) -> list[str]:
        op = node.op
        if op == "where":
            if _is_masked(node):
                # Bits times 0 or 1: NaN and infinity also become 0. NumPy casts bytes faster than booleans.
                to = "bits" if out == names[1] else f"{out}.view(bits.dtype)"
                return [
                    f"bits = {names[1]}.view(int_of[{out}.itemsize])",
                    f"multiply(bits, {names[0]}.view(int8), {to})",
                ]
            first = [] if out == names[2] else [f"copyto({out}, {names[2]})"]
            return [*first, f"copyto({out}, {names[1]}, where={names[0]})"]
        if op in ("maximum", "minimum") and "0.0" in names:
            # NumPy is more than twice as fast with an array of zeros as with a scalar zero.
            self.made["zeros"] = f"reuse('zeros', {self.buffers[0]}.shape, {self.buffers[0]}.dtype)"
            names = ["zeros" if name == "0.0" else name for name in names]
        to = f"out={out}" if op in ("maximum", "minimum") else out
        return [f"{_UFUNCS[op]}({', '.join(names)}, {to})"]


def _is_masked(node: Expr) -> bool:
    """Whether a node is `where(condition, x, 0)` of an element-wise x."""
    return (
        node.op == "where"
        and not node.args[0].is_scalar
        and not node.args[1].is_scalar
        and repr(node.args[2].value) == "0.0"
    )
