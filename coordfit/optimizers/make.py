"""Make the optimizer that settings name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from .._backends import Array, Backend
from ..config import FitConfig
from ..network.parameters import ParameterLayout
from .adam import Adam
from .base import Optimizer
from .muon import Muon
from .sgd import SGD


def make_optimizer(
    backend: Backend, config: FitConfig, parameters: Array, layout: ParameterLayout
) -> Optimizer:
    """The optimizer that the settings name, with its state at zero."""
    if config.optimizer == "sgd":
        return SGD(backend, parameters, dtype=config.dtype, momentum=config.momentum, nesterov=config.nesterov)
    make: Callable[..., Optimizer] = Adam
    if config.optimizer == "muon":
        make = functools.partial(Muon, layout=layout, momentum=config.muon_momentum)
    return make(
        backend,
        parameters,
        dtype=config.dtype,
        beta1=config.beta1,
        beta2=config.beta2,
        epsilon=config.epsilon,
    )
