"""PyTorch tensors by `array_api_compat`: the generic bodies on one more array library."""

import importlib


def why_unavailable(index: int = 0) -> str:
    """Return which library is missing, and how to install it."""
    for library in ("torch", "array_api_compat.torch"):
        try:
            importlib.import_module(library)
        except ImportError as error:
            return f"PyTorch cannot be used ({error}); pip install 'coordfit[torch]'"
    return ""
