"""The opaque objects of cublasLt, destroyed with their Python objects, and their attributes."""

from __future__ import annotations

import ctypes
import enum
import weakref
from typing import Any

from .library import Library


class Attribute(enum.Enum):
    """An attribute: the kind of its object, its number and its C type, whose size the library checks."""

    def __init__(self, kind: str, number: int, ctype: Any) -> None:
        self.kind, self.number, self.ctype = kind, number, ctype

    TRANSPOSE_A = ("MatmulDesc", 3, ctypes.c_int32)
    TRANSPOSE_B = ("MatmulDesc", 4, ctypes.c_int32)
    EPILOGUE = ("MatmulDesc", 7, ctypes.c_uint32)
    # The vector is the bias to add, or the gradient of the bias to write.
    VECTOR_POINTER = ("MatmulDesc", 8, ctypes.c_void_p)
    VECTOR_BATCH_STRIDE = ("MatmulDesc", 10, ctypes.c_int64)
    BATCH_COUNT = ("MatrixLayout", 5, ctypes.c_int32)
    BATCH_STRIDE = ("MatrixLayout", 6, ctypes.c_int64)  # in elements
    MAX_WORKSPACE_BYTES = ("MatmulPreference", 1, ctypes.c_uint64)
    MIN_ALIGNMENT_A = ("MatmulPreference", 5, ctypes.c_uint32)  # in bytes, as the three below
    MIN_ALIGNMENT_B = ("MatmulPreference", 6, ctypes.c_uint32)
    MIN_ALIGNMENT_C = ("MatmulPreference", 7, ctypes.c_uint32)
    MIN_ALIGNMENT_D = ("MatmulPreference", 8, ctypes.c_uint32)


ALGORITHM_FACTS: dict[str, tuple[int, Any]] = {
    "algorithm": (0, ctypes.c_int32),
    "tile": (1, ctypes.c_uint32),
    "splits": (2, ctypes.c_int32),  # of the inner axis
    "cluster": (8, ctypes.c_uint16),
}
"""Readable properties of an algorithm: numbers and C types from the library's header."""


class Descriptor:
    """An object of the library, from `cublasLt<kind>Create` to `cublasLt<kind>Destroy`.

    Parameters
    ----------
    library : Library
    kind : str
        "MatmulDesc", "MatrixLayout" or "MatmulPreference"; "" is the handle, the library's state on the
        current device.
    arguments
        Arguments of Create after the result.
    """

    def __init__(self, library: Library, kind: str, *arguments: Any) -> None:
        self.library = library
        self.kind = kind
        self.value = ctypes.c_void_p()
        library.call(f"cublasLt{kind}Create", ctypes.byref(self.value), *arguments)
        self._setter = f"cublasLt{kind}SetAttribute"
        self._set = getattr(library.functions, self._setter, None)
        destroy = getattr(library.functions, f"cublasLt{kind}Destroy")
        self._finalizer = weakref.finalize(self, destroy, self.value)
        # At the end of Python, CUDA may be gone already; the process frees everything anyway.
        self._finalizer.atexit = False

    def set(self, attribute: Attribute, value: int) -> None:
        """Set an attribute of this kind of object."""
        if attribute.kind != self.kind or self._set is None:
            raise ValueError(f"{attribute} is no attribute of a {self.kind or 'handle'}")
        cell = attribute.ctype(value)
        if status := self._set(self.value, attribute.number, ctypes.byref(cell), ctypes.sizeof(cell)):
            raise self.library.error(self._setter, status)

    def close(self) -> None:
        """Destroy the object; further calls do nothing."""
        self._finalizer()
