"""Import `backends` for all of coordfit, after checking that it is coordfit's own.

Any folder in the current directory may be named `backends`, and Python would import that first. Such a package
lacks a marker, and is refused before it is used.
"""

from __future__ import annotations

import importlib

_MARKER = "coordfit.backends"


def _check_package() -> None:
    """Raise ImportError if `backends` is missing, or is another package."""
    try:
        package = importlib.import_module("backends")
    except ImportError as error:
        raise ImportError(f"coordfit's own package 'backends' cannot be imported: {error}") from error
    if getattr(package, "COORDFIT_MARKER", None) != _MARKER:
        path = getattr(package, "__file__", None) or next(iter(package.__path__))
        raise ImportError(
            f"another package named 'backends' ({path}) stands in front of coordfit's own; "
            "run from another directory, or with `python -P -m coordfit`"
        )


_check_package()

from backends import (  # noqa: E402
    FUSED_MODES,
    PRECISIONS,
    Array,
    Backend,
    DeviceState,
    DeviceUnavailableError,
    FormulaError,
    FusedUnavailableError,
    Lattice,
    Moment,
    NotRecordedError,
    OutputBuffers,
    Partition,
    Readback,
    UpdateRule,
    available_backends,
    get_backend,
)

__all__ = [
    "FUSED_MODES",
    "PRECISIONS",
    "Array",
    "Backend",
    "DeviceState",
    "DeviceUnavailableError",
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
