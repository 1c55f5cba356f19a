"""The built-in optimizers by name, and the optimizer that settings describe."""

from __future__ import annotations

from typing import Any

from ..backends import Array, Backend
from ..components import classes_by_name, from_settings
from ..config import FitConfig
from ..network.parameters import ParameterLayout
from .base import ElementwiseOptimizer

OPTIMIZERS = classes_by_name("coordfit.optimizers")
"""The classes of all files here: rules of element-wise optimizers, and others with `of`."""


def make_optimizer(backend: Backend, config: FitConfig, parameters: Array, layout: ParameterLayout) -> Any:
    """Return the optimizer that settings describe, with its state at the start."""
    chosen = _chosen(config)
    if hasattr(chosen, "of"):
        return chosen.of(backend, config, parameters, layout)
    return ElementwiseOptimizer(backend, parameters, chosen, dtype=config.dtype)


def state_names(config: FitConfig) -> tuple[str, ...]:
    """Return the names of the buffers in the optimizer's `state`."""
    chosen = _chosen(config)
    return tuple(getattr(chosen, "state_names", None) or chosen.state)


def _chosen(config: FitConfig) -> Any:
    """Return the rule that settings describe, or the class of an optimizer that is no rule."""
    if not isinstance(config.optimizer, str):
        return config.optimizer
    cls = OPTIMIZERS[config.optimizer]
    return cls if hasattr(cls, "of") else from_settings(cls, vars(config))
