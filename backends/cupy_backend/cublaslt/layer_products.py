"""The products of a layer.

With N rows (pixels), for each member:

| product          | out              | left | right | epilogue                 |
|------------------|------------------|------|-------|--------------------------|
| forward          | Y (N, n_out)     | X    | W     | bias, ReLU               |
| backward input   | dX (N, n_in)     | dZ   | W^T   |                          |
| backward weights | dW (n_in, n_out) | X^T  | dZ    | db = sum over rows of dZ |
"""

from __future__ import annotations

from typing import Any

from .products import Epilogue, Product, Strides, Types

Sizes = tuple[int, int, int]


def forward(
    sizes: Sizes,
    types: Types,
    *,
    bias: bool = True,
    relu: bool = True,
    members: int = 1,
    strides: Strides | None = None,
) -> Product:
    """Return `Y = X W + b`, then ReLU.

    Parameters
    ----------
    sizes : (rows, n_in, n_out)
        X is (N, n_in), W (n_in, n_out), b (n_out,), Y (N, n_out). Pointers: left X, right W, vector b.
    bias, relu : bool
        Parts of the epilogue.
    strides : Strides, optional
        None for members without gaps.
    """
    rows, n_in, n_out = sizes
    epilogue = Epilogue(Epilogue.RELU * relu | Epilogue.BIAS * bias or Epilogue.NONE)
    strides = strides or Strides(rows * n_in, n_in * n_out, rows * n_out, n_out)
    if not bias:
        strides = strides._replace(vector=0)
    return _product("forward", (rows, n_out, n_in), types, strides, members, epilogue=epilogue)


def backward_input(sizes: Sizes, types: Types, *, members: int = 1, strides: Strides | None = None) -> Product:
    """Return `dZ W^T`.

    The library can apply the mask of a ReLU on the way, but on an H200 that took longer than a kernel for it
    (22 us against 13, bf16, 16384 rows, width 256), and it left no sums for the gradient of the bias.

    Parameters
    ----------
    sizes : (rows, n_in, n_out)
        dZ is (N, n_out), W (n_in, n_out), the result (N, n_in). Pointers: left dZ, right W.
    strides : Strides, optional
        As in `forward`.
    """
    rows, n_in, n_out = sizes
    strides = strides or Strides(rows * n_out, n_in * n_out, rows * n_in)
    return _product("backward input", (rows, n_in, n_out), types, strides, members, transpose_right=True)


def backward_weights(
    sizes: Sizes,
    types: Types,
    *,
    bias: bool = True,
    accumulate: bool = False,
    members: int = 1,
    strides: Strides | None = None,
) -> Product:
    """Return `dW = X^T dZ`, plus dW with `accumulate`, and db, in `for_gradients` types.

    Parameters
    ----------
    sizes : (rows, n_in, n_out)
        X is (N, n_in), dZ (N, n_out), dW (n_in, n_out), db (n_out,). Pointers: left X, right dZ, vector db.
    bias : bool
        Whether to write db, the sum of dZ over rows. It is overwritten even with `accumulate`.
    strides : Strides, optional
        As in `forward`.
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
    alpha: float = 1.0,
    beta: float = 0.0,
    members: int = 1,
    strides: Strides | None = None,
) -> Product:
    """Return `alpha op(left) op(right) + beta C` for sizes (rows, columns, inner); C lies like the result."""
    rows, columns, inner = sizes
    strides = strides or Strides(rows * inner, inner * columns, rows * columns)
    flags: dict[str, Any] = {"transpose_left": transpose_left, "transpose_right": transpose_right}
    flags |= {"alpha": alpha, "beta": beta}
    return _product("matmul", sizes, types, strides, members, **flags)


def _product(
    name: str,
    sizes: Sizes,
    types: Types,
    strides: Strides,
    members: int,
    epilogue: Epilogue = Epilogue.NONE,
    **options: Any,
) -> Product:
    """Return a product with sizes (rows, columns, inner), without strides for a single network."""
    if members == 1:
        strides = Strides()
    return Product(name, *sizes, types, epilogue=epilogue, members=members, strides=strides, **options)
