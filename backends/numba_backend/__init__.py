"""The CPU backend whose primitives Numba compiles, and whose steps are programs of compiled code."""

from .backend import NumbaBackend

__all__ = ["NumbaBackend"]
