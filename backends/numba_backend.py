"""The CPU backend with its element-wise work compiled by Numba; all else is NumPy's backend."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from typing import Any

from .numpy_backend import NumpyBackend


class NumbaBackend(NumpyBackend):
    """NumPy's products and row blocks, Numba's loops. Parameters as of `NumpyBackend`."""

    name = "numba"

    @classmethod
    def why_unavailable(cls, index: int = 0) -> str:
        """Return why this backend cannot run here, or an empty string where it can."""
        if importlib.util.find_spec("numba") is None:
            return "Numba is not installed; try: pip install 'coordfit[fast]'"
        return ""

    def __init__(self, fused: str = "auto", threads: int | None = None) -> None:
        super().__init__(fused, threads)
        from .numba_loops import NUMBA_LOOPS  # half a second that other backends do not pay

        self.loops = NUMBA_LOOPS

    def describe(self) -> dict[str, Any]:
        """As of NumPy's backend, and the compiler."""
        return super().describe() | {"numba": metadata.version("numba")}
