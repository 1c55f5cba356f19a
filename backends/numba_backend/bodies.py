"""The fused bodies of the Numba backend: each describes its work by instructions of `compiled`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import calls
from ..dispatch import fused
from ..numpy_backend import bodies as on_numpy
from ..numpy_backend.bodies import NUMPY_BODIES
from ..numpy_backend.host import even_slices
from ..primitives import Primitives
from ..protocols import Array
from .compiled import instructions
from .compiled.addresses import address_of, is_plain, jit
from .compiled.instructions import address_fields, instruction, shared_out
from .compiled.kernels import backward_kernel, forward_kernel, loss_kernel, update_kernel
from .host import MIN_PART_COLUMNS, MIN_PART_NUMBERS, CompiledHost

_MIN_PART_BYTES = 32_768  # a part of gathered rows


@fused(Primitives.take_rows)
def take_rows(host: CompiledHost, call: calls.TakeRows) -> Array:
    """Gather rows, divided among the workers."""
    array, index, out = call
    fits = index.ndim <= 2 and index.dtype == np.int64 and index.strides[-1] == index.itemsize
    if not fits or not is_plain(array) or (array.ndim == 3 and index.ndim == 2 and len(array) != len(index)):
        host.refuse("take_rows of such arrays")
        return on_numpy.take_rows(host, call)
    ensemble, rows = array.shape[:-2] or index.shape[:-1], index.shape[-1]
    y = _out_or_new((*ensemble, rows, array.shape[-1]), array.dtype, out)
    row_bytes = array.shape[-1] * array.itemsize
    whole = instruction(
        instructions.TAKE_ROWS,
        **address_fields(x=array, y=y),
        index=address_of(index),
        index_step=0 if index.ndim == 1 else index.strides[0],
        members=math.prod(ensemble),
        rows=rows,
        inputs=row_bytes,
    )
    parts = host.parts(rows, max(1, _MIN_PART_BYTES // row_bytes))
    host.do(shared_out(whole, columns=parts), array, index, y, dtype=None)
    return host.result(y)


@fused(Primitives.linear)
def linear(host: CompiledHost, call: calls.Linear) -> tuple[Array, Array]:
    """Multiply, add the bias and apply the activation, divided among the workers."""
    x, W, b, activation, out, out_saved = call
    if not host.compiles(x, W, b, product=True):
        return on_numpy.linear(host, call)
    rows, units = x.shape[-2], W.shape[-1]
    y = _out_or_new((*W.shape[:-2], rows, units), W.dtype, out)
    saved = _out_or_new(y.shape, W.dtype, out_saved) if activation.saves_input else y
    shape = _shape_of_product(host, W, rows)
    places = address_fields(x=x, W=W, b=b, y=y, saved=saved)
    kernel = forward_kernel(activation, W.dtype)
    whole = instruction(instructions.LINEAR, **kernel.fields, **shape, **places)
    # By columns, so that each worker reads only its own weights; an output layer has too few columns.
    by_rows = units < 2 * MIN_PART_COLUMNS
    parts = host.parts_of_product(rows if by_rows else units, 2 * rows * W.size)
    all_rows, all_columns = [slice(0, rows)] * len(parts), [slice(0, units)] * len(parts)
    ranges = (parts, all_columns) if by_rows else (all_rows, parts)
    programs = shared_out(whole, rows=ranges[0], columns=ranges[1])
    host.do(programs, x, W, b, y, saved, kernel.coefficients, dtype=W.dtype)
    return host.result(y), host.result(saved)


@fused(Primitives.activation_backward)
def activation_backward(host: CompiledHost, call: calls.ActivationBackward) -> Array:
    """Multiply dy by the derivative, in place."""
    activation, dy, saved = call
    contiguous = dy.flags.c_contiguous and saved.flags.c_contiguous and dy.shape == saved.shape
    if not contiguous or not host.compiles(dy, saved):
        host.refuse("activation_backward of such arrays")
        return on_numpy.activation_backward(host, call)
    kernel = backward_kernel(activation, dy.dtype)
    places = {"dz": address_of(dy), "y": address_of(saved)}
    whole = instruction(instructions.ACTIVATION_BACKWARD, **kernel.fields, **places)
    programs = shared_out(whole, columns=host.parts(dy.size, MIN_PART_NUMBERS))
    host.do(programs, dy, saved, kernel.coefficients, dtype=dy.dtype)
    return dy


@fused(Primitives.linear_backward)
def linear_backward(host: CompiledHost, call: calls.LinearBackward) -> Array | None:
    """Compute `dW = x^T dz`, db, and `dx = dz W^T` times the derivative, divided by columns."""
    dz, x, W, dW, db, accumulate, previous, out = call
    saved = x if previous is None else previous[1]
    if not host.compiles(dz, x, W, dW, db, saved, product=True):
        return on_numpy.linear_backward(host, call)
    rows, (inputs, units) = x.shape[-2], W.shape[-2:]
    dx = None if previous is None else _out_or_new((*W.shape[:-2], rows, inputs), W.dtype, out)
    places = address_fields(x=x, W=W, dz=dz, dW=dW, db=db)
    arrays = [dz, x, W, dW, db]
    if previous is not None and dx is not None:
        kernel = backward_kernel(previous[0], W.dtype)
        places |= {**address_fields(dx=dx, saved=saved), **kernel.fields}
        arrays += [saved, dx, kernel.coefficients]
    shape = _shape_of_product(host, W, rows)
    whole = instruction(instructions.LINEAR_BACKWARD, accumulate=accumulate, **shape, **places)
    parts = host.parts_of_product(inputs, (2 if dx is None else 4) * rows * W.size)
    by_units = even_slices(0, units, len(parts))
    host.do(shared_out(whole, columns=parts, units=by_units), *arrays, dtype=W.dtype)
    return None if dx is None else host.result(dx)


@jit
def _grid(x_table: Array, y_table: Array, start: int, out: Array) -> None:
    width, m = x_table.shape[0], x_table.shape[1] // 2
    for i in range(out.shape[0]):
        x, y, features = x_table[(start + i) % width], y_table[(start + i) // width], out[i]
        for j in range(m):
            features[j] = x[j] * y[j] - x[m + j] * y[m + j]
            features[m + j] = x[m + j] * y[j] + x[j] * y[m + j]


@fused(Primitives.grid_fourier_features)
def grid_fourier_features(host: CompiledHost, call: calls.GridFourierFeatures) -> Array:
    """Combine the tables of rows and columns in one loop."""
    x_table, y_table, rows, out = call
    if out is None:
        out = np.empty((rows.stop - rows.start, x_table.shape[-1]), x_table.dtype)
    _grid(x_table, y_table, rows.start, out)
    return out


@fused(Primitives.loss_and_gradient)
def loss_and_gradient(host: CompiledHost, call: calls.LossAndGradient) -> tuple[Array, Array]:
    """Compute residuals, loss and gradient in one pass."""
    loss, prediction, target, divisor, weights, out = call
    given = (prediction, target) if weights is None else (prediction, target, weights)
    if not host.compiles(*given):
        return on_numpy.loss_and_gradient(host, call)
    ensemble, (rows, channels) = prediction.shape[:-2], prediction.shape[-2:]
    dy, value = _out_or_new(prediction.shape, prediction.dtype, out), np.empty(ensemble, prediction.dtype)
    places = address_fields(y=prediction, target=target, dz=dy)
    if weights is not None:
        places |= address_fields(weights=weights)
    kernel = loss_kernel(loss, prediction.dtype, 1.0 / divisor)
    whole = instruction(
        instructions.LOSS,
        **places,
        **kernel.fields,
        members=math.prod(ensemble),
        rows=rows,
        units=channels,
        value=address_of(value),
    )
    host.do([whole], *given, dy, value, kernel.coefficients, dtype=prediction.dtype)
    return host.result(value) if host.recording is not None else value[()], host.result(dy)


@fused(Primitives.optimizer_step)
def optimizer_step(host: CompiledHost, call: calls.OptimizerStep) -> None:
    """Update each range of the flat buffers in one pass, divided among the workers."""
    for part in call.parts():
        _update(host, part)


def _update(host: CompiledHost, call: calls.OptimizerStep) -> None:
    parameters, state, dtype = call.parameters, call.state, call.parameters.dtype
    if not _lie_flat(host, parameters, *call.gradients, *state):
        on_numpy.optimizer_step(host, call)
        return
    kernel = update_kernel(call.rule, dtype)
    states = np.array([address_of(buffer) for buffer in state] or [0], np.int64)
    settings = {**kernel.fields, "states": address_of(states)}
    whole, arrays = _update_of(host, instructions.UPDATE, call, call.step, settings)
    arrays += (states, *state, kernel.coefficients)
    programs = host.shared_by_workers(whole, math.prod(parameters.shape[:-1]), parameters.shape[-1])
    if host.recording is not None or len(programs) == 1:
        host.do(programs, *arrays, dtype=dtype)
    else:
        host.run_workers([functools.partial(host.do, [program], *arrays, dtype=dtype) for program in programs])


def _muon_is_compiled(host: CompiledHost, call: calls.MuonStep) -> str:
    m, n = call.orthogonalize.shape
    if m == n and host.gemm is not None and _lie_flat(host, call.parameters, *call.gradients, call.momenta):
        return ""
    return "has no compiled Muon for such arrays"


@fused(Primitives.muon_step, supports=_muon_is_compiled)
def muon_step(host: CompiledHost, call: calls.MuonStep) -> None:
    """Execute the step of each matrix as one instruction."""
    orthogonalize = call.orthogonalize
    settings = {
        **dict(zip(("y", "dz", "dx"), map(address_of, orthogonalize.buffers), strict=True)),
        **dict(zip(("linear", "cubic", "quintic"), orthogonalize.coefficients, strict=True)),
        "x": address_of(call.out),
        "rows": orthogonalize.shape[0],
        "iterations": orthogonalize.iterations,
        "momentum": call.momentum,
        "scale": call.scale,
    }
    for part in call.matrices():
        momenta = {"momenta": address_of(part.momenta)}
        whole, arrays = _update_of(host, instructions.MUON, part, None, settings | momenta)
        arrays += (part.momenta, part.out, *orthogonalize.buffers)
        host.do([whole], *arrays, dtype=call.parameters.dtype)


NUMBA_BODIES: tuple[Any, ...] = (
    *(*NUMPY_BODIES, take_rows, linear, activation_backward, linear_backward, grid_fourier_features),
    *(loss_and_gradient, optimizer_step, muon_step),
)


def _shape_of_product(host: CompiledHost, W: Array, rows: int) -> dict[str, int]:
    """Return the fields of a layer's shape, and whether its BLAS has a way for small products."""
    *_, inputs, units = W.shape
    shape = {"members": math.prod(W.shape[:-2]), "rows": rows, "inputs": inputs, "units": units}
    return shape | {"small_products": int(host.has_small_products and W.dtype == np.float32)}


