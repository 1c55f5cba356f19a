"""PyTorch tensors by `array_api_compat`: the generic bodies on one more array library."""

from .backend import TorchBackend

__all__ = ["TorchBackend"]
