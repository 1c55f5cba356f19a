"""The fused bodies of NumPy: products into buffers, and passes of lowered formulas over them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import calls
from ..dispatch import fused
from ..primitives import Primitives
from ..protocols import Array
from .host import Host
from .passes import Coefficients, backward_passes, forward_passes, loss_passes, update_passes


@fused(Primitives.take_rows)
def take_rows(host: Host, call: calls.TakeRows) -> Array:
    """Gather rows by `numpy.take`."""
    array, rows, out = call
    if rows.ndim > 1 and array.ndim > 2:
        return np.take_along_axis(array, rows[..., None], axis=-2)
    if out is not None and out.shape != (*(array.shape[:-2] or rows.shape[:-1]), rows.shape[-1], out.shape[-1]):
        out = None
    # With mode "raise" NumPy would gather into a temporary first; our indices are in range.
    return np.take(array, rows, axis=-2, out=out, mode="clip")


@fused(Primitives.matmul)
def matmul(host: Host, call: calls.Matmul) -> Array:
    """Multiply views: the BLAS takes transposed ones by a flag."""
    a = call.a.swapaxes(-1, -2) if call.transpose_a else call.a
    b = call.b.swapaxes(-1, -2) if call.transpose_b else call.b
    return host.product(a, b, call.out)


@fused(Primitives.linear)
def linear(host: Host, call: calls.Linear) -> tuple[Array, Array]:
    """Multiply, add the bias and apply the activation, in place."""
    x, W, b, activation, out, out_saved = call
    passes, coefficients = forward_passes(activation)
    if not activation.saves_input:
        y = host.product(x, W, out)
        y += b
        passes(host.reuse, coefficients, y)
        return y, y
    z = host.product(x, W, out_saved)
    z += b
    y = np.empty_like(z) if out is None else out
    passes(host.reuse, coefficients, z, y)
    return y, z


@fused(Primitives.activation_backward)
def activation_backward(host: Host, call: calls.ActivationBackward) -> Array:
    """Multiply dy by the derivative, in place."""
    passes, coefficients = backward_passes(call.activation)
    passes(host.reuse, coefficients, call.dy, call.saved)
    return call.dy


@fused(Primitives.linear_backward)
def linear_backward(host: Host, call: calls.LinearBackward) -> Array | None:
    """Compute `dW = x^T dz`, db and `dx = dz W^T`; multiply dx by the derivative in place."""
    dz, x, W, dW, db, accumulate, previous, out = call
    x_T = x.swapaxes(-1, -2)
    if accumulate:
        _add(dW, host.product(x_T, dz, host.reuse("dW", dW.shape, dW.dtype)))
        new_db = host.reuse("db", db.shape, db.dtype)
        _sum_over_rows(host, dz, new_db)
        db += new_db
    else:
        host.product(x_T, dz, dW)
        _sum_over_rows(host, dz, db)
    if previous is None:
        return None
    dx = host.product(dz, W.swapaxes(-1, -2), out)
    return activation_backward(host, calls.ActivationBackward(previous[0], dx, previous[1]))


@fused(Primitives.fourier_features)
def fourier_features(host: Host, call: calls.FourierFeatures) -> Array:
    """Compute phases in the memory of the features."""
    coordinates, B, out = call
    m = B.shape[-2]
    if out is None:
        ensemble = np.broadcast_shapes(coordinates.shape[:-2], B.shape[:-2])
        out = np.empty((*ensemble, coordinates.shape[-2], 2 * m), B.dtype)
    cosines, sines = out[..., :m], out[..., m:]
    # Not by the BLAS, whose last bit depends on its threads for so thin a product.
    phase = np.multiply(coordinates[..., :1], B[..., None, :, 0], out=sines)
    for i in range(1, B.shape[-1]):
        phase += np.multiply(coordinates[..., i : i + 1], B[..., None, :, i], out=cosines)
    phase -= np.rint(phase, out=cosines)
    phase *= 2.0 * np.pi
    np.cos(phase, out=cosines)
    np.sin(phase, out=sines)
    return out


@fused(Primitives.grid_fourier_features)
def grid_fourier_features(host: Host, call: calls.GridFourierFeatures) -> Array:
    """Combine the tables of rows and columns, one row of the grid after the other."""
    x, y, rows, out = call
    width, m = x.shape[0], x.shape[1] // 2
    cos_x, sin_x, cos_y, sin_y = x[:, :m], x[:, m:], y[:, :m], y[:, m:]
    if out is None:
        out = np.empty((rows.stop - rows.start, 2 * m), x.dtype)
    start = rows.start
    while start < rows.stop:
        row, column = divmod(start, width)
        stop = min(rows.stop, start + width - column)
        place = slice(start - rows.start, stop - rows.start)
        columns = slice(column, column + stop - start)
        cosines, sines = out[place, :m], out[place, m:]
        t = host.reuse("grid", (stop - start, m), out.dtype)
        np.multiply(cos_x[columns], cos_y[row], out=cosines)
        cosines -= np.multiply(sin_x[columns], sin_y[row], out=t)
        np.multiply(sin_x[columns], cos_y[row], out=sines)
        sines += np.multiply(cos_x[columns], sin_y[row], out=t)
        start = stop
    return out


@fused(Primitives.loss_and_gradient)
def loss_and_gradient(host: Host, call: calls.LossAndGradient) -> tuple[Array, Array]:
    """Compute residuals in the memory of dy, then loss and gradient from them."""
    loss, prediction, target, divisor, weights, out = call
    dy = np.subtract(prediction, target, out=np.empty_like(prediction) if out is None else out)
    passes, coefficients = loss_passes(loss, weights is not None)
    buffers = (dy,) if weights is None else (dy, weights)
    value, dy = passes(host.reuse, (*coefficients, 1.0 / divisor), *buffers)
    return np.add.reduce(value, axis=(-2, -1)) / divisor, dy


@fused(Primitives.optimizer_step)
def optimizer_step(host: Host, call: calls.OptimizerStep) -> None:
    """Update the flat buffers in pieces, on all workers."""
    formula, passes = update_passes(call.rule)
    num_states = len(call.state)

    def update(coefficients: Coefficients, parameters: Array, *others: Array) -> None:
        buffers, (gradient, *parts) = others[:num_states], others[num_states:]
        for part in parts:
            gradient += part
        passes(host.reuse, coefficients, parameters, gradient, *buffers)

    coefficients = formula.values(call.rule, step=call.step, learning_rate=call.learning_rate)
    for part in call.parts():
        host.by_pieces(update, coefficients, part.parameters, *part.state, *part.gradients)


NUMPY_BODIES: tuple[Any, ...] = (
    *(take_rows, matmul, linear, activation_backward, linear_backward, fourier_features),
    *(grid_fourier_features, loss_and_gradient, optimizer_step),
)


def _sum_over_rows(host: Host, dz: Array, db: Array) -> None:
    """Fill db with the sum of dz over rows."""
    ones = host.reuse("ones", (1, dz.shape[-2]), dz.dtype)  # a product is three times as fast as a sum
    if ones[0, -1] != 1.0:
        ones[...] = 1.0
    np.matmul(ones, dz, out=db)


def _add(total: Array, part: Array) -> None:
    """Add `part` to `total` (*E, n_in, n_out), a view into a flat buffer without overlap."""
    # NumPy would copy a strided total of three dimensions first, but not one of two.
    merged = total.reshape(*total.shape[:-2], -1)
    if np.may_share_memory(merged, total):
        merged += part.reshape(merged.shape)
    else:
        total += part
