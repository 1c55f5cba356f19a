"""Passes of NumPy for each activation, loss and update rule, made once (see `lowering.numpy_passes`)."""

from __future__ import annotations

import functools
from typing import Any

from ..lowering import Formula, lowered_activation, lowered_loss, lowered_rule
from ..lowering.numpy_passes import Passes, numpy_passes
from ..protocols import Activation, ElementwiseLoss, UpdateRule

Coefficients = tuple[Any, ...]
"""Numbers, or arrays (K, 1) if the learning rate is an array."""


@functools.lru_cache(maxsize=512)
def forward_passes(activation: Activation) -> tuple[Passes, Coefficients]:
    """Return passes for `y = f(z)`, in place unless the activation saves z, and coefficients."""
    formula, values = lowered_activation(activation)
    place = "z" if activation.saves_input else "y"
    outputs = formula.functions["forward"].outputs
    return numpy_passes(outputs, formula.coefficients, places={"z": place}, targets=["y"]), values


@functools.lru_cache(maxsize=512)
def backward_passes(activation: Activation) -> tuple[Passes, Coefficients]:
    """Return passes that replace dy by `dz = dy f'(z)` and may overwrite `saved`, and coefficients."""
    formula, values = lowered_activation(activation)
    places = {"dy": "dy", "saved": "saved"}
    outputs = formula.functions["backward"].outputs
    passes = numpy_passes(
        outputs, formula.coefficients, places=places, targets=["dy"], writable=["dy", "saved"]
    )
    return passes, values


@functools.lru_cache(maxsize=512)
def loss_passes(loss: ElementwiseLoss, weighted: bool) -> tuple[Passes, Coefficients]:
    """Return passes from the residual in `out` to the loss, and to the gradient times `scale` in `out`."""
    formula, values = lowered_loss(loss)
    value, gradient = formula.functions["value_and_gradient"].outputs
    graph, places = value.graph, {"residual": "out"}
    if weighted:
        places["weights"] = "weights"
        value, gradient = (graph.node("*", part, graph.symbol("weights")) for part in (value, gradient))
    scale = graph.symbol("scale", is_scalar=True)
    outputs, coefficients = (value, graph.node("*", gradient, scale)), [*formula.coefficients, scale]
    return numpy_passes(outputs, coefficients, places=places, targets=[None, "out"]), values


@functools.lru_cache(maxsize=512)
def update_passes(rule: UpdateRule) -> tuple[Formula, Passes]:
    """Return a rule's formula, and passes over parameters p, gradient g and state."""
    formula = lowered_rule(rule)
    update = formula.functions["update"]
    buffers = ["p", "g", *update.inputs[2:]]
    targets = [buffers[0], *buffers[2:]]
    places = dict(zip(update.inputs, buffers, strict=True))
    return formula, numpy_passes(update.outputs, formula.coefficients, places=places, targets=targets)
