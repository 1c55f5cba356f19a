"""The activations and losses once more, in place: what lets the CPU's step run without an allocation.

The formulas' home is in `coordfit` (`activations.py`, `losses.py`), written on `xp`; the bodies here repeat
them with `out=` and are held to them by the conformance tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .base import Array

Reuse = Callable[[str, tuple[int, ...], Any], Array]
"""Gives the calling thread's own buffer for (purpose, shape, dtype); what nobody writes to stays zero."""

# -- the activations in place: (activation, z, y, reuse) -> y, and (activation, dy, kept, reuse) -> dz ----


def _relu(activation: Any, z: Array, y: Array, reuse: Reuse) -> Array:
    # Against an array of zeros NumPy's maximum runs more than twice as fast as against one zero.
    return np.maximum(z, reuse("zeros", z.shape, z.dtype), out=y)


def _tanh(activation: Any, z: Array, y: Array, reuse: Reuse) -> Array:
    return np.tanh(z, out=y)


def _sigmoid(activation: Any, z: Array, y: Array, reuse: Reuse) -> Array:
    np.multiply(z, 0.5, out=y)
    np.tanh(y, out=y)
    y += 1.0
    y *= 0.5
    return y


def _sine(activation: Any, z: Array, y: Array, reuse: Reuse) -> Array:
    np.multiply(z, activation.omega, out=y)
    return np.sin(y, out=y)


def _relu_backward(activation: Any, dy: Array, y: Array, reuse: Reuse) -> Array:
    positive = np.greater(y, 0.0, out=reuse("mask", y.shape, np.bool_))
    return np.multiply(dy, positive, out=dy)


def _tanh_backward(activation: Any, dy: Array, y: Array, reuse: Reuse) -> Array:
    y *= y
    np.subtract(1.0, y, out=y)
    return np.multiply(dy, y, out=dy)


def _sigmoid_backward(activation: Any, dy: Array, y: Array, reuse: Reuse) -> Array:
    dy *= y
    np.subtract(1.0, y, out=y)
    return np.multiply(dy, y, out=dy)


def _sine_backward(activation: Any, dy: Array, z: Array, reuse: Reuse) -> Array:
    z *= activation.omega
    np.cos(z, out=z)
    z *= activation.omega
    return np.multiply(dy, z, out=dy)


FORWARD: dict[str, Callable[[Any, Array, Array, Reuse], Array]] = {
    "identity": lambda activation, z, y, reuse: z,
    "relu": _relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "sine": _sine,
}
BACKWARD: dict[str, Callable[[Any, Array, Array, Reuse], Array]] = {
    "identity": lambda activation, dy, y, reuse: dy,
    "relu": _relu_backward,
    "tanh": _tanh_backward,
    "sigmoid": _sigmoid_backward,
    "sine": _sine_backward,
}


# -- the losses in place: the residual becomes the gradient of each element, `value` its loss ------------


def _mse(loss: Any, residual: Array, value: Array) -> None:
    np.multiply(residual, residual, out=value)
    residual *= 2.0


def _mae(loss: Any, residual: Array, value: Array) -> None:
    np.abs(residual, out=value)
    np.sign(residual, out=residual)


def _huber(loss: Any, residual: Array, value: Array) -> None:
    # With c = clip(r, -delta, delta), the gradient, the loss is c r - c^2 / 2 on both sides of delta.
    np.copyto(value, residual)
    np.clip(residual, -loss.delta, loss.delta, out=residual)
    value *= 2.0
    value -= residual
    value *= residual
    value *= 0.5


LOSSES: dict[str, Callable[[Any, Array, Array], None]] = {"mse": _mse, "mae": _mae, "huber": _huber}
