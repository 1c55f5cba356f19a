"""The fused bodies of the GPU, functions of a `Device` and a record of `calls`."""

from typing import Any

from .features import fourier_features, grid_fourier_features, pixel_fourier_features, take_rows
from .layers import activation_backward, linear, linear_backward
from .losses import loss_and_gradient, output_step
from .muon import muon_step
from .optimizers import optimizer_step
from .products import matmul

CUPY_BODIES: tuple[Any, ...] = (
    *(take_rows, fourier_features, pixel_fourier_features, grid_fourier_features),
    *(matmul, linear, activation_backward, linear_backward),
    *(loss_and_gradient, output_step, optimizer_step, muon_step),
)

__all__ = ["CUPY_BODIES"]
