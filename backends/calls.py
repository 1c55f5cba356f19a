"""The arguments of each primitive, as one record that all its bodies take.

Letters in shapes: E ensemble axes (`()` for one network, `(K,)` for K), N rows (pixels), F features, H hidden
units, C channels, m frequencies. Only the last two axes are addressed; all members share an array without
ensemble axes.

`out` is optional memory: a primitive may fill and return it, or return a new array. Callers use what is
returned. Gradients (`dW`, `db`) and optimizer state are always written in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .protocols import (
    Activation,
    Array,
    ElementwiseLoss,
    Lattice,
    Orthogonalize,
    OutputBuffers,
    UpdateRule,
)


class TakeRows(NamedTuple):
    """Rows to gather, by number."""

    array: Array
    """(N, C) shared by the members, or (*E, N, C)."""
    rows: Array
    """Integers (n,) for all members, or (*E, n)."""
    out: Array | None = None
    """(*E, n, C)."""


class Matmul(NamedTuple):
    """A matrix product of the last two axes; ensemble axes are broadcast."""

    a: Array
    b: Array
    transpose_a: bool = False
    transpose_b: bool = False
    out: Array | None = None


class Linear(NamedTuple):
    """One layer forward."""

    x: Array
    """(N, n_in) shared by the members, or (*E, N, n_in)."""
    W: Array
    """(*E, n_in, n_out)."""
    b: Array
    """(*E, 1, n_out)."""
    activation: Activation
    out: Array | None = None
    """(*E, N, n_out), for y."""
    out_saved: Array | None = None
    """(*E, N, n_out), for z, if the activation saves its input."""


class ActivationBackward(NamedTuple):
    """The gradient of an activation's output, and what `linear` saved. Both may be overwritten."""

    activation: Activation
    dy: Array
    """(*E, N, n_out); so is `saved`."""
    saved: Array


class LinearBackward(NamedTuple):
    """One layer backward, from its z to the z of the previous layer."""

    dz: Array
    """(*E, N, n_out): gradient of the loss with respect to `z = x W + b`."""
    x: Array
    W: Array
    dW: Array
    """Filled with the gradient, summed over rows, or increased by it with `accumulate`; so is `db`."""
    db: Array
    accumulate: bool = False
    previous: tuple[Activation, Array] | None = None
    """Activation of the previous layer, and what its `linear` saved, which may be overwritten.
    None for the first layer, whose input needs no gradient."""
    out: Array | None = None
    """(*E, N, n_in), for the result. It shares no memory with the other arguments."""


class FourierFeatures(NamedTuple):
    """Coordinates and frequencies."""

    coordinates: Array
    """(N, d) shared by the members, or (*E, N, d)."""
    B: Array
    """(*E, m, d), in cycles per unit of the coordinates."""
    out: Array | None = None
    """(*E, N, 2 m)."""


class PixelFourierFeatures(NamedTuple):
    """Pixels of a grid by number, and frequencies."""

    pixels: Array
    """Integers (N,) shared by the members, or (*E, N), below 2^32."""
    lattice: Lattice
    B: Array
    """(*E, m, D)."""
    dtype: str
    """Dtype of the coordinates."""
    out: Array | None = None
    """(*E, N, 2 m)."""


class GridFourierFeatures(NamedTuple):
    """A run of grid pixels, and tables for the columns and for the rows of the grid."""

    x_table: Array
    """(width, 2 m): the features of `(x, 0)` for each column."""
    y_table: Array
    """(height, 2 m): the features of `(0, y)` for each row of pixels."""
    rows: slice
    """Pixels from `start` to `stop`, counted row by row of the grid."""
    out: Array | None = None
    """(N, 2 m)."""


class LossAndGradient(NamedTuple):
    """Predictions, targets, and the divisor of the summed loss."""

    loss: ElementwiseLoss
    prediction: Array
    """(*E, N, C)."""
    target: Array
    """(N, C) shared by the members, or (*E, N, C)."""
    divisor: int
    """Rows of the whole batch times C, so that the results of its blocks add up to its mean."""
    weights: Array | None = None
    """(N, 1) or (*E, N, 1): a factor for each row; 0 excludes it."""
    out: Array | None = None
    """(*E, N, C), for dy."""


class OutputStep(NamedTuple):
    """The fields of `Linear`, `LossAndGradient` and `LinearBackward`, with their buffers in `buffers`."""

    loss: ElementwiseLoss
    h: Array
    """(*E, N, H): the input of the output layer."""
    W: Array
    b: Array
    activation: Activation
    target: Array
    divisor: int
    dW: Array
    db: Array
    weights: Array | None = None
    accumulate: bool = False
    previous: tuple[Activation, Array] | None = None
    buffers: OutputBuffers = OutputBuffers()


class MuonStep(NamedTuple):
    """Matrices (m, n) of each member, with gradients and momenta; parameters and momenta change in place."""

    parameters: Array
    """(*E, P), flat; so is `momenta`."""
    gradients: Sequence[Array]
    """(*E, P) each. Their sum, in this order, is the gradient; it may overwrite the first."""
    momenta: Array
    orthogonalize: Orthogonalize
    learning_rate: float | Array
    """A number, or (*E, 1)."""
    momentum: float
    scale: float
    out: Array
    """(*E, m n), contiguous: memory for the step's direction."""
    starts: Sequence[int] = (0,)
    """The first number of each matrix in the flat buffers."""

    def matrices(self) -> Iterator[MuonStep]:
        """Yield the step of each matrix, with views of it as the buffers."""
        for start in self.starts:
            place = (..., slice(start, start + self.out.shape[-1]))
            yield self._replace(
                parameters=self.parameters[place],
                gradients=[gradient[place] for gradient in self.gradients],
                momenta=self.momenta[place],
                starts=(0,),
            )


class OptimizerStep(NamedTuple):
    """Flat buffers of an element-wise optimizer; parameters and state change in place."""

    rule: UpdateRule
    parameters: Array
    """(*E, P); so is each buffer of `state`."""
    gradients: Sequence[Array]
    """(*E, P) each, one for each worker with rows. Their sum, in this order, is the gradient; it may overwrite
    the first."""
    state: Sequence[Array]
    """In the order of `rule.state`."""
    step: int | Array
    """Counts from 1; an integer array (1,) on the device for recorded steps."""
    learning_rate: float | Array
    """A number, or (*E, 1)."""
    ranges: Sequence[tuple[int, int]] = ()
    """Starts and ends of what is updated in the buffers; none for all of them."""

    def parts(self) -> Iterator[OptimizerStep]:
        """Yield the step of each range, with views of it as the buffers."""
        if not self.ranges:
            yield self
        for start, stop in self.ranges:
            place = (..., slice(start, stop))
            yield self._replace(
                parameters=self.parameters[place],
                gradients=[gradient[place] for gradient in self.gradients],
                state=[buffer[place] for buffer in self.state],
                ranges=(),
            )
