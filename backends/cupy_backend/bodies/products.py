"""Matrix products by cublasLt, or by CuPy if cublasLt refuses or is missing."""

from __future__ import annotations

from collections.abc import Callable

from ...calls import Matmul
from ...dispatch import fused
from ...primitives import Primitives
from ...protocols import Array
from ..compute_copies import PRODUCT_TYPES
from ..cublaslt.autotune import Tier
from ..cublaslt.layer_products import matmul as product_of
from ..cublaslt.products import PRECISIONS, Pointers, Product, Strides, Types
from ..device import Device
from ..strides import ensemble_of, fault_of, is_packed, member_stride, members_of
from .sixteen_bits import cast, is_stored, widened


def types_of(gpu: Device, operand: Array) -> Types:
    """Return cublasLt's types for a product with such an operand."""
    name = str(operand.dtype)
    return PRECISIONS["tf32" if name == "float32" and gpu.precision == "tf32" else PRODUCT_TYPES[name]]


def pointers_to(left: Array, right: Array, out: Array) -> Pointers:
    """Return the addresses of packed operands and result."""
    return Pointers(left.data.ptr, right.data.ptr, out.data.ptr)


def run_product(
    gpu: Device,
    product: Product,
    pointers: Pointers,
    *,
    finish: Callable[[], object] | None = None,
) -> Tier:
    """Run a product of cublasLt unless it is on the tier LIBRARY; return its tier.

    `finish` launches the kernels that follow a plain product; only trials call it, not the run itself.
    """
    stream, workspace = gpu.xp.cuda.get_current_stream().ptr, gpu.workspace
    step = gpu.autotuner.resolve(
        product, pointers, workspace, stream, finish=finish, is_recording=gpu.is_recording
    )
    if step.tier is not Tier.LIBRARY:
        step.run(pointers, workspace, stream)
    return step.tier


def run_by_cupy_if_refused(gpu: Device, tier: Tier, call: Matmul, accumulate: bool = False) -> None:
    """Compute `out = op(a) op(b)` by CuPy if the tier is LIBRARY."""
    if tier is not Tier.LIBRARY:
        return
    xp, out = gpu.xp, call.out
    assert out is not None
    a, b = widened(gpu, "left", call.a), widened(gpu, "right", call.b)
    a = xp.swapaxes(a, -1, -2) if call.transpose_a else a
    b = xp.swapaxes(b, -1, -2) if call.transpose_b else b
    product = xp.matmul(a, b)
    if is_stored(gpu, out):
        cast(gpu, product, out)
    else:
        out[...] = out + product if accumulate else product


def _matmul_fits(gpu: Device, call: Matmul) -> str:
    return fault_of(call.a, call.b)


@fused(Primitives.matmul, supports=_matmul_fits)
def matmul(gpu: Device, call: Matmul) -> Array:
    """Multiply packed operands; transposed views need no copy."""
    a, transpose_a = _packed_operand(gpu, call.a, call.transpose_a)
    b, transpose_b = _packed_operand(gpu, call.b, call.transpose_b)
    rows, inner = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    columns = b.shape[-2] if transpose_b else b.shape[-1]
    out = gpu.out_or_new(call.out, (*ensemble_of(a, b), rows, columns), a)
    gpu.column_sums.forget(out)
    product = product_of(
        (rows, columns, inner),
        types_of(gpu, out),
        transpose_left=transpose_a,
        transpose_right=transpose_b,
        members=members_of(out.shape),
        strides=Strides(*map(member_stride, (a, b, out))),
    )
    tier = run_product(gpu, product, pointers_to(a, b, out))
    run_by_cupy_if_refused(gpu, tier, Matmul(a, b, transpose_a, transpose_b, out))
    return out


def _packed_operand(gpu: Device, array: Array, transposed: bool) -> tuple[Array, bool]:
    """Return a packed operand and its transpose flag, inverted for a transposed view."""
    if not is_packed(array):
        turned = gpu.xp.swapaxes(array, -1, -2)
        if is_packed(turned):
            return turned, not transposed
    return gpu.packed(array), transposed
