"""A table of the products that cublasLt refuses on this device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .layer_products import backward_input, backward_weights, forward, matmul
from .plans import Planner
from .products import PRECISIONS, Product, Strides


def refused_products(planner: Planner, rows: int = 16384, width: int = 256) -> list[dict[str, Any]]:
    """Return every product of a hidden layer and of Muon in every precision, for one network and for three.

    Each row has the fields of `Product.describe`, whether the members share X (`shared`), and the reason of a
    refusal or an empty string (`refused`).
    """
    return [
        product.describe() | {"shared": shared, "refused": planner.probe(product)}
        for product, shared in _typical_products(rows, width)
    ]


def _typical_products(rows: int, width: int) -> Iterator[tuple[Product, bool]]:
    sizes = (rows, width, width)
    for precision in PRECISIONS.values():
        for members, shared in ((1, False), (3, False), (3, True)):
            options: dict[str, Any] = {"members": members}
            if shared:  # X
                options["strides"] = Strides(0, width * width, rows * width, width)
            yield forward(sizes, precision, **options), shared
            yield forward(sizes, precision, relu=False, **options), shared
            yield forward(sizes, precision, bias=False, relu=False, **options), shared
            if shared:
                options["strides"] = Strides(0, rows * width, width * width, width)
            else:
                yield backward_input(sizes, precision, **options), shared
                yield matmul((width, width, width), precision, beta=1.0, **options), shared
            yield backward_weights(sizes, precision, **options), shared
