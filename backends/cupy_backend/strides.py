"""How arrays lie in device memory: what kernels and products are told of an array is an address and one stride.

An operand has `core` axes of its own (two for a matrix, one for a flat buffer) and at most one ensemble axis
before them. It is *packed* where the core axes lie as in C; between members there may be a gap, as there is
in views of the flat parameter buffer.
"""

from __future__ import annotations

from typing import Any

from ..protocols import Array

C_TYPES = {"float32": "float", "float64": "double", "uint16": "bf16", "float16": "half"}
"""The types that the kernels have for dtypes; uint16 holds the words of bfloat16."""

_COMPUTED = {"float32", "float64"}

_MOST_MEMBERS = 65_535  # CUDA's limit for the second axis of a launch


def is_packed(array: Array, core: int = 2) -> bool:
    """Whether the last `core` axes are contiguous, whatever lies between members."""
    expected = array.itemsize
    for size, stride in zip(array.shape[: -core - 1 : -1], array.strides[: -core - 1 : -1], strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def member_stride(array: Array, core: int = 2) -> int:
    """Elements from one member to the next; 0 where the array is shared by all."""
    if array.ndim == core or array.shape[0] == 1:
        return 0
    return int(array.strides[0]) // int(array.itemsize)


def ensemble_of(*arrays: Array, core: int = 2) -> tuple[int, ...]:
    """E of a result: the ensemble axis of the operand that has the most members, or ()."""
    axes = [array.shape[:-core] for array in arrays if array.ndim > core]
    return max(axes, default=())


def members_of(shape: tuple[int, ...], core: int = 2) -> int:
    """How many members a result of this shape has, 1 for a single network."""
    return int(shape[0]) if len(shape) > core else 1


def fault_of(*arrays: Any, core: int = 2, stored: str = "") -> str:
    """Return why fused bodies cannot take these arrays together, or an empty string.

    `stored` is a dtype of 16 bits that may stand for float32.
    """
    given = [array for array in arrays if array is not None]
    dtypes = {"float32" if str(array.dtype) == stored else str(array.dtype) for array in given}
    if not dtypes <= _COMPUTED:
        return f"has no fused body for {', '.join(sorted(dtypes - _COMPUTED))}"
    if len(dtypes) > 1:
        return f"takes arrays of one dtype, not of {' and '.join(sorted(dtypes))}"
    if most := max((array.ndim - core for array in given), default=0):
        if most > 1:
            return f"takes one ensemble axis, not {most}"
        counts = {array.shape[0] for array in given if array.ndim > core} - {1}
        if len(counts) > 1 or max(counts, default=1) > _MOST_MEMBERS:
            return f"takes ensembles of one size, at most {_MOST_MEMBERS}, not {sorted(counts)}"
    if min((array.ndim - core for array in given), default=0) < 0:
        return f"takes arrays of {core} axes or more"
    return "" if all(array.size for array in given) else "takes no empty arrays"


def fault_of_written(*arrays: Any, core: int = 2) -> str:
    """Return why these arrays cannot be written in place, or an empty string."""
    if all(is_packed(array, core) for array in arrays if array is not None):
        return ""
    return "writes in place only where memory is contiguous"
