"""The GPU backend: CuPy on one NVIDIA device, with cublasLt, our own kernels, and captured steps."""

from .backend import CupyBackend

__all__ = ["CupyBackend"]
