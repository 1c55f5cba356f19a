"""The primitives of a training step, each with a generic body on `xp`; `calls` has their arguments.

Generic bodies use the array API standard alone, so a backend for a library that follows it takes a few lines.
They are the reference: tests compare every fused body with them.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

from .calls import (
    ActivationBackward,
    FourierFeatures,
    GridFourierFeatures,
    Linear,
    LinearBackward,
    LossAndGradient,
    Matmul,
    MuonStep,
    OptimizerStep,
    OutputStep,
    PixelFourierFeatures,
    TakeRows,
)
from .dispatch import primitive
from .protocols import Array, Lattice


class Primitives:
    """The generic bodies; `Backend` routes calls to fused ones if it has any."""

    xp: Any

    def dtype(self, name: str | None) -> Any:
        """Return the library's dtype of that name, e.g. "float32"."""
        return None if name is None else getattr(self.xp, name)

    def arange(self, start: int, stop: int) -> Array:
        """Return integers from `start` up to `stop`, on the device."""
        return self.xp.arange(start, stop, dtype=self.dtype("int64"))

    def pixel_coordinates(self, pixels: Array, lattice: Lattice, dtype: str) -> Array:
        """Return coordinates (*E, N, D) of the points of a lattice by number (*E, N)."""
        xp, places, rest = self.xp, [], pixels
        for count in lattice.counts[:-1]:
            later = rest // count
            places.append(rest - later * count)
            rest = later
        kind, scaled = self.dtype(dtype), zip([*places, rest], lattice.scales, lattice.starts, strict=True)
        return xp.stack([xp.astype(place, kind) * scale + start for place, scale, start in scaled], axis=-1)

    # -- the primitives ------------------------------------------------------------------------------

    @primitive(TakeRows)
    def take_rows(self, call: TakeRows) -> Array:
        """Return rows by number, as (*E, n, C)."""
        xp, array, rows = self.xp, call.array, call.rows
        if rows.ndim == 1:
            return xp.take(array, rows, axis=-2)
        if array.ndim == 2:
            found = xp.take(array, xp.reshape(rows, (-1,)), axis=0)
            return xp.reshape(found, (*rows.shape, array.shape[-1]))
        return xp.take_along_axis(array, rows[..., None], axis=-2)

    @primitive(Matmul)
    def matmul(self, call: Matmul) -> Array:
        """Return `a b`, the matrix product of the last two axes."""
        a = self.xp.matrix_transpose(call.a) if call.transpose_a else call.a
        b = self.xp.matrix_transpose(call.b) if call.transpose_b else call.b
        return self.xp.matmul(a, b)

    @primitive(Linear)
    def linear(self, call: Linear) -> tuple[Array, Array]:
        """Return `y = f(x W + b)`, and for `linear_backward` z if f saves its input, else y."""
        z = self.matmul(call.x, call.W) + call.b
        y = call.activation.forward(self.xp, z)
        return y, (z if call.activation.saves_input else y)

    @primitive(ActivationBackward)
    def activation_backward(self, call: ActivationBackward) -> Array:
        """Return `dz = dy f'(z)`, (*E, N, n_out)."""
        return call.activation.backward(self.xp, call.dy, call.saved)

    @primitive(LinearBackward)
    def linear_backward(self, call: LinearBackward) -> Array | None:
        """Fill dW and db; return `(dz W^T) f'(z)` for the z of the previous layer, (*E, N, n_in), or None."""
        dz, dW, db = call.dz, call.dW, call.db
        new_dW = self.matmul(call.x, dz, transpose_a=True)
        new_db = self.xp.sum(dz, axis=-2, keepdims=True)
        dW[...] = dW + new_dW if call.accumulate else new_dW
        db[...] = db + new_db if call.accumulate else new_db
        if call.previous is None:
            return None
        activation, saved = call.previous
        return self.activation_backward(activation, self.matmul(dz, call.W, transpose_b=True), saved)

    @primitive(FourierFeatures)
    def fourier_features(self, call: FourierFeatures) -> Array:
        """Return Fourier features `[cos(2 pi B v), sin(2 pi B v)]`, (*E, N, 2 m).

        Equation 3 of Tancik et al. (2020): first the m cosines, then the m sines.
        """
        xp = self.xp
        cycles = self.matmul(call.coordinates, call.B, transpose_b=True)
        # Whole turns are subtracted first: multiplied by 2 pi, large phases would lose digits.
        phase = (2.0 * np.pi) * (cycles - xp.round(cycles))
        return xp.concat([xp.cos(phase), xp.sin(phase)], axis=-1)

    @primitive(PixelFourierFeatures, composed=True)
    def pixel_fourier_features(self, call: PixelFourierFeatures) -> Array:
        """Return Fourier features (*E, N, 2 m) of pixels by number, without stored coordinates."""
        coordinates = self.pixel_coordinates(call.pixels, call.lattice, call.dtype)
        return self.fourier_features(coordinates, call.B, out=call.out)

    @primitive(GridFourierFeatures)
    def grid_fourier_features(self, call: GridFourierFeatures) -> Array:
        """Return Fourier features (N, 2 m) of a run of grid pixels.

        `cos(a + b) = cos a cos b - sin a sin b` and `sin(a + b) = sin a cos b + cos a sin b`, with a for x and
        b for y, need only the tables of one row and one column.
        """
        xp, (width, features) = self.xp, call.x_table.shape
        pixels = self.arange(call.rows.start, call.rows.stop)
        row, m = pixels // width, features // 2
        x, y = xp.take(call.x_table, pixels - row * width, axis=0), xp.take(call.y_table, row, axis=0)
        cos_x, sin_x, cos_y, sin_y = x[:, :m], x[:, m:], y[:, :m], y[:, m:]
        return xp.concat([cos_x * cos_y - sin_x * sin_y, sin_x * cos_y + cos_x * sin_y], axis=-1)

    @primitive(LossAndGradient)
    def loss_and_gradient(self, call: LossAndGradient) -> tuple[Array, Array]:
        """Return the loss summed over rows and channels, over `divisor`, (E), and its gradient (*E, N, C)."""
        xp = self.xp
        residual = call.prediction - call.target
        value = call.loss.value(xp, residual)
        dy = call.loss.gradient(xp, residual)
        if call.weights is not None:
            value = value * call.weights
            dy = dy * call.weights
        return xp.sum(value, axis=(-2, -1)) / call.divisor, dy / call.divisor

    @primitive(OutputStep, composed=True)
    def output_step(self, call: OutputStep) -> tuple[Array, Array | None]:
        """Run the output layer forward, the loss, and the layer backward.

        Return the loss, shape E, and the gradient for the z of the previous layer, (*E, N, H), or None.
        """
        buffers = call.buffers
        y, saved = self.linear(call.h, call.W, call.b, call.activation, out=buffers.y, out_saved=buffers.saved)
        value, dy = self.loss_and_gradient(
            call.loss, y, call.target, call.divisor, weights=call.weights, out=buffers.dy
        )
        dz = self.activation_backward(call.activation, dy, saved)
        gradients = {"dW": call.dW, "db": call.db, "accumulate": call.accumulate}
        return value, self.linear_backward(
            dz, call.h, call.W, **gradients, previous=call.previous, out=buffers.dz_previous
        )

    @primitive(MuonStep, composed=True)
    def muon_step(self, call: MuonStep) -> None:
        """Take one step of Muon (Jordan et al., 2024) in place.

        `M <- momentum M + G; W <- W - learning_rate scale orthogonalize(G + momentum M)`.
        """
        # On flat members: NumPy would copy strided matrices first.
        out = call.out
        for each in call.matrices():
            parameters, momenta, (gradient, *others) = each.parameters, each.momenta, each.gradients
            for part in others:
                gradient += part
            momenta *= call.momentum
            momenta += gradient
            out[...] = momenta
            out *= call.momentum
            out += gradient
            matrices = call.orthogonalize(self.xp.reshape(out, (*out.shape[:-1], *call.orthogonalize.shape)))
            step = self.xp.reshape(matrices, out.shape)
            step *= call.learning_rate * call.scale
            parameters -= step

    @primitive(OptimizerStep)
    def optimizer_step(self, call: OptimizerStep) -> None:
        """Take one step of an element-wise optimizer."""
        for part in call.parts():
            gradient = functools.reduce(operator.add, part.gradients)
            found, new_state = call.rule.update(
                self.xp, part.parameters, gradient, tuple(part.state), call.step, call.learning_rate
            )
            part.parameters[...] = found
            for buffer, value in zip(part.state, new_state, strict=True):
                buffer[...] = value
