"""Precisions of 16 bits: their types, and copies of the parameters for products to read.

CuPy lacks bfloat16, so its words are stored as uint16, which only our kernels and cublasLt read as numbers.
CuPy has float16.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..protocols import Array

STORED = {"bf16": "uint16", "fp16": "float16"}
"""The dtype of stored activations by precision."""

PRODUCT_TYPES = {"float32": "float32", "float64": "float64", "uint16": "bfloat16", "float16": "float16"}
"""cublasLt's types by dtype of the operands."""

LOSS_SCALES = {"fp16": 2.0**16}
"""Factors of gradients in the backward pass; the optimizer divides by them.

float16 has numbers from 6e-8 to 65 504, and the gradient of a mean over a picture may be as small as 6e-8. With
2^16 the largest gradient of a batch of 16 pixels or more is below 1e4, and a typical one of 16 384 pixels above
1e-4. An overflow shows as NaN and ends the run as any divergence."""


class ComputeCopies:
    """Copies of flat parameter buffers in 16 bits, found by the addresses of W and b in the buffer."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Array, dict[Any, Array]]] = {}

    def of(self, parameters: Array) -> Array | None:
        """Return the copy of a flat buffer, or None."""
        known = self._known.get(parameters.data.ptr)
        is_known = known is not None and known[0]() is not None and known[1].shape == parameters.shape
        return known[1] if known is not None and is_known else None

    def of_part(self, part: Array) -> Array | None:
        """Return the copy of a part (*E, n) of a flat buffer, or None."""
        found = self.find(part[..., None, :])
        return None if found is None else found[..., 0, :]

    def keep(self, parameters: Array, compute_copy: Array) -> None:
        """Keep the copy of a flat buffer (*E, P); drop those of freed buffers."""
        self._known = {start: known for start, known in self._known.items() if known[0]() is not None}
        self._known[parameters.data.ptr] = (weakref.ref(parameters), compute_copy, {})

    def find(self, view: Array) -> Array | None:
        """Return the copy of a view (*E, n_in, n_out) into a flat buffer, or None."""
        place = view.data.ptr
        for start, (flat, compute_copy, views) in self._known.items():
            parameters = flat()
            if parameters is None or not 0 <= place - start < parameters.nbytes:
                continue
            if (place, view.shape) not in views:
                found = _same_place(view, (place - start) // view.itemsize, compute_copy)
                if found is None:
                    return None
                views[place, view.shape] = found
            return views[place, view.shape]
        return None

    def memory(self) -> list[Array]:
        """Return all copies, for a graph to keep alive."""
        return [compute_copy for _, compute_copy, _ in self._known.values()]


def _same_place(view: Array, offset: int, compute_copy: Array) -> Array | None:
    """Return the part of a copy (*E, P) at an offset in the shape of a view, or None."""
    core, members = view.shape[-2:], view.shape[:-2]
    size = core[0] * core[1]
    if members != compute_copy.shape[:-1] or offset + size > compute_copy.shape[-1]:
        return None
    if members and view.strides[0] != compute_copy.shape[-1] * view.itemsize:
        return None
    return compute_copy[..., offset : offset + size].reshape(view.shape)
