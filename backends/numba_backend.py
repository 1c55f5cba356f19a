"""The CPU backend with its element-wise work, and whole layers of ReLU, compiled by Numba."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from typing import Any

import numpy as np

from .base import Activation, Array
from .dispatch import fused
from .numpy_backend import NumpyBackend


class NumbaBackend(NumpyBackend):
    """NumPy's BLAS and row blocks, Numba's loops. Parameters as of `NumpyBackend`."""

    name = "numba"

    @classmethod
    def why_unavailable(cls, index: int = 0) -> str:
        """Return why this backend cannot run here, or an empty string where it can."""
        if importlib.util.find_spec("numba") is None:
            return "Numba is not installed; try: pip install 'coordfit[fast]'"
        return ""

    def __init__(self, fused: str = "auto", threads: int | None = None) -> None:
        super().__init__(fused, threads)
        from . import numba_layers, numba_loops  # half a second that other backends do not pay

        self.loops = numba_loops.NUMBA_LOOPS
        self._compiled = numba_layers
        self._gemm = numba_layers.find_gemm([library.dynlib for library in self._blas.lib_controllers])

    def describe(self) -> dict[str, Any]:
        """As of NumPy's backend, the compiler, and whether compiled code found the BLAS."""
        return super().describe() | {
            "numba": metadata.version("numba"),
            "compiled_layers": self._gemm is not None,
        }

    def _gemm_for(self, *arrays: Array) -> Any:
        """What compiled code needs to call the BLAS, or None where it cannot take these arrays."""
        dtype = arrays[0].dtype
        if self._gemm is None or any(a.dtype != dtype or a.ndim > 3 for a in arrays):
            return None
        return self._gemm.argument(dtype)

    @fused("linear", supports=NumpyBackend._linear_is_known)
    def _linear(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: Activation,
        *,
        out: Array | None = None,
        out_kept: Array | None = None,
    ) -> tuple[Array, Array]:
        gemm = self._gemm_for(x, W, b) if activation.name in ("relu", "identity") else None
        if gemm is None:
            return super()._linear(x, W, b, activation, out=out, out_kept=out_kept)
        y = out
        if y is None or not y.flags.c_contiguous:
            y = np.empty((*W.shape[:-2], x.shape[-2], W.shape[-1]), W.dtype)
        self._use_blas_threads_for(x.shape[-2], *W.shape[-2:])
        vectors = self._compiled.vectors(b, self._reuse)
        self._compiled.forward(
            gemm, _of_members(x), _of_members(W), vectors, _of_members(y), activation.name == "relu"
        )
        return y, y

    @fused("linear_backward", supports=NumpyBackend._backward_is_known)
    def _linear_backward(
        self,
        dz: Array,
        x: Array,
        W: Array,
        *,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        below: tuple[Activation, Array] | None = None,
        out: Array | None = None,
    ) -> Array | None:
        gemm = self._gemm_for(dz, x, W, dW)
        if gemm is None or not _rows_are_plain(dW):
            return super()._linear_backward(dz, x, W, dW=dW, db=db, accumulate=accumulate, below=below, out=out)
        dx = y = None
        if below is not None:
            dx = out
            if dx is None or not dx.flags.c_contiguous:
                dx = np.empty((*W.shape[:-2], dz.shape[-2], W.shape[-2]), W.dtype)
            y = below[1] if below[0].name == "relu" else None
        self._use_blas_threads_for(dz.shape[-2], *W.shape[-2:])
        sums = self._reuse("sums", (dW[..., 0, 0].size, db.shape[-1]), db.dtype)
        self._compiled.backward(
            gemm,
            _of_members(dz),
            _of_members(x),
            _of_members(W),
            _of_members(dW),
            sums,
            accumulate,
            None if dx is None else _of_members(dx),
            None if y is None else np.ascontiguousarray(_of_members(y)),
        )
        if accumulate:
            db += sums.reshape(db.shape)
        else:
            db[...] = sums.reshape(db.shape)
        if below is None or y is not None:
            return dx
        return self.loops.backward[below[0].name](below[0], dx, below[1], self._reuse)


def _rows_are_plain(a: Array) -> bool:
    """Whether the last two axes are contiguous, as those of a member in a flat buffer are."""
    return bool(a.flags.c_contiguous or (a.ndim == 3 and a[0].flags.c_contiguous))


def _of_members(a: Array) -> Array:
    """(N, n) or (E, N, n) as three axes, the last two contiguous: a view where that can be, else a copy."""
    if not _rows_are_plain(a):
        a = np.ascontiguousarray(a)
    return a[None] if a.ndim == 2 else a