def _lie_flat(host: CompiledHost, *buffers: Array) -> bool:
    """Whether parts of flat buffers (*E, P) have one dtype and layout; in a recorded step, raise if not."""
    dtype, stride = buffers[0].dtype, _row_bytes(buffers[0])
    known = dtype in (np.float32, np.float64) and all(a.dtype == dtype for a in buffers)
    if known and all(a.strides[-1] == a.itemsize and _row_bytes(a) == stride for a in buffers):
        return True
    host.refuse("an optimizer on arrays of this kind")
    return False


def _update_of(
    host: CompiledHost,
    kind: int,
    call: calls.OptimizerStep | calls.MuonStep,
    step: int | Array | None,
    settings: Mapping[str, float],
) -> tuple[Any, tuple[Array, ...]]:
    """Return the instruction for all members, and the arrays that it names."""
    parameters, gradients, rates = call.parameters, call.gradients, call.learning_rate
    if not isinstance(rates, np.ndarray):
        rates = np.array([rates], np.float64)
    counter = step if isinstance(step, np.ndarray) else np.array([step or 0], np.int64)
    if rates.dtype != np.float64 or not rates.flags.c_contiguous:
        host.refuse("learning rates of this kind")
        rates = np.ascontiguousarray(rates, np.float64)
    table = np.array([address_of(gradient) for gradient in gradients], np.int64)
    members, width = math.prod(parameters.shape[:-1]), parameters.shape[-1]
    whole = instruction(
        kind,
        units=_row_bytes(parameters) // parameters.itemsize,
        members=members,
        last_row=members,
        last=width,
        parameters=address_of(parameters),
        gradients=address_of(table),
        num_gradients=len(table),
        rates=address_of(rates),
        num_rates=rates.size,
        counter=address_of(counter),
        **settings,
    )
    return whole, (parameters, *gradients, rates, table, counter)


def _row_bytes(a: Array) -> int:
    """Return the bytes between members in a part of a flat buffer (*E, P); -1 if they vary."""
    if a.ndim == 1:
        return int(a.size * a.itemsize)
    return int(a.strides[-2]) if a.ndim == 2 or a.flags.c_contiguous else -1


def _out_or_new(shape: tuple[int, ...], dtype: Any, out: Array | None) -> Array:
    """Return the offered buffer if it fits, else new memory."""
    if out is not None and out.shape == shape and out.dtype == dtype and out.flags.c_contiguous:
        return out
    return np.empty(shape, dtype)
