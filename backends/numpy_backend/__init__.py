"""The CPU backend: NumPy with row blocks on worker threads."""


def why_unavailable(index: int = 0) -> str:
    """Return why this backend cannot run here: it always can."""
    return ""
