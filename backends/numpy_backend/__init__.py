"""The CPU backend: NumPy with row blocks on worker threads."""


def why_unavailable(index: int = 0) -> str:
    """Return an empty string: NumPy is always available."""
    return ""
