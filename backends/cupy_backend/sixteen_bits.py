"""Activations that are kept in 16 bits: who is, casts from and to float32, and copies of the parameters."""

from __future__ import annotations

import math

import numpy as np

from ..dispatch import FusedUnavailableError
from ..protocols import Array
from .kernels import blocks_for
from .storage import STORED
from .strides import C_TYPES, member_stride, members_of
from .sums import Sums


class SixteenBits(Sums):
    """What a precision of 16 bits changes; see `storage` for the types."""

    precision: str

    @property
    def _stored(self) -> str:
        """The dtype of 16 bits in which activations of float32 networks are kept, or an empty string."""
        return "" if self.fused == "never" else STORED.get(self.precision, "")

    def stored_dtype(self, dtype: str) -> str:
        """See `Backend.stored_dtype`."""
        return (dtype == "float32" and self._stored) or dtype

    def as_numbers(self, array: Array) -> Array:
        """See `Backend.as_numbers`: the words of bfloat16 would be taken for whole numbers."""
        return self._cast(array, self._new(array.shape, np.float32)) if self._is_stored(array) else array

    def _is_stored(self, array: Array | None) -> bool:
        return array is not None and str(array.dtype) == self._stored

    def parameters_changed(self, parameters: Array) -> None:
        """Copy the parameters into 16 bits anew, where products read them so."""
        if self._stored and str(parameters.dtype) == "float32":
            compute_copy = self._compute_copies.of(parameters)
            if compute_copy is None:
                compute_copy = self._new(parameters.shape, self._stored)
            self._compute_copies.keep(parameters, compute_copy)
            self._cast(parameters, compute_copy, core=parameters.ndim)

    def _shadow(self, parameter: Array) -> Array:
        """W or b in 16 bits: from the copy of its flat buffer, or cast now where it has none."""
        found = self._compute_copies.find(parameter)
        return self._cast(parameter, self._new(parameter.shape, self._stored)) if found is None else found

    def _widened(self, purpose: str, array: Array) -> Array:
        """The array in float32: itself, or a copy in memory for that purpose."""
        if not self._is_stored(array):
            return array
        return self._cast(array, self._reuse(f"{purpose}, widened", array.shape, np.float32))

    def _cast(self, source: Array, target: Array, core: int = 2) -> Array:
        """Round the numbers of packed arrays of equal shape to another type; the result is `target`."""
        self._masks.forget(target)
        count, members = math.prod(source.shape[-core:]), members_of(source.shape, core)
        types = (C_TYPES[str(source.dtype)], C_TYPES[str(target.dtype)])
        places = (source, member_stride(source, core), target, member_stride(target, core), count)
        self.launch("cast", types, (blocks_for(count), members), *places)
        return target

    def _unless_16_bits(self, fault: str, *arrays: Array | None) -> str:
        """The fault; raised where generic bodies would take words of 16 bits for whole numbers."""
        if fault and any(self._is_stored(array) for array in arrays):
            raise FusedUnavailableError(
                f"precision {self.precision} has fused bodies alone, and this one {fault}; take float32"
            )
        return fault
