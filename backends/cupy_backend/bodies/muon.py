"""Muon: the matrices of all hidden layers and members as one batch, in twelve launches for three iterations.

In an iteration `X <- c X ((A + b / 2c I)^2 + (a / c - b^2 / 4c^2) I)`, where `A = X^T X`, the products add the
multiples of the identity, or a kernel where that is faster: see `coordfit.optimizers.muon`.
"""

from __future__ import annotations

import functools
import itertools

from ...calls import MuonStep
from ...dispatch import fused, generic
from ...primitives import Primitives
from ...protocols import Array
from ..cublaslt.autotune import Tier
from ..cublaslt.layer_products import matmul as product_of
from ..cublaslt.products import PRECISIONS
from ..device import Device
from ..kernels import blocks_for
from ..strides import MAX_MEMBERS, c_types, fault_of, fault_of_written, member_stride, members_of
from .optimizers import rates_of
from .products import pointers_to, run_product, types_of
from .sixteen_bits import cast
from .sums import add

# So that squares of numbers as small as 1e-22 are not lost in float32; it cancels.
_SCALE = 2.0**24
_SMALLEST = 1e-30  # norm of X^T X: a matrix below it is 0
_THREADS_OF_A_MATRIX = 1024


@fused(Primitives.muon_step)
def muon_step(gpu: Device, call: MuonStep) -> None:
    """Take the step of all matrices together, or run the generic body; update the 16-bit copy.

    The orthogonalized step does not depend on the loss scale.
    """
    compute_copy = gpu.compute_copies.of_part(call.parameters)
    if not _is_a_batch(gpu, call):
        generic(Primitives.muon_step)(gpu, call)
        if compute_copy is not None:
            cast(gpu, call.parameters, compute_copy, core=1)
        return
    parameters, (gradient,), orthogonalize = call.parameters, call.gradients, call.orthogonalize
    (n, _), layers, members = orthogonalize.shape, len(call.starts), members_of(parameters.shape, 1)
    shape = (members * layers, n, n)
    X, other, A, D = (gpu.reuse(f"Muon's {name}", shape, parameters.dtype) for name in ("X", "Y", "A", "D"))
    step = call.starts[1] - call.starts[0] if layers > 1 else 0
    places = (member_stride(parameters, 1), call.starts[0], step, layers)
    grid, types = (blocks_for(n * n), members * layers), c_types(parameters)
    gpu.launch("muon_direction", types, grid, call.momenta, gradient, *places, X, n * n, call.momentum, _SCALE)
    *_, c = orthogonalize.coefficients
    inner, outer = (
        gpu.reuse(f"multiples of I for {orthogonalize.coefficients}: {name}", shape, parameters.dtype, multiple)
        for name, multiple in (("inner", orthogonalize.inner), ("outer", orthogonalize.outer))
    )
    for i in range(orthogonalize.iterations):
        if i == 0:
            _multiply(gpu, X, X, A, transpose_left=True)
            gpu.launch(
                "muon_normalize",
                types,
                (1, members * layers),
                *(A, X, n, orthogonalize.shift, _SMALLEST),
                block=_THREADS_OF_A_MATRIX,
            )
        else:
            _multiply(gpu, X, X, A, transpose_left=True, addend=inner)
        _multiply(gpu, A, A, D, addend=outer)
        _multiply(gpu, X, D, other, factor=c)
        X, other = other, X
    gpu.launch(
        "muon_update",
        c_types(parameters, parameters if compute_copy is None else compute_copy),
        grid,
        *(parameters, compute_copy, *places, X, n * n, *rates_of(gpu, call.learning_rate), call.scale),
    )


def _is_a_batch(gpu: Device, call: MuonStep) -> bool:
    """Whether one launch takes all matrices: square, at equal distances in buffers that are laid out alike."""
    m, n = call.orthogonalize.shape
    arrays = (call.parameters, call.momenta, *call.gradients)
    distances = {later - earlier for earlier, later in itertools.pairwise(call.starts)}
    if not gpu.has_cublaslt or len(call.gradients) > 1 or m != n or len(distances) > 1:
        return False
    if fault_of(*arrays, core=1) or fault_of_written(*arrays, core=1):
        return False
    if members_of(call.parameters.shape, 1) * len(call.starts) > MAX_MEMBERS:
        return False
    return len({member_stride(array, 1) for array in arrays}) == 1


def _multiply(
    gpu: Device,
    left: Array,
    right: Array,
    out: Array,
    *,
    transpose_left: bool = False,
    addend: Array | None = None,
    factor: float = 1.0,
) -> None:
    """Compute `out = factor op(left) right + addend` of matrices (members, n, n)."""
    members, n, _ = out.shape
    types = types_of(gpu, out)
    if gpu.precision == "bf16" and types == PRECISIONS["float32"]:  # gradients have fewer bits than TF32
        types = PRECISIONS["tf32"]
    beta, place = (0.0, 0) if addend is None else (1.0, addend.data.ptr)
    product = product_of(
        (n, n, n), types, transpose_left=transpose_left, alpha=factor, beta=beta, members=members
    )
    finish = None if addend is None else functools.partial(add, gpu, out, addend, core=2)
    tier = run_product(gpu, product, pointers_to(left, right, out)._replace(addend=place), finish=finish)
    if tier is Tier.LIBRARY:
        xp = gpu.xp
        out[...] = xp.matmul(xp.swapaxes(left, -1, -2) if transpose_left else left, right) * factor
    if finish is not None and tier is not Tier.EPILOGUE:
        finish()
