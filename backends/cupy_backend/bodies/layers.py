"""Layers forward and backward: products with fused epilogues, or plain products and kernels.

Products are CuPy's own without cublasLt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ...calls import ActivationBackward, Linear, LinearBackward, Matmul
from ...dispatch import fused
from ...lowering.cuda_text import CudaFormula, cuda_activation
from ...primitives import Primitives
from ...protocols import Activation, Array
from ..cublaslt.autotune import Tier
from ..cublaslt.layer_products import backward_input, backward_weights, forward
from ..cublaslt.products import Strides
from ..device import Device
from ..kernels import CHUNK, blocks_for, groups_of_rows
from ..strides import c_types, ensemble_of, fault_of, fault_of_written, member_stride, members_of, strided
from .products import pointers_to, run_by_cupy_if_refused, run_product, types_of
from .sixteen_bits import cast, is_stored, parameter_in_16_bits, refuse_16_bits, widened
from .sums import MAX_PARTS, NO_COLUMNS, Columns, add, sum_over_rows, sum_partials, sums_dtype

_ROWS_OF_A_THREAD = 2  # at once, in `activation_backward`


def _linear_fits(gpu: Device, call: Linear) -> str:
    return refuse_16_bits(gpu, fault_of(call.x, call.W, call.b, stored=gpu.stored), call.x)


@fused(Primitives.linear, supports=_linear_fits)
def linear(gpu: Device, call: Linear) -> tuple[Array, Array]:
    """Run one product with bias and ReLU in its epilogue, or a product and a kernel."""
    out, out_saved = call.out, call.out_saved
    call = call._replace(x=gpu.packed(call.x), W=gpu.packed(call.W), b=gpu.packed(call.b))
    narrow = is_stored(gpu, out)
    if is_stored(gpu, call.x) == narrow:
        return _layer(gpu, call)
    # Only one of input and output has 16 bits, as in the first and last layer: compute in float32.
    shape = (*ensemble_of(call.x, call.W, call.b), call.x.shape[-2], call.W.shape[-1])
    if narrow:
        y, z = (gpu.reuse(purpose, shape, call.W.dtype) for purpose in ("y", "z"))
        call = call._replace(out=y, out_saved=z)
    y, saved = _layer(gpu, call._replace(x=widened(gpu, "x", call.x)))
    if not narrow:
        return y, saved
    stored = cast(gpu, y, gpu.out_or_new(out, shape, out))
    if saved is y:
        return stored, stored
    return stored, cast(gpu, saved, gpu.out_or_new(out_saved, shape, out))


def _layer(gpu: Device, call: Linear) -> tuple[Array, Array]:
    """Compute `linear` of packed operands, with x and the results in one dtype."""
    x, W, b, activation, out, out_saved = call
    shape = (*ensemble_of(x, W, b), x.shape[-2], W.shape[-1])
    z = y = gpu.out_or_new(out_saved if activation.saves_input else out, shape, x)
    if activation.saves_input:
        y = gpu.out_or_new(out, shape, x)
    gpu.column_sums.forget(y, z)
    rows, width = shape[-2:]
    formula = cuda_activation(activation)
    finish = functools.partial(
        gpu.launch,
        "bias_activation",
        c_types(z),
        (blocks_for(rows, groups_of_rows(width)), members_of(shape)),
        *strided(z, b, y),
        *(rows, width, formula),
    )
    if not _forward(gpu, call, z, formula, finish):
        finish()
    return y, z if activation.saves_input else y


def _forward(gpu: Device, call: Linear, z: Array, formula: CudaFormula, finish: Callable[[], None]) -> bool:
    """Compute `z = x W`; return whether the epilogue did the work of `finish` (bias, activation)."""
    x, W, b = call.x, call.W, call.b
    sizes, types = (x.shape[-2], *W.shape[-2:]), types_of(gpu, x)
    if is_stored(gpu, x):
        W, b = parameter_in_16_bits(gpu, W), parameter_in_16_bits(gpu, b)
    members, strides = members_of(z.shape), Strides(*map(member_stride, (x, W, z, b)))
    pointers = pointers_to(x, W, z)._replace(vector=b.data.ptr)
    is_known = formula.is_relu or formula.is_identity
    product = forward(sizes, types, bias=is_known, relu=formula.is_relu, members=members, strides=strides)
    pointers = pointers if is_known else pointers_to(x, W, z)
    tier = run_product(gpu, product, pointers, finish=finish if is_known else None)
    run_by_cupy_if_refused(gpu, tier, Matmul(x, W, out=z))
    return is_known and tier is Tier.EPILOGUE


def _derivative_fits(gpu: Device, call: ActivationBackward) -> str:
    dy, saved = call.dy, call.saved
    fault = fault_of(dy, saved, stored=gpu.stored)
    if not fault and dy.dtype != saved.dtype:
        fault = f"takes arrays of one dtype, not of {dy.dtype} and {saved.dtype}"
    return refuse_16_bits(gpu, fault, dy, saved)


@fused(Primitives.activation_backward, supports=_derivative_fits)
def activation_backward(gpu: Device, call: ActivationBackward) -> Array:
    """Multiply dy by the derivative, in its place, and leave the sums over rows for `linear_backward`."""
    return _activation_backward(gpu, call)


def _activation_backward(gpu: Device, call: ActivationBackward, next_db: Columns | None = None) -> Array:
    """Compute `activation_backward`, and add up db of the layer after it in the same launch."""
    formula = cuda_activation(call.activation)
    if formula.is_identity:
        if next_db is not None:
            sum_partials(gpu, next_db)
        return call.dy
    dz, saved = gpu.packed(call.dy), gpu.packed(call.saved)
    gpu.column_sums.forget(dz)
    (rows, width), members = dz.shape[-2:], members_of(dz.shape)
    blocks = blocks_for(rows, _ROWS_OF_A_THREAD * groups_of_rows(-(-width // CHUNK)), MAX_PARTS)
    sums = gpu.column_sums.acquire((members, blocks, width), sums_dtype(dz))
    adding = 0 if next_db is None else next_db.blocks
    gpu.launch(
        "activation_backward",
        c_types(dz),
        (blocks + adding, members),
        *(*strided(dz, saved, dz), sums, blocks * width, rows, width, blocks),
        *(NO_COLUMNS if next_db is None else next_db.arguments()),
        formula,
    )
    gpu.column_sums.note(dz, sums)
    return dz


def _backward_fits(gpu: Device, call: LinearBackward) -> str:
    dz, x, W, dW, db = call[:5]
    saved = None if call.previous is None else call.previous[1]
    fault = fault_of(dz, x, W, dW, db, saved, stored=gpu.stored) or fault_of_written(dW, db)
    return refuse_16_bits(gpu, fault, dz, x, saved)


@fused(Primitives.linear_backward, supports=_backward_fits)
def linear_backward(gpu: Device, call: LinearBackward) -> Array | None:
    """Compute `dW = x^T dz`, db, and `dx = dz W^T` with the derivative, on two streams if given."""
    dz, x = gpu.packed(call.dz), gpu.packed(call.x)
    if is_stored(gpu, dz) != is_stored(gpu, x):  # in float32, as in `linear`
        dz, x = widened(gpu, "dz", dz), widened(gpu, "x", x)
    call = call._replace(dz=dz, x=x)
    with gpu.column_sums.taken(dz) as sums:
        db = None if sums is None else Columns(sums, call.db, member_stride(call.db), call.accumulate)
        return _linear_backward(gpu, call, db)


def _linear_backward(gpu: Device, call: LinearBackward, db: Columns | None) -> Array | None:
    if call.previous is None:
        _weights_backward(gpu, call, db)
        if db is not None:
            sum_partials(gpu, db)
        return None
    if gpu.stream_pair is None:
        _weights_backward(gpu, call, db)
        return _previous_dz(gpu, call, *call.previous, db)
    # Both products only read dz, and neither reads what the other writes. Both must end before x is reused.
    with gpu.stream_pair.in_parallel(functools.partial(_weights_backward, gpu, call, db)):
        return _previous_dz(gpu, call, *call.previous, db)


def _previous_dz(
    gpu: Device, call: LinearBackward, activation: Activation, saved: Array, db: Columns | None
) -> Array:
    """Return `(dz W^T) f'(z)` for the previous layer, and add up db if its partial sums are given."""
    dz, W = call.dz, gpu.packed(call.W)
    saved = gpu.packed(saved)
    shape = (*ensemble_of(dz, W), dz.shape[-2], W.shape[-2])
    if is_stored(gpu, dz) == is_stored(gpu, saved):
        dx = gpu.out_or_new(call.out, shape, dz)
        _input_backward(gpu, dz, W, dx)
    else:
        wide = gpu.reuse("dx", shape, W.dtype)
        _input_backward(gpu, dz, W, wide)
        dx = cast(gpu, wide, gpu.out_or_new(call.out, shape, saved))
    return _activation_backward(gpu, ActivationBackward(activation, dx, saved), db)


def _weights_backward(gpu: Device, call: LinearBackward, sums: Columns | None) -> None:
    """Fill `dW = x^T dz`, and db, the sum of dz over rows, if there are no partial sums; or add to both."""
    dz, x, dW, db, accumulate = call.dz, call.x, call.dW, call.db, call.accumulate
    # The library overwrites db, so a sum to add needs memory of its own.
    new_db = gpu.reuse("db", db.shape, db.dtype) if accumulate and sums is None else db
    product = backward_weights(
        (x.shape[-2], *dW.shape[-2:]),
        types_of(gpu, x),
        bias=sums is None,
        accumulate=accumulate,
        members=members_of(dW.shape),
        strides=Strides(*map(member_stride, (x, dz, dW, new_db))),
    )
    pointers, finish = pointers_to(x, dz, dW), None
    if sums is None:
        pointers = pointers._replace(vector=new_db.data.ptr)
        finish = functools.partial(sum_over_rows, gpu, dz, db, accumulate)
    tier = run_product(gpu, product, pointers, finish=finish)
    run_by_cupy_if_refused(gpu, tier, Matmul(x, dz, transpose_a=True, out=dW), accumulate)
    if finish is None:
        return
    if tier is not Tier.EPILOGUE:
        finish()
    elif accumulate:
        add(gpu, db, new_db, core=2)


def _input_backward(gpu: Device, dz: Array, W: Array, dx: Array) -> None:
    """Compute `dx = dz W^T`."""
    if is_stored(gpu, dz):
        W = parameter_in_16_bits(gpu, W)
    product = backward_input(
        (dz.shape[-2], *W.shape[-2:]),
        types_of(gpu, dz),
        members=members_of(dx.shape),
        strides=Strides(*map(member_stride, (dz, W, dx))),
    )
    tier = run_product(gpu, product, pointers_to(dz, W, dx))
    run_by_cupy_if_refused(gpu, tier, Matmul(dz, W, transpose_b=True, out=dx))
