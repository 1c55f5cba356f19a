"""The import guard of `backends`: everything here imports array backends through this module.

`backends` is a name that any folder in the current directory may have, and Python would import that folder
first. Another package is recognised by its missing marker, before anything of it is used.
"""

from __future__ import annotations

import importlib

_MARKER = "coordfit.backends"


def _check_that_it_is_ours() -> None:
    """Raise ImportError if `backends` is missing, or is another package."""
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


_check_that_it_is_ours()

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
