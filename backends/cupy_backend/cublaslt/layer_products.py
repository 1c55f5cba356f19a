"""The products of a layer, and the mask of a ReLU that goes from one to another.

With N rows (pixels), and for each member:

| product          | out              | left | right | epilogues                        |
|------------------|------------------|------|-------|----------------------------------|
| forward          | Y (N, n_out)     | X    | W     | bias, ReLU, mask of ReLU written |
| backward input   | dX (N, n_in)     | dZ   | W^T   | mask of ReLU applied             |
| backward weights | dW (n_in, n_out) | X^T  | dZ    | db = sum over rows of dZ         |
"""

from __future__ import annotations

from typing import Any

from .products import Epilogue, Product, Strides, Types

Sizes = tuple[int, int, int]

_MASK_STEP = 128  # bits: a row of the mask begins at a multiple of this


def forward(
    sizes: Sizes,
    types: Types,
    *,
    bias: bool = True,
    relu: bool = True,
    mask: bool = True,
    members: int = 1,
    strides: Strides | None = None,
) -> Product:
    """Return `Y = X W (+ b)`, and ReLU, and the mask for its way back.

    Parameters
    ----------
    sizes : (rows, n_in, n_out)
        X is (N, n_in), W (n_in, n_out), b (n_out,), Y (N, n_out), the mask `mask_bytes(N, n_out)` for each
        member, one after the other. Pointers: left X, right W, vector b.
    bias, relu, mask : bool
        What the epilogue does; a mask is of a ReLU only. It is worth writing only if the product that would
        read it, `backward_input(masked=True)`, is not refused.
    strides : Strides, optional
        Without that of the mask; None for members that follow each other closely.
    """
    rows, n_in, n_out = sizes
    epilogue = Epilogue.BIAS if bias else Epilogue.NONE
    if relu:
        flags = (Epilogue.RELU_AUX if mask else Epilogue.RELU) | (Epilogue.BIAS if bias else 0)
        epilogue = Epilogue(flags)
    strides = strides or Strides(rows * n_in, n_in * n_out, rows * n_out, n_out)
    if not bias:
        strides = strides._replace(vector=0)
    return _product("forward", (rows, n_out, n_in), types, strides, members, epilogue=epilogue)


def backward_input(
    sizes: Sizes, types: Types, *, masked: bool = True, members: int = 1, strides: Strides | None = None
) -> Product:
    """Return `dZ W^T`, and 0 where the mask of the previous layer has a 0: its dZ, if it ends in a ReLU.

    Parameters
    ----------
    sizes : (rows, n_in, n_out)
        dZ is (N, n_out), W (n_in, n_out), the result (N, n_in), and so the mask of the previous layer, as
        `forward` wrote it there. Pointers: left dZ, right W.
    masked : bool
        Whether there is such a mask; otherwise the derivative of the activation is left to the caller.
    strides : Strides, optional
        As of `forward`.
    """
    rows, n_in, n_out = sizes
    epilogue = Epilogue.DRELU if masked else Epilogue.NONE
    strides = strides or Strides(rows * n_out, n_in * n_out, rows * n_in)
    return _product(
        "backward input", (rows, n_in, n_out), types, strides, members, epilogue=epilogue, transpose_right=True
    )


def backward_weights(
    sizes: Sizes,
    types: Types,
    *,
    bias: bool = True,
    accumulate: bool = False,
    members: int = 1,
    strides: Strides | None = None,
) -> Product:
    """Return `dW = X^T dZ`, or `dW + X^T dZ`, and `db`, the sum of dZ over rows, in `for_gradients` types.

    Parameters
    ----------
    sizes : (rows, n_in, n_out)
        X is (N, n_in), dZ (N, n_out), dW (n_in, n_out), db (n_out,). Pointers: left X, right dZ, vector db.
    bias : bool
        Whether db is wanted. It is always overwritten: with `accumulate` let it go to a buffer of its own.
    strides : Strides, optional
        As of `forward`.
    """
    rows, n_in, n_out = sizes
    strides = strides or Strides(rows * n_in, rows * n_out, n_in * n_out, n_out)
    return _product(
        "backward weights",
        (n_in, n_out, rows),
        types.for_gradients(),
        strides if bias else strides._replace(vector=0),
        members,
        epilogue=Epilogue.BGRADA if bias else Epilogue.NONE,
        accumulate=accumulate,
        transpose_left=True,
    )


def matmul(
    sizes: Sizes,
    types: Types,
    *,
    transpose_left: bool = False,
    transpose_right: bool = False,
    members: int = 1,
    strides: Strides | None = None,
) -> Product:
    """Return `op(left) op(right)`, without an epilogue, for sizes (rows, columns, inner)."""
    rows, columns, inner = sizes
    strides = strides or Strides(rows * inner, inner * columns, rows * columns)
    return _product(
        "matmul",
        sizes,
        types,
        strides,
        members,
        transpose_left=transpose_left,
        transpose_right=transpose_right,
    )


def _product(
    name: str,
    sizes: Sizes,
    types: Types,
    strides: Strides,
    members: int,
    epilogue: Epilogue = Epilogue.NONE,
    **options: Any,
) -> Product:
    """Return a product with sizes (rows, columns, inner); one network is one key, whatever its strides."""
    if members == 1:
        strides = Strides()
    elif epilogue.has_mask:
        strides = strides._replace(mask=mask_leading_dimension(sizes[1]) * sizes[0])
    return Product(name, *sizes, types, epilogue=epilogue, members=members, strides=strides, **options)


# -- the mask --------------------------------------------------------------------------------------------


def mask_leading_dimension(columns: int) -> int:
    """Return the bits from one row of a mask to the next, for a result of that many columns."""
    return -(-columns // _MASK_STEP) * _MASK_STEP


def mask_bytes(rows: int, columns: int) -> int:
    """Return the bytes of one member's mask for a result (rows, columns): one bit an element, rows padded."""
    return mask_leading_dimension(columns) * rows // 8
