"""The products of a layer, and the mask of a ReLU that goes from one to another.

With N rows (pixels), and for each member:

| product          | out              | left | right | epilogues                        |
|------------------|------------------|------|-------|----------------------------------|
| forward          | Y (N, n_out)     | X    | W     | bias, ReLU, mask of ReLU written |
| backward input   | dX (N, n_in)     | dZ   | W^T   | mask of ReLU applied             |
| backward weights | dW (n_in, n_out) | X^T  | dZ    | db = sum over rows of dZ         |
"""

from __future__ import annotations

from .products import Epilogue, Product, Strides, Types

_MASK_STEP = 128  # bits: a row of the mask begins at a multiple of this


def forward(
    rows: int,
    n_in: int,
    n_out: int,
    types: Types,
    *,
    bias: bool = True,
    relu: bool = True,
    mask: bool = True,
    members: int = 1,
    x_stride: int | None = None,
    W_stride: int | None = None,
    b_stride: int | None = None,
    y_stride: int | None = None,
) -> Product:
    """Y = X W (+ b) (and ReLU (and the mask for its backward pass)).

    Parameters
    ----------
    rows, n_in, n_out : int
        X is (N, n_in), W (n_in, n_out), b (n_out,), Y (N, n_out), the mask `mask_bytes(N, n_out)` for each
        member, one after the other. Pointers: left X, right W, vector b.
    bias, relu, mask : bool
        What the epilogue does; a mask is of a ReLU only. It is worth writing only where the product that
        would read it, `backward_input(masked=True)`, is not refused.
    *_stride : int, optional
        From one member to the next; 0 for what they share, None where they follow each other closely.
    """
    epilogue = _forward_epilogue(bias, relu, mask)
    strides = Strides(
        _packed(x_stride, rows * n_in),
        _packed(W_stride, n_in * n_out),
        _packed(y_stride, rows * n_out),
        _packed(b_stride, n_out) if bias else 0,
        _mask_stride(epilogue, rows, n_out),
    )
    return _product("forward", (rows, n_out, n_in), types, strides, members, epilogue=epilogue)


def backward_input(
    rows: int,
    n_in: int,
    n_out: int,
    types: Types,
    *,
    masked: bool = True,
    members: int = 1,
    dz_stride: int | None = None,
    W_stride: int | None = None,
    out_stride: int | None = None,
) -> Product:
    """(dZ W^T), and 0 where the mask of the layer below has a 0: its dZ, if that layer ends in a ReLU.

    Parameters
    ----------
    rows, n_in, n_out : int
        dZ is (N, n_out), W (n_in, n_out), the result (N, n_in), and so the mask of the layer below,
        as `forward` wrote it there. Pointers: left dZ, right W.
    masked : bool
        Whether there is such a mask; otherwise the derivative of the activation is left to the caller.
    """
    epilogue = Epilogue.DRELU if masked else Epilogue.NONE
    strides = Strides(
        _packed(dz_stride, rows * n_out),
        _packed(W_stride, n_in * n_out),
        _packed(out_stride, rows * n_in),
        0,
        _mask_stride(epilogue, rows, n_in),
    )
    sizes = (rows, n_in, n_out)
    return _product("backward input", sizes, types, strides, members, epilogue=epilogue, transpose_right=True)


def backward_weights(
    rows: int,
    n_in: int,
    n_out: int,
    types: Types,
    *,
    bias: bool = True,
    accumulate: bool = False,
    members: int = 1,
    x_stride: int | None = None,
    dz_stride: int | None = None,
    dW_stride: int | None = None,
    db_stride: int | None = None,
) -> Product:
    """DW = X^T dZ (+ dW, with `accumulate`) and db = the sum over rows of dZ, both in `for_gradients` types.

    Parameters
    ----------
    rows, n_in, n_out : int
        X is (N, n_in), dZ (N, n_out), dW (n_in, n_out), db (n_out,). Pointers: left X, right dZ, vector db.
    bias : bool
        Whether db is wanted. It is always overwritten: with `accumulate` let it go to a buffer of its own.
    """
    strides = Strides(
        _packed(x_stride, rows * n_in),
        _packed(dz_stride, rows * n_out),
        _packed(dW_stride, n_in * n_out),
        _packed(db_stride, n_out) if bias else 0,
    )
    return _product(
        "backward weights",
        (n_in, n_out, rows),
        types.for_gradients(),
        strides,
        members,
        epilogue=Epilogue.BGRADA if bias else Epilogue.NONE,
        accumulate=accumulate,
        transpose_left=True,
    )


def matmul(
    rows: int,
    columns: int,
    inner: int,
    types: Types,
    *,
    transpose_left: bool = False,
    transpose_right: bool = False,
    members: int = 1,
    strides: Strides | None = None,
) -> Product:
    """Any product, without an epilogue: out (rows, columns) = op(left) op(right)."""
    packed = Strides(rows * inner, inner * columns, rows * columns)
    return _product(
        "matmul",
        (rows, columns, inner),
        types,
        strides or packed,
        members,
        transpose_left=transpose_left,
        transpose_right=transpose_right,
    )


def _product(
    name: str,
    sizes: tuple[int, int, int],
    types: Types,
    strides: Strides,
    members: int,
    *,
    epilogue: Epilogue = Epilogue.NONE,
    accumulate: bool = False,
    transpose_left: bool = False,
    transpose_right: bool = False,
) -> Product:
    rows, columns, inner = sizes
    return Product(
        name,
        rows,
        columns,
        inner,
        types,
        transpose_left,
        transpose_right,
        epilogue,
        accumulate,
        members,
        strides if members > 1 else Strides(),  # one network is one key, whatever its strides would be
    )


def _forward_epilogue(bias: bool, relu: bool, mask: bool) -> Epilogue:
    if not relu:
        return Epilogue.BIAS if bias else Epilogue.NONE
    flags = (Epilogue.RELU_AUX if mask else Epilogue.RELU) | (Epilogue.BIAS if bias else 0)
    return Epilogue(flags)


def _packed(stride: int | None, elements: int) -> int:
    return elements if stride is None else stride


# -- the mask --------------------------------------------------------------------------------------------


def mask_leading_dimension(columns: int) -> int:
    """Bits from one row of a mask to the next, for a result of that many columns."""
    return -(-columns // _MASK_STEP) * _MASK_STEP


def mask_bytes(rows: int, columns: int) -> int:
    """Bytes of the mask of one member for a result (rows, columns): one bit an element, rows padded."""
    return mask_leading_dimension(columns) * rows // 8


def _mask_stride(epilogue: Epilogue, rows: int, columns: int) -> int:
    return mask_leading_dimension(columns) * rows if epilogue.has_mask else 0
