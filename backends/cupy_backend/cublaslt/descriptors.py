"""The opaque objects of cublasLt, destroyed with their Python objects, and their attributes."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any, NamedTuple

from .library import Library


class Attribute(NamedTuple):
    """An attribute's kind of object, number and C type; the library checks the type's size."""

    kind: str
    number: int
    ctype: Any


TRANSPOSE_A = Attribute("MatmulDesc", 3, ctypes.c_int32)
TRANSPOSE_B = Attribute("MatmulDesc", 4, ctypes.c_int32)
EPILOGUE = Attribute("MatmulDesc", 7, ctypes.c_uint32)
# The vector is the bias to add, or the gradient of the bias to write.
VECTOR_POINTER = Attribute("MatmulDesc", 8, ctypes.c_void_p)
VECTOR_BATCH_STRIDE = Attribute("MatmulDesc", 10, ctypes.c_int64)
MASK_POINTER = Attribute("MatmulDesc", 11, ctypes.c_void_p)
MASK_LEADING_DIMENSION = Attribute("MatmulDesc", 12, ctypes.c_int64)  # in bits
MASK_BATCH_STRIDE = Attribute("MatmulDesc", 13, ctypes.c_int64)  # in bits
BATCH_COUNT = Attribute("MatrixLayout", 5, ctypes.c_int32)
BATCH_STRIDE = Attribute("MatrixLayout", 6, ctypes.c_int64)  # in elements
MAX_WORKSPACE_BYTES = Attribute("MatmulPreference", 1, ctypes.c_uint64)
MIN_ALIGNMENT_A = Attribute("MatmulPreference", 5, ctypes.c_uint32)  # in bytes, and so the three below
MIN_ALIGNMENT_B = Attribute("MatmulPreference", 6, ctypes.c_uint32)
MIN_ALIGNMENT_C = Attribute("MatmulPreference", 7, ctypes.c_uint32)
MIN_ALIGNMENT_D = Attribute("MatmulPreference", 8, ctypes.c_uint32)

ALGORITHM_FACTS = {
    "algorithm": Attribute("MatmulAlgoConfig", 0, ctypes.c_int32),
    "tile": Attribute("MatmulAlgoConfig", 1, ctypes.c_uint32),
    "splits": Attribute("MatmulAlgoConfig", 2, ctypes.c_int32),  # of the inner axis
    "cluster": Attribute("MatmulAlgoConfig", 8, ctypes.c_uint16),
}
"""Readable properties of an algorithm, as numbers that the library's header explains."""


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
        kind, number, ctype = attribute
        if kind != self.kind or self._set is None:
            raise ValueError(f"{attribute} is no attribute of a {self.kind or 'handle'}")
        cell = ctype(value)
        if status := self._set(self.value, number, ctypes.byref(cell), ctypes.sizeof(cell)):
            raise self.library.error(self._setter, status)

    def close(self) -> None:
        """Destroy the object; further calls do nothing."""
        self._finalizer()
