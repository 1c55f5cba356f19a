"""Photographs enlarged by a small network that was trained on other photographs."""

from .enlarging import enlarged, enlarged_twice

__all__ = ["enlarged", "enlarged_twice"]
