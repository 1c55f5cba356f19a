"""The CPU backend whose primitives Numba compiles, and whose steps become compiled programs."""

import importlib
import importlib.util


def why_unavailable(index: int = 0) -> str:
    """Return why this backend cannot run here, or an empty string if it can."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed; try: pip install 'coordfit[fast]'"
    try:
        importlib.import_module("numba")
    except Exception as error:  # an old Numba with a new NumPy raises ImportError or SystemError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return f"Numba is installed but cannot be imported: {reason}; try: pip install --upgrade numba"
    return ""
