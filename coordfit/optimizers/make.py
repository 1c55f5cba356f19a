"""Make the optimizer that settings name."""

from __future__ import annotations

from typing import Any

from .._backends import Array, Backend, UpdateRule
from ..config import FitConfig
from ..network.parameters import ParameterLayout
from .adam import Adam
from .base import ElementwiseOptimizer, Optimizer
from .muon import Muon
from .sgd import SGD


def make_optimizer(
    backend: Backend, config: FitConfig, parameters: Array, layout: ParameterLayout
) -> Optimizer:
    """Return the optimizer that the settings name, with its state at zero."""
    if config.optimizer == "muon":
        return Muon(
            backend,
            parameters,
            layout,
            dtype=config.dtype,
            momentum=config.muon_momentum,
            beta1=config.beta1,
            beta2=config.beta2,
            epsilon=config.epsilon,
        )
    rules: dict[str, UpdateRule] = {
        "sgd": SGD(config.momentum, config.nesterov),
        "adam": Adam(config.beta1, config.beta2, config.epsilon),
    }
    rule: Any = config.optimizer if not isinstance(config.optimizer, str) else rules[config.optimizer]
    return ElementwiseOptimizer(backend, parameters, rule, dtype=config.dtype)
