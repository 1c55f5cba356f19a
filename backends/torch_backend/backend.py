"""The smallest backend: PyTorch tensors with the generic bodies.

It shows the needs of a new array library: the array API standard, writing into views, and methods that cross
between host and device. It claims no speed.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import Backend
from ..protocols import Array


class TorchBackend(Backend):
    """PyTorch on its default device, which `torch.set_default_device` changes.

    Parameters
    ----------
    fused : {"auto", "always", "never"}
        See `Backend`. `always` raises at the first primitive, since none is fused.
    """

    name = "torch"

    def __init__(self, fused: str = "auto") -> None:
        super().__init__(fused)
        self._torch = importlib.import_module("torch")
        self.xp = importlib.import_module("array_api_compat.torch")
        self._device = self._torch.get_default_device()
        self.device = str(self._device)

    def describe(self) -> dict[str, Any]:
        """Return library, version and device."""
        return super().describe() | {"library": self._torch.__version__}

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """Return a tensor on the device: a copy of a host array, which may be read-only."""
        if not isinstance(array, self._torch.Tensor):
            array = np.array(array)
        return self.xp.asarray(array, dtype=self.dtype(dtype), device=self._device)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Return a copy on the host."""
        return np.array(array.numpy(force=True))

    def arange(self, start: int, stop: int) -> Array:
        """Return integers from `start` up to `stop`."""
        return self.xp.arange(start, stop, dtype=self.dtype("int64"), device=self._device)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return a tensor of zeros."""
        return self.xp.zeros(shape, dtype=self.dtype(dtype), device=self._device)

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Keep PyTorch from recording gradients: they are computed by hand."""
        with self._torch.no_grad():
            yield
