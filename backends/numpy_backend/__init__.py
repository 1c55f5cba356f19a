"""The CPU backend: NumPy with row blocks on worker threads."""

from .backend import NumpyBackend

__all__ = ["NumpyBackend"]
