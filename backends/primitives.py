"""The primitives of a training step, each with a generic body on `xp`.

Letters in shapes: E ensemble axes (`()` for one network, `(K,)` for K), N rows (pixels), F features,
H hidden units, C channels, m frequencies. Only the last two axes are ever addressed; an array whose
ensemble axes are missing is shared by all members.

The generic bodies use the array API standard alone, so any library that follows it becomes a backend by a
subclass of a few lines. They are the reference: a fused body must give the same result (tests hold it).

`out=` is an offer, not an order: a primitive may fill the buffer and return it, or return a new array.
Callers use what is returned. Gradients (`dW`, `db`) and optimizer state are always written in place.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .dispatch import composed, primitive
from .protocols import (
    Activation,
    Array,
    ElementwiseLoss,
    Lattice,
    Orthogonalize,
    OutputBuffers,
    Tables,
    UpdateRule,
)


class Primitives:
    """The generic bodies; `Backend` routes each to its fused body where there is one."""

    xp: Any

    def dtype(self, name: str | None) -> Any:
        """Return the library's dtype of that name, e.g. "float32"."""
        return None if name is None else getattr(self.xp, name)

    def arange(self, start: int, stop: int) -> Array:
        """Integers from `start` up to `stop`, on the device."""
        return self.xp.arange(start, stop, dtype=self.dtype("int64"))

    # -- coordinates by number -------------------------------------------------------------------------

    def pixel_coordinates(self, index: Array, lattice: Lattice, dtype: str) -> Array:
        """Coordinates (*E, N, 2) of the pixels of a lattice by number, index (*E, N)."""
        xp, kind = self.xp, self.dtype(dtype)
        row = index // lattice.columns
        column = index - row * lattice.columns
        x = xp.astype(column, kind) * lattice.x_scale + lattice.x_start
        y = xp.astype(row, kind) * lattice.y_scale + lattice.y_start
        return xp.stack([x, y], axis=-1)

    # -- the primitives ------------------------------------------------------------------------------

    @primitive
    def take_rows(self, array: Array, index: Array, *, out: Array | None = None) -> Array:
        """Rows by number, as (*E, n, C).

        Parameters
        ----------
        array : array, shape (N, C) shared by the members, or (*E, N, C)
        index : integer array, shape (n,) for all members, or (*E, n)
        """
        xp = self.xp
        if index.ndim == 1:
            return xp.take(array, index, axis=-2)
        if array.ndim == 2:
            rows = xp.take(array, xp.reshape(index, (-1,)), axis=0)
            return xp.reshape(rows, (*index.shape, array.shape[-1]))
        return xp.take_along_axis(array, index[..., None], axis=-2)

    @primitive
    def matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        out: Array | None = None,
    ) -> Array:
        """Matrix product of the last two axes, each operand transposed if asked, ensemble axes broadcast."""
        a = self.xp.matrix_transpose(a) if transpose_a else a
        b = self.xp.matrix_transpose(b) if transpose_b else b
        return self.xp.matmul(a, b)

    @primitive
    def linear(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: Activation,
        *,
        out: Array | None = None,
        out_saved: Array | None = None,
    ) -> tuple[Array, Array]:
        """One layer forward: y = f(x W + b).

        Parameters
        ----------
        x : array, shape (N, n_in) shared by the members, or (*E, N, n_in)
        W : array, shape (*E, n_in, n_out)
        b : array, shape (*E, 1, n_out)
        activation : Activation
            f.
        out, out_kept : array, shape (*E, N, n_out), optional
            Buffers on offer for y, and for z where the activation keeps its input.

        Returns
        -------
        y, kept : arrays, shape (*E, N, n_out)
            The output, and what `linear_backward` needs: z where the activation keeps its input, else y.
        """
        z = self.matmul(x, W) + b
        y = activation.forward(self.xp, z)
        return y, (z if activation.saves_input else y)

    @primitive
    def activation_backward(self, activation: Activation, dy: Array, saved: Array) -> Array:
        """dz = dy f'(z), from what `linear` kept. `dy` may be overwritten, and `saved` too.

        Parameters
        ----------
        dy, kept : array, shape (*E, N, n_out)

        Returns
        -------
        dz : array, shape (*E, N, n_out)
            Gradient of the loss with respect to z.
        """
        return activation.backward(self.xp, dy, saved)

    @primitive
    def linear_backward(
        self,
        dz: Array,
        x: Array,
        W: Array,
        *,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        previous: tuple[Activation, Array] | None = None,
        out: Array | None = None,
    ) -> Array | None:
        """One layer backward, from its z to the z of the layer below: the mask of ReLU ends a product.

        Parameters
        ----------
        dz : array, shape (*E, N, n_out)
            Gradient of the loss with respect to z = x W + b.
        x, W
            As given to `linear`.
        dW, db : array, shapes of W and b
            Filled with the sum over rows of the gradient; added to with `accumulate`.
        below : (activation, kept), optional
            Of the layer whose output x is: its activation and what `linear` kept, which may be overwritten.
            None for the first layer, whose input has no use for a gradient.
        out : array, shape (*E, N, n_in), optional
            A buffer on offer for what is returned. It shares no memory with the other arguments.

        Returns
        -------
        dz_below : array, shape (*E, N, n_in), or None without `previous`
            Gradient of the loss with respect to the z of the layer below: (dz W^T) f'(z_below).
        """
        xp = self.xp
        new_dW = self.matmul(x, dz, transpose_a=True)
        new_db = xp.sum(dz, axis=-2, keepdims=True)
        dW[...] = dW + new_dW if accumulate else new_dW
        db[...] = db + new_db if accumulate else new_db
        if previous is None:
            return None
        activation, saved = previous
        return self.activation_backward(activation, self.matmul(dz, W, transpose_b=True), saved)

    @primitive
    def fourier_features(self, coordinates: Array, B: Array, *, out: Array | None = None) -> Array:
        """Fourier features [cos(2 pi B v), sin(2 pi B v)] of Tancik et al. (2020), equation 3.

        Parameters
        ----------
        coordinates : array, shape (N, d) shared by the members, or (*E, N, d)
        B : array, shape (*E, m, d)
            Frequencies in cycles per unit of the coordinates.

        Returns
        -------
        features : array, shape (*E, N, 2 m)
            First the m cosines, then the m sines.
        """
        xp = self.xp
        cycles = self.matmul(coordinates, B, transpose_b=True)
        # Whole turns are taken off before the multiplication by 2 pi: large phases lose digits in it.
        phase = (2.0 * np.pi) * (cycles - xp.round(cycles))
        return xp.concat([xp.cos(phase), xp.sin(phase)], axis=-1)

    @composed
    def pixel_fourier_features(
        self, index: Array, lattice: Lattice, B: Array, *, dtype: str, out: Array | None = None
    ) -> Array:
        """`fourier_features` of pixels by number, whose coordinates nobody keeps.

        Parameters
        ----------
        index : integer array, shape (N,) shared by the members, or (*E, N)
            Below 2^32.
        lattice : Lattice
        B : array, shape (*E, m, 2)
        dtype : str
            Of the coordinates.

        Returns
        -------
        features : array, shape (*E, N, 2 m)
        """
        return self.fourier_features(self.pixel_coordinates(index, lattice, dtype), B, out=out)

    @primitive
    def grid_fourier_features(
        self, x_tables: Tables, y_tables: Tables, rows: slice, *, out: Array | None = None
    ) -> Array:
        """Fourier features of a run of grid pixels, from tables for the columns and for the rows of the grid.

        cos(a + b) = cos a cos b - sin a sin b and sin(a + b) = sin a cos b + cos a sin b, with a for x and b
        for y: no trigonometry for each pixel, and memory for one row and one column of features alone.

        Parameters
        ----------
        x_tables, y_tables : pairs of arrays, shapes (width, m) and (height, m)
            Cosines and sines of 2 pi B_x x for each column, and of 2 pi B_y y for each row of pixels.
        rows : slice
            Pixels from `rows.start` to `rows.stop`, counted row by row of the grid.

        Returns
        -------
        features : array, shape (N, 2 m)
        """
        xp = self.xp
        index = self.arange(rows.start, rows.stop)
        row = index // x_tables[0].shape[0]
        column = index - row * x_tables[0].shape[0]
        cos_x, sin_x = (xp.take(table, column, axis=0) for table in x_tables)
        cos_y, sin_y = (xp.take(table, row, axis=0) for table in y_tables)
        return xp.concat([cos_x * cos_y - sin_x * sin_y, sin_x * cos_y + cos_x * sin_y], axis=-1)

    @primitive
    def loss_and_gradient(
        self,
        loss: ElementwiseLoss,
        prediction: Array,
        target: Array,
        *,
        count: int,
        weights: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array]:
        """Sum the loss over rows and channels, divided by `count`, and its gradient, in one pass.

        Parameters
        ----------
        loss : ElementwiseLoss
        prediction : array, shape (*E, N, C)
        target : array, shape (N, C) shared by the members, or (*E, N, C)
        count : int
            What the sum is divided by: rows of the whole batch times C, so that blocks add up to its mean.
        weights : array, shape (N, 1) or (*E, N, 1), optional
            A factor for each row; 0 hides it.
        out : array, shape of `prediction`, optional
            A buffer on offer for dy.

        Returns
        -------
        value : array, shape E
        dy : array, shape (*E, N, C)
            Gradient of the sum over members of `value`: members stay independent.
        """
        xp = self.xp
        residual = prediction - target
        value = loss.value(xp, residual)
        dy = loss.gradient(xp, residual)
        if weights is not None:
            value = value * weights
            dy = dy * weights
        return xp.sum(value, axis=(-2, -1)) / count, dy / count

    @composed
    def output_step(
        self,
        loss: ElementwiseLoss,
        h: Array,
        W: Array,
        b: Array,
        activation: Activation,
        target: Array,
        *,
        count: int,
        weights: Array | None = None,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        previous: tuple[Activation, Array] | None = None,
        buffers: OutputBuffers = OutputBuffers(),  # noqa: B008 - a tuple of None
    ) -> tuple[Array, Array | None]:
        """The output layer forward, the loss, and the layer backward: all that a step does with h (*E, N, H).

        Parameters are those of `linear`, `loss_and_gradient` and `linear_backward`, with buffers in `buffers`.

        Returns
        -------
        value : array, shape E
        dz_below : array, shape (*E, N, H), or None without `previous`
        """
        y, saved = self.linear(h, W, b, activation, out=buffers.y, out_saved=buffers.saved)
        value, dy = self.loss_and_gradient(loss, y, target, count=count, weights=weights, out=buffers.dy)
        dz = self.activation_backward(activation, dy, saved)
        dz_previous = self.linear_backward(
            dz, h, W, dW=dW, db=db, accumulate=accumulate, previous=previous, out=buffers.dz_previous
        )
        return value, dz_previous

    @composed
    def muon_step(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        momenta: Array,
        *,
        orthogonalize: Orthogonalize,
        learning_rate: float | Array,
        momentum: float,
        scale: float,
        out: Array,
    ) -> None:
        """One step of Muon (Jordan et al., 2024) on one matrix of each member; all in place.

        M <- momentum M + G;  W <- W - learning_rate scale orthogonalize(G + momentum M).

        Parameters
        ----------
        parameters, momenta : array, shape (*E, n n)
        gradients : arrays, shape (*E, n n)
            The gradient is their sum, taken in their order. The first may be overwritten by the sum.
        orthogonalize : Orthogonalize
        learning_rate : float, or array of shape (*E, 1)
        out : array, shape (*E, n n)
            Room for the direction of the step; contiguous.
        """
        # Element by element on flat members: of strided matrices NumPy would make a copy first.
        gradient, *others = gradients
        for part in others:
            gradient += part
        momenta *= momentum
        momenta += gradient
        out[...] = momenta
        out *= momentum
        out += gradient
        n = orthogonalize.size
        step = self.xp.reshape(orthogonalize(self.xp.reshape(out, (*out.shape[:-1], n, n))), out.shape)
        step *= learning_rate * scale
        parameters -= step

    @primitive
    def optimizer_step(
        self,
        rule: UpdateRule,
        parameters: Array,
        gradients: Sequence[Array],
        state: Sequence[Array],
        *,
        step: int | Array,
        learning_rate: float | Array,
    ) -> None:
        """Take one step of an element-wise optimizer; parameters and state change in place.

        Parameters
        ----------
        parameters : array, shape (*E, P)
        gradients : arrays, shape (*E, P)
            The gradient is their sum, taken in their order: one for each worker that had a part of the rows.
            The first may be overwritten by the sum.
        state : arrays, shape (*E, P)
            In the order of `rule.state`.
        step : int, or integer array of shape (1,)
            Counts from 1. It is on the device for steps that are recorded.
        learning_rate : float, or array of shape (*E, 1)
        """
        gradient = functools.reduce(operator.add, gradients)
        found, new_state = rule.update(self.xp, parameters, gradient, tuple(state), step, learning_rate)
        parameters[...] = found
        for buffer, value in zip(state, new_state, strict=True):
            buffer[...] = value
