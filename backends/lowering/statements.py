"""Expressions as assignments, one for each node: what the printers of scalar code share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from .expressions import COMPARISONS, Expr

Table = Mapping[str, str]
"""How each function is written; `{0}` is the first argument."""


class Printer:
    """Writes expressions as assignments to numbered names.

    Parameters
    ----------
    table : Table
        Of functions; operators are written as they are.
    number : callable
        From a constant to its text.
    assign : str
        How a name is made: `{0} = {1}`, or with a type.
    names : dict
        Texts of nodes that are there already, by node.
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
        """Return the assignments that expressions need and that are not written yet, in order."""
        found: list[str] = []

        def visit(node: Expr) -> None:
            if id(node) in self._names or node.op == "number":
                return
            for arg in node.args:
                visit(arg)
            text = self._text(node)
            if node.op in COMPARISONS:  # no assignment: the type of a comparison is another one
                self._names[id(node)] = text
                return
            name = f"{self._prefix}{len(self._names)}"
            found.append(self._assign.format(name, text))
            self._names[id(node)] = name

        for output in outputs:
            visit(output)
        return found

    def name(self, node: Expr) -> str:
        """Return the text that stands for a node, after `lines` of it."""
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
    """Return lines as text, `depth` levels in."""
    return "".join(f"{'    ' * depth}{line}\n" for line in lines)
