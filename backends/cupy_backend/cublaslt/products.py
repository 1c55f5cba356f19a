"""Products `out = left right` of row-major matrices, for K members at once, independent of the library.

Strides count elements from one member to the next, 0 for an operand that all members share. `layer_products`
has the products of a network.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import NamedTuple

DATA_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
ITEM_BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_32F_FAST_TF32 = 68, 70, 77


class Types(NamedTuple):
    """Element types of operands and result, and whether float32 operands are rounded to TF32.

    Sums are in float32, or in float64 for float64. The bias and its gradient have the type of the result.
    """

    operand: str
    output: str
    tf32: bool = False

    @property
    def compute(self) -> int:
        """The library's number for the arithmetic."""
        if self.operand == "float64":
            return _COMPUTE_64F
        return _COMPUTE_32F_FAST_TF32 if self.tf32 else _COMPUTE_32F

    @property
    def scale(self) -> str:
        """The type of alpha and beta, and of the sums."""
        return "float64" if self.operand == "float64" else "float32"

    def for_gradients(self) -> Types:
        """Return these operands with a float32 result, or float64 for float64, to keep small gradients."""
        return self._replace(output=self.scale)

    def fault(self) -> str:
        """Return why this combination is invalid, or an empty string."""
        if self.operand not in DATA_TYPES:
            return f"there is no operand type {self.operand!r}; known: {', '.join(DATA_TYPES)}"
        if self.tf32 and self.operand != "float32":
            return f"TF32 is for float32 operands, not {self.operand}"
        if self.output not in (self.operand, self.scale):
            return f"{self.operand} operands give no {self.output} result"
        return ""

    def __str__(self) -> str:
        operand = "tf32" if self.tf32 else self.operand
        return operand if self.output == self.operand else f"{operand} -> {self.output}"


PRECISIONS = {
    "float64": Types("float64", "float64"),
    "float32": Types("float32", "float32"),
    "tf32": Types("float32", "float32", tf32=True),
    "bfloat16": Types("bfloat16", "bfloat16"),
    "float16": Types("float16", "float16"),
}
"""Types of activations by precision; `for_gradients` gives those of dW."""


class Epilogue(enum.IntEnum):
    """Operations on a product before it is stored, by the library's numbers.

    The library's ReLU turns NaN into 0, while NumPy's maximum keeps it: divergence shows in the loss and the
    gradients, never in the activations of a fused layer.
    """

    NONE = 1
    RELU = 2
    BIAS = 4
    RELU_BIAS = RELU | BIAS
    BGRADA = 256
    """Writes the sum of the right operand (the library's A) over the inner axis, without beta."""

    @property
    def has_vector(self) -> bool:
        """Whether it reads a bias or writes its gradient."""
        return bool(self & (Epilogue.BIAS | Epilogue.BGRADA))


class Strides(NamedTuple):
    """Elements from one member to the next; 0 if all members share the array."""

    left: int = 0
    right: int = 0
    out: int = 0
    vector: int = 0


_ONE_MEMBER = Strides()


class Pointers(NamedTuple):
    """Device addresses of operands, result, bias or its gradient, and addend."""

    left: int
    right: int
    out: int
    vector: int = 0
    addend: int = 0

    def plain(self) -> Pointers:
        """Return those of `Product.plain`."""
        return self._replace(vector=0, addend=0)


@dataclass(frozen=True)
class Product:
    """A product `out = alpha op(left) op(right) + beta C` and an epilogue, for each member.

    C is an addend that lies as `out` does, or `out` itself with `accumulate`, where beta is 1.

    Row-major shapes: out (rows, columns), left (rows, inner) or its transpose, right (inner, columns) or its
    transpose; every matrix is contiguous inside a member. Equal products share a plan.

    Raises
    ------
    ValueError
        Sizes, types, strides or epilogue are invalid.
    """

    name: str
    rows: int
    columns: int
    inner: int
    types: Types
    transpose_left: bool = False
    transpose_right: bool = False
    epilogue: Epilogue = Epilogue.NONE
    accumulate: bool = False
    alpha: float = 1.0
    beta: float = 0.0
    members: int = 1
    strides: Strides = _ONE_MEMBER

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.inner, self.members) < 1:
            raise ValueError(f"{self} has an empty axis")
        if fault := self.types.fault():
            raise ValueError(f"{self.name}: {fault}")
        if self.epilogue == Epilogue.BGRADA and self.transpose_right:
            raise ValueError(f"{self.name}: a bias gradient is summed over a right operand as it lies")
        if self.beta and self.accumulate:
            raise ValueError(f"{self.name}: adds to its result or to another matrix, not to both")
        if self.members > 1:
            if self.strides.out < self.rows * self.columns:
                raise ValueError(f"{self}: with a stride of {self.strides.out} results overlap")
            if self.epilogue == Epilogue.BGRADA and self.strides.vector < self.columns:
                raise ValueError(f"{self}: with a stride of {self.strides.vector} bias gradients overlap")

    def __str__(self) -> str:
        ensemble = f"{self.members} x " if self.members > 1 else ""
        return f"{self.name} {ensemble}({self.rows}, {self.inner}) ({self.inner}, {self.columns})"

    def describe(self) -> dict[str, object]:
        """Return name, sizes, types and epilogue as plain data for reports."""
        return {
            "product": self.name,
            "rows": self.rows,
            "columns": self.columns,
            "inner": self.inner,
            "members": self.members,
            "types": str(self.types),
            "epilogue": self.epilogue.name,
            "accumulate": self.accumulate,
            "alpha": self.alpha,
            "beta": self.beta,
        }

    def plain(self) -> Product:
        """Return the same product without an epilogue and an addend."""
        return replace(self, epilogue=Epilogue.NONE, beta=0.0, strides=self.strides._replace(vector=0))

    def stored_shapes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Return the row-major shapes of left, right and out in memory."""
        left, right = (self.rows, self.inner), (self.inner, self.columns)
        return (
            left[::-1] if self.transpose_left else left,
            right[::-1] if self.transpose_right else right,
            (self.rows, self.columns),
        )

    def alignments(self, pointers: Pointers) -> tuple[int, int, int, int, int]:
        """Return the alignment of left, right, out, vector and addend of all members: bytes, at most 256."""
        operand, output = ITEM_BYTES[self.types.operand], ITEM_BYTES[self.types.output]
        left, right, out, vector = self.strides
        return (
            _lowest_bit(pointers.left | left * operand),
            _lowest_bit(pointers.right | right * operand),
            _lowest_bit(pointers.out | out * output),
            _lowest_bit(pointers.vector | vector * output),
            _lowest_bit(pointers.addend),
        )


def _lowest_bit(number: int) -> int:
    number |= 256
    return number & -number
