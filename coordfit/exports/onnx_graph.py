"""Record formulas that are written on `xp` as the nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import OutputError
from .arrays import stored

# Names on `xp`, and their operators.
_SAME = ("abs", "exp", "log", "sin", "cos", "tanh", "sqrt", "sign", "floor", "round", "clip")
_FUNCTIONS = {"maximum": "Max", "minimum": "Min", **{name: name.capitalize() for name in _SAME}}


def import_onnx() -> Any:
    """Return the package `onnx`; OutputError without it."""
    try:
        import onnx  # optional and slow
    except ImportError as error:
        raise OutputError(
            f"an .onnx file needs the package onnx ({error}): pip install 'coordfit[export]'"
        ) from error
    return onnx


def _method(kind: str, *, swapped: bool = False, dtype: str | None = None) -> Callable[[Value, Any], Value]:
    def method(self: Value, other: Any) -> Value:
        pair = (other, self) if swapped else (self, other)
        return self.graph.node(kind, *pair, dtype=dtype)

    return method


class Value:
    """A tensor of a graph; arithmetic with it adds nodes.

    A comparison, of dtype bool, counts as 1 or 0 of the type `number` in arithmetic.
    """

    __array_ufunc__ = None  # so that a NumPy number on the left defers to this class

    def __init__(self, graph: Graph, name: str, dtype: str, number: str | None = None) -> None:
        self.graph, self.name, self.dtype, self.number = graph, name, dtype, number or dtype

    def __neg__(self) -> Value:
        return self.graph.node("Neg", self)

    __add__, __radd__ = _method("Add"), _method("Add", swapped=True)
    __sub__, __rsub__ = _method("Sub"), _method("Sub", swapped=True)
    __mul__, __rmul__ = _method("Mul"), _method("Mul", swapped=True)
    __truediv__, __rtruediv__ = _method("Div"), _method("Div", swapped=True)
    __pow__, __rpow__ = _method("Pow"), _method("Pow", swapped=True)
    __lt__, __le__ = _method("Less", dtype="bool"), _method("LessOrEqual", dtype="bool")
    __gt__, __ge__ = _method("Greater", dtype="bool"), _method("GreaterOrEqual", dtype="bool")


class Graph:
    """The nodes and constants of a graph; also the `xp` of a formula.

    Numbers take the type of the tensor that they are combined with.
    """

    def __init__(self) -> None:
        self.onnx = import_onnx()
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._parameters: dict[str, Value] = {}

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name not in _FUNCTIONS:
            raise AttributeError(f"a formula in an .onnx file has no function {name!r}")
        return lambda *inputs: self.node(_FUNCTIONS[name], *inputs)

    def node(self, kind: str, *inputs: Value | float, dtype: str | None = None, **attributes: Any) -> Value:
        """Add a node and return its output, of the first tensor's type unless `dtype` says another."""
        own = next(value.number for value in inputs if isinstance(value, Value))
        values = [value if isinstance(value, Value) else self.constant(value, own) for value in inputs]
        output = Value(
            self, f"{kind.lower()}_{len(self.nodes)}", dtype or own, own if dtype == "bool" else None
        )
        if kind not in ("Cast", "Where"):
            values = [self.cast(value, own) if value.dtype == "bool" else value for value in values]
        names = [value.name for value in values]
        self.nodes.append(self.onnx.helper.make_node(kind, names, [output.name], **attributes))
        return output

    def constant(self, array: ArrayLike, dtype: str, name: str = "") -> Value:
        """Return a stored tensor; equal ones are stored once."""
        typed: NDArray[Any] = np.asarray(array).astype(dtype)
        key = (dtype, typed.shape, typed.tobytes())
        if key not in self._constants:
            name = name or f"constant_{len(self.initializers)}"
            self.initializers.append(self.onnx.numpy_helper.from_array(typed, name))
            self._constants[key] = Value(self, name, dtype)
        return self._constants[key]

    def parameter(self, array: NDArray[Any], dtype: str, name: str = "") -> Value:
        """Return a stored tensor that may have fewer bits in the file than in the computation."""
        half = stored(array)
        constant = self.constant(half, "float16" if half.dtype == np.float16 else dtype, name)
        if constant.name not in self._parameters:
            self._parameters[constant.name] = self.cast(constant, dtype)
        return self._parameters[constant.name]

    def cast(self, value: Value, dtype: str) -> Value:
        """Return a tensor in another type."""
        if value.dtype == dtype:
            return value
        to = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", value, dtype=dtype, to=to)

    def where(self, condition: Value, yes: Value | float, no: Value | float) -> Value:
        """Return one value where the condition is true or not 0, and another elsewhere."""
        return self.node("Where", self.cast(condition, "bool"), yes, no)

    def zeros_like(self, value: Value) -> Value:
        """Return 0, which broadcasts."""
        return self.constant(0.0, value.dtype)

    def ones_like(self, value: Value) -> Value:
        """Return 1, which broadcasts."""
        return self.constant(1.0, value.dtype)

    def square(self, value: Value) -> Value:
        """Return `x^2`."""
        return self.node("Mul", value, value)

    def log1p(self, value: Value) -> Value:
        """Return `log(1 + x)`."""
        return self.node("Log", self.node("Add", 1.0, value))

    def expm1(self, value: Value) -> Value:
        """Return `exp(x) - 1`."""
        return self.node("Sub", self.node("Exp", value), 1.0)
