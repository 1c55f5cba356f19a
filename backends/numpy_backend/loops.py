"""What NumPy computes beside matrix products: lowered formulas, sums over rows, and features of a grid.

Formulas of activations, losses and optimizers are written in `coordfit`; `lowering.numpy_passes` makes passes
of them over buffers that are already there, so that a step allocates nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..lowering import Formula, lowered_activation, lowered_loss, lowered_rule
from ..lowering.numpy_passes import Passes, numpy_passes
from ..protocols import Activation, Array, ElementwiseLoss, Tables, UpdateRule

Reuse = Callable[[str, tuple[int, ...], Any], Array]
"""Gives the calling thread's own buffer for (purpose, shape, dtype); what nobody writes to stays zero."""

Coefficients = tuple[Any, ...]
"""Numbers, or arrays (K, 1) if the learning rate is one."""


@dataclass(frozen=True)
class Loops:
    """Loops that one CPU backend has and another has otherwise.

    Attributes
    ----------
    sum_over_rows
        (dz, db, reuse) fills db.
    grid_features
        (x_tables, y_tables, rows, out, reuse) fills out.
    piece : int
        Elements of the flat buffers that an optimizer's passes take at once.
    min_worker_elements : int
        Below so many elements each a second thread costs the optimizer more than it brings.
    """

    sum_over_rows: Callable[[Array, Array, Reuse], None]
    grid_features: Callable[[Tables, Tables, slice, Array, Reuse], None]
    piece: int
    min_worker_elements: int


@functools.lru_cache(maxsize=512)
def forward_passes(activation: Activation) -> tuple[Passes, Coefficients]:
    """Return passes for y = f(z), from z to y if the activation saves z, else in place; and coefficients."""
    formula, values = lowered_activation(activation)
    place = "z" if activation.saves_input else "y"
    outputs = formula.functions["forward"].outputs
    return numpy_passes(outputs, formula.coefficients, places={"z": place}, targets=["y"]), values


@functools.lru_cache(maxsize=512)
def backward_passes(activation: Activation) -> tuple[Passes, Coefficients]:
    """Return passes for dz = dy f'(z) in the place of dy, which may overwrite what was saved."""
    formula, values = lowered_activation(activation)
    places = {"dy": "dy", "saved": "saved"}
    outputs = formula.functions["backward"].outputs
    passes = numpy_passes(
        outputs, formula.coefficients, places=places, targets=["dy"], writable=["dy", "saved"]
    )
    return passes, values


@functools.lru_cache(maxsize=512)
def loss_passes(loss: ElementwiseLoss, weighted: bool) -> tuple[Passes, Coefficients]:
    """Return passes from the residual in `out` to its loss, and to its gradient times `scale` in `out`."""
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
    """Return a rule's formula, and passes over buffers of parameters p, gradient g and state."""
    formula = lowered_rule(rule)
    update = formula.functions["update"]
    buffers = ["p", "g", *update.inputs[2:]]
    targets = [buffers[0], *buffers[2:]]
    places = dict(zip(update.inputs, buffers, strict=True))
    return formula, numpy_passes(update.outputs, formula.coefficients, places=places, targets=targets)


def sum_over_rows(dz: Array, db: Array, reuse: Reuse) -> None:
    """Fill db with the sum of dz over rows."""
    ones = reuse("ones", (1, dz.shape[-2]), dz.dtype)  # as a product the sum is three times as fast
    if ones[0, 0] != 1.0:
        ones[...] = 1.0
    np.matmul(ones, dz, out=db)


# -- features of a grid -----------------------------------------------------------------------------------


def _grid_features(x_tables: Tables, y_tables: Tables, rows: slice, out: Array, reuse: Reuse) -> None:
    (cos_x, sin_x), (cos_y, sin_y) = x_tables, y_tables
    width, m = cos_x.shape
    start = rows.start
    while start < rows.stop:  # the pixels of one row of the grid after the other
        row, column = divmod(start, width)
        stop = min(rows.stop, start + width - column)
        there = slice(start - rows.start, stop - rows.start)
        columns = slice(column, column + stop - start)
        cosines, sines = out[there, :m], out[there, m:]
        t = reuse("grid", (stop - start, m), out.dtype)
        np.multiply(cos_x[columns], cos_y[row], out=cosines)
        cosines -= np.multiply(sin_x[columns], sin_y[row], out=t)
        np.multiply(sin_x[columns], cos_y[row], out=sines)
        sines += np.multiply(cos_x[columns], sin_y[row], out=t)
        start = stop


NUMPY_LOOPS = Loops(
    sum_over_rows=sum_over_rows,
    grid_features=_grid_features,
    piece=262_144,  # stays in cache from the first pass to the last; smaller ones cost more in calls
    min_worker_elements=400_000,
)
