"""Expressions as assignments, one for each node, for all printers of scalar code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from .expressions import COMPARISONS, Expr

Table = Mapping[str, str]
"""The text of each function; `{0}` is the first argument."""


class Printer:
    """Writes expressions as assignments to numbered names.

    Parameters
    ----------
    table : Table
        Texts of functions; operators are written as they are.
    number : callable
        Returns the text of a constant.
    assign : str
        An assignment, such as `{0} = {1}`.
    names : dict
        Texts of nodes that need no assignment.
    """

    def __init__(
        self,
        table: Table,
        number: Callable[[float], str],
        assign: str,
        names: Mapping[Expr, str],
        prefix: str = "t",
    ) -> None:
        self._table, self._number, self._assign, self._prefix = table, number, assign, prefix
        self._names = {id(node): name for node, name in names.items()}

    def lines(self, outputs: Iterable[Expr]) -> list[str]:
        """Return the assignments that expressions still need, in order."""
        found: list[str] = []

        def visit(node: Expr) -> None:
            if id(node) in self._names or node.op == "number":
                return
            for arg in node.args:
                visit(arg)
            text = self._text(node)
            if node.op in COMPARISONS:  # inlined, since its type differs
                self._names[id(node)] = text
                return
            name = f"{self._prefix}{len(self._names)}"
            found.append(self._assign.format(name, text))
            self._names[id(node)] = name

        for output in outputs:
            visit(output)
        return found

    def name(self, node: Expr) -> str:
        """Return the text of a node, after its `lines`."""
        return self._number(node.value) if node.op == "number" else self._names[id(node)]

    def _text(self, node: Expr) -> str:
        args = [self.name(arg) for arg in node.args]
        op = node.op
        if op in ("maximum", "minimum") and node.args[1].is_scalar and f"{op} of scalar" in self._table:
            op = f"{op} of scalar"
        if op in self._table:
            return self._table[op].format(*args)
        return f"({args[0]} {node.op} {args[1]})"


def indented(lines: Sequence[str], depth: int) -> str:
    """Return lines as text, indented by `depth` levels."""
    return "".join(f"{'    ' * depth}{line}\n" for line in lines)
