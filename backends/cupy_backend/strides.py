"""Memory layouts of arrays that kernels and products take: an address, and a stride between members.

An operand has `core` axes (two for a matrix, one for a flat buffer) after at most one ensemble axis. It is
*packed* if the core axes are contiguous; gaps between members are allowed, as in views of the flat parameter
buffer.
"""

from __future__ import annotations

from typing import Any

from ..protocols import Array

_C_TYPES = {"float32": "float", "float64": "double", "uint16": "bf16", "float16": "half"}
"""The kernels' types by dtype; uint16 holds the words of bfloat16."""

_COMPUTED = {"float32", "float64"}

MAX_MEMBERS = 65_535  # CUDA's limit for the second axis of a launch


def is_packed(array: Array, core: int = 2) -> bool:
    """Whether the last `core` axes are contiguous."""
    expected = array.itemsize
    for size, stride in zip(array.shape[: -core - 1 : -1], array.strides[: -core - 1 : -1], strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def c_types(*arrays: Array) -> tuple[str, ...]:
    """Return the kernels' types of arrays."""
    return tuple(_C_TYPES[str(array.dtype)] for array in arrays)


def member_stride(array: Array, core: int = 2) -> int:
    """Return the elements from one member to the next; 0 if all share the array."""
    if array.ndim == core or array.shape[0] == 1:
        return 0
    return int(array.strides[0]) // int(array.itemsize)


def strided(*arrays: Array | None, core: int = 2) -> list[Any]:
    """Return each array and its `member_stride`, as kernels take them; None becomes a null pointer and 0."""
    pairs = ((None, 0) if array is None else (array, member_stride(array, core)) for array in arrays)
    return [argument for pair in pairs for argument in pair]


def ensemble_of(*arrays: Array, core: int = 2) -> tuple[int, ...]:
    """Return E of a result: the largest ensemble axis of the operands, or ()."""
    axes = [array.shape[:-core] for array in arrays if array.ndim > core]
    return max(axes, default=())


def members_of(shape: tuple[int, ...], core: int = 2) -> int:
    """Return the members of a result of this shape, 1 for a single network."""
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
        if len(counts) > 1 or max(counts, default=1) > MAX_MEMBERS:
            return f"takes ensembles of one size, at most {MAX_MEMBERS}, not {sorted(counts)}"
    if min((array.ndim - core for array in given), default=0) < 0:
        return f"takes arrays of {core} axes or more"
    return "" if all(array.size for array in given) else "takes no empty arrays"


def fault_of_written(*arrays: Any, core: int = 2) -> str:
    """Return why these arrays cannot be written in place, or an empty string."""
    if all(is_packed(array, core) for array in arrays if array is not None):
        return ""
    return "writes in place only into contiguous memory"
