"""The backend of PyTorch tensors, by `array_api_compat`: generic bodies alone."""

import importlib


def why_unavailable(index: int = 0) -> str:
    """Return why this backend cannot run here, or an empty string if it can."""
    for library in ("torch", "array_api_compat.torch"):
        try:
            importlib.import_module(library)
        except ImportError as error:
            return f"PyTorch cannot be used ({error}); pip install 'coordfit[torch]'"
    return ""
