"""Array backends: one small object that joins an array module with the primitives a training step needs.

This package is an implementation name of `coordfit`, laid beside it so that it stands alone: it imports
numpy and cupy, never coordfit. Use `coordfit.get_backend`; `coordfit/_backends.py` guards its import.
"""

from .base import Backend
from .dispatch import FUSED_MODES, FusedUnavailableError
from .lowering import FormulaError
from .protocols import (
    Activation,
    Array,
    DeviceState,
    ElementwiseLoss,
    Lattice,
    Moment,
    NotRecordedError,
    OutputBuffers,
    Partition,
    Readback,
    UpdateRule,
)
from .registry import DEVICE_WORDS, PRECISIONS, DeviceUnavailableError, available_backends, get_backend

# Tells this package from any other folder that happens to be called `backends`.
COORDFIT_MARKER = "coordfit.backends"

__all__ = [
    "COORDFIT_MARKER",
    "DEVICE_WORDS",
    "FUSED_MODES",
    "PRECISIONS",
    "Activation",
    "Array",
    "Backend",
    "DeviceState",
    "DeviceUnavailableError",
    "ElementwiseLoss",
    "FormulaError",
    "FusedUnavailableError",
    "Lattice",
    "Moment",
    "NotRecordedError",
    "OutputBuffers",
    "Partition",
    "Readback",
    "UpdateRule",
    "available_backends",
    "get_backend",
]
