"""The GPU backend: CuPy on one NVIDIA device, with cublasLt, our own CUDA kernels, and captured steps."""

from .checks import why_unavailable

__all__ = ["why_unavailable"]
