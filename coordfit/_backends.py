"""The only door to `backends`; it checks that what stands behind the door is ours.

`backends` is a name that any folder in the current directory may have, and Python would import that folder
first. A stranger's package is told by the missing marker, before it can do harm.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_MARKER = "coordfit.backends"


def _open_the_door() -> Any:
    try:
        package = importlib.import_module("backends")
    except ImportError as error:
        raise ImportError(f"coordfit's own package 'backends' cannot be imported: {error}") from error
    if getattr(package, "COORDFIT_MARKER", None) != _MARKER:
        where = getattr(package, "__file__", None) or next(iter(package.__path__))
        raise ImportError(
            f"another package named 'backends' ({where}) stands in front of coordfit's own; "
            "run from another directory, or with `python -P -m coordfit`"
        )
    return package


_package = _open_the_door()

if TYPE_CHECKING:
    from backends import (
        DEVICE_WORDS,
        FUSED_MODES,
        PRECISIONS,
        Array,
        Backend,
        DeviceState,
        DeviceUnavailableError,
        FusedUnavailableError,
        Lattice,
        Moment,
        NotRecordedError,
        OutputBuffers,
        Partition,
        Readback,
        available_backends,
        get_backend,
    )
else:
    Array = _package.Array
    Backend = _package.Backend
    DEVICE_WORDS = _package.DEVICE_WORDS
    DeviceState = _package.DeviceState
    FUSED_MODES = _package.FUSED_MODES
    PRECISIONS = _package.PRECISIONS
    Lattice = _package.Lattice
    Moment = _package.Moment
    OutputBuffers = _package.OutputBuffers
    Readback = _package.Readback
    DeviceUnavailableError = _package.DeviceUnavailableError
    FusedUnavailableError = _package.FusedUnavailableError
    NotRecordedError = _package.NotRecordedError
    Partition = _package.Partition
    available_backends = _package.available_backends
    get_backend = _package.get_backend

__all__ = [
    "DEVICE_WORDS",
    "FUSED_MODES",
    "PRECISIONS",
    "Array",
    "Backend",
    "DeviceState",
    "DeviceUnavailableError",
    "FusedUnavailableError",
    "Lattice",
    "Moment",
    "NotRecordedError",
    "OutputBuffers",
    "Partition",
    "Readback",
    "available_backends",
    "get_backend",
]
