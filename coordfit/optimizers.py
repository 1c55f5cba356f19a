"""Optimizers on the flat buffer: one pass over parameters, gradient and state, for one network or K.

The arithmetic of a step is a backend primitive (`Backend.sgd_step`, `Backend.adam_step`); the classes here
hold the settings and the state.
"""

from __future__ import annotations

from typing import Protocol

from ._backends import Array, Backend


class Optimizer(Protocol):
    """Updates a flat parameter buffer from a flat gradient buffer, both (*E, P)."""

    state: dict[str, Array]
    """Buffers that a checkpoint must hold, by name, each of shape (*E, P)."""
    steps: int
    """Steps taken so far."""

    def step(self, parameters: Array, gradient: Array, learning_rate: float | Array) -> None:
        """Take one step in place; `learning_rate` is a float, or (*E, 1) where members differ."""


def state_names(optimizer: str, momentum: float = 0.0) -> tuple[str, ...]:
    """Names of the buffers in an optimizer's `state`."""
    if optimizer == "adam":
        return ("first_moment", "second_moment")
    return ("velocity",) if momentum else ()


class SGD:
    """Stochastic gradient descent, with momentum and Nesterov's variant where asked for."""

    def __init__(
        self, backend: Backend, parameters: Array, *, dtype: str, momentum: float, nesterov: bool
    ) -> None:
        self.backend, self.momentum, self.nesterov = backend, momentum, nesterov
        self.steps = 0
        self.state = {name: backend.zeros(parameters.shape, dtype) for name in state_names("sgd", momentum)}

    def step(self, parameters: Array, gradient: Array, learning_rate: float | Array) -> None:
        """One step in place."""
        self.steps += 1
        self.backend.sgd_step(
            parameters,
            gradient,
            self.state.get("velocity"),
            learning_rate=learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
        )


class Adam:
    """Adam: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015), algorithm 1."""

    def __init__(
        self, backend: Backend, parameters: Array, *, dtype: str, beta1: float, beta2: float, epsilon: float
    ) -> None:
        self.backend = backend
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.steps = 0
        self.state = {name: backend.zeros(parameters.shape, dtype) for name in state_names("adam")}

    def step(self, parameters: Array, gradient: Array, learning_rate: float | Array) -> None:
        """One step in place."""
        self.steps += 1
        self.backend.adam_step(
            parameters,
            gradient,
            self.state["first_moment"],
            self.state["second_moment"],
            step=self.steps,
            learning_rate=learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
        )
