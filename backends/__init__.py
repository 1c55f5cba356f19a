"""Array backends: an array module on one device, with the primitives that a training step needs.

This package is `coordfit.backends`, and never imports the rest of `coordfit`. Users call
`coordfit.get_backend`.
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

__all__ = [
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
