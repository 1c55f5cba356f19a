"""Measure what the card can do at most, in the same run as the steps that are compared with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from coordfit.backends.cupy_backend.bodies.products import types_of
from coordfit.backends.cupy_backend.bodies.sixteen_bits import cast
from coordfit.backends.cupy_backend.bodies.sums import sum_over_rows
from coordfit.backends.cupy_backend.cublaslt.autotune import Autotuner
from coordfit.backends.cupy_backend.cublaslt.layer_products import backward_weights, matmul
from coordfit.backends.cupy_backend.cublaslt.plans import Planner
from coordfit.backends.cupy_backend.cublaslt.products import Pointers, Strides
from coordfit.backends.cupy_backend.streams import elapsed

from .steps import Row, Rows, fault_of

_PRECISIONS = ("bf16", "fp16", "tf32", "float32")
_NODES = 400


def ceilings(make: Any, quick: bool, seconds: float) -> Rows:
    """Yield rows of the copy, of large products by precision, and of a kernel that does nothing."""
    n, size = (64, 1 << 16) if quick else (8192, 1 << 30)
    backend = make()
    with backend.activate():
        yield from attempt("copy of memory", lambda: copy(backend, size))
        yield from attempt("kernels that do nothing", lambda: nothing(backend, 32 if quick else _NODES))
    for precision in _PRECISIONS:
        backend = make(precision=precision)
        with backend.activate():
            yield from attempt(f"product {n} x {n} x {n} in {precision}", lambda b=backend: large_product(b, n))


def attempt(what: str, measure: Callable[[], Row]) -> Rows:
    """Yield a row of what was measured, or of its fault."""
    try:
        yield {"what": what} | measure()
    except Exception as error:
        yield {"what": what} | fault_of(error)


def copy(backend: Any, size: int) -> Row:
    """Return GB/s of a copy on the device, counting what is read and what is written."""
    source, target = (backend.zeros((size,), "uint8") for _ in range(2))
    milliseconds = backend.gpu.time(lambda: backend.xp.copyto(target, source))
    return {"milliseconds": milliseconds, "GB/s": 2e-6 * size / milliseconds}


def nothing(backend: Any, nodes: int) -> Row:
    """Return microseconds of a graph's node, and of a launch by the host, of a kernel with one thread."""
    counter = backend.zeros((1,), "int64")

    def launch() -> None:
        backend.gpu.launch("advance", (), (1, 1), counter)

    def many() -> None:
        for _ in range(nodes):
            launch()

    launch()
    eager = min(elapsed(backend.gpu.xp.cuda, many) for _ in range(3))
    return {
        "microseconds of a node": 1e3 * backend.gpu.time(many) / nodes,
        "microseconds of a launch": 1e3 * eager / nodes,
    }


def numbers(backend: Any, *shape: int) -> Any:
    """Return normal numbers as the backend stores activations: the same million again and again."""
    host = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32)
    array = backend.asarray(np.resize(host, shape))
    kind = backend.stored_dtype("float32")
    return array if kind == "float32" else cast(backend.gpu, array, backend.zeros(shape, kind))


def timed_autotuner(backend: Any) -> Autotuner:
    """Return an autotuner that times every product, and keeps nothing for later processes."""
    return Autotuner(Planner(backend.gpu.load_cublaslt()), timer=backend.gpu.time)


def large_product(backend: Any, n: int) -> Row:
    """Return TFLOP/s of the fastest algorithm for a product that fills the card."""
    a = numbers(backend, n, n)
    out = backend.zeros((n, n), str(a.dtype))
    product = matmul((n, n, n), types_of(backend.gpu, a))
    best = fastest(backend, product, Pointers(a.data.ptr, a.data.ptr, out.data.ptr))
    return best | {"tflops": 2e-9 * n**3 / best["milliseconds"] if best["milliseconds"] else None}


def fastest(backend: Any, product: Any, pointers: Pointers, finish: Callable[[], None] | None = None) -> Row:
    """Return milliseconds by tier of the fastest candidate, and the facts of the one that is taken."""
    autotuner, stream = timed_autotuner(backend), backend.xp.cuda.get_current_stream().ptr
    step = autotuner.resolve(product, pointers, backend.gpu.workspace, stream, finish=finish)
    times = {tier: min((t for t in found if t), default=None) for tier, found in step.milliseconds.items()}
    facts = {} if step.plan is None else step.plan.describe(step.candidate)
    return {"tier": step.tier.value, "milliseconds": times.get(step.tier.value), "by tier": str(times)} | facts


# -- the products of a step ------------------------------------------------------------------------------


def products_of(report: list[Row], about: Row) -> Rows:
    """Yield a row for each product and tier of a report: microseconds of the first and fastest candidate."""
    for row in report:
        sizes = {
            key: row[key] for key in ("product", "rows", "columns", "inner", "members", "types", "epilogue")
        }
        flops = 2.0 * row["rows"] * row["columns"] * row["inner"] * row["members"]
        for tier, times in row["milliseconds"].items():
            ran = [time for time in times if time]
            is_taken = tier == row["tier"]
            yield (
                about
                | sizes
                | {
                    "tier": tier,
                    "taken": is_taken,
                    "fastest us": 1e3 * min(ran) if ran else None,
                    "first us": 1e3 * times[0] if times[0] else None,
                    "all us": [time and round(1e3 * time, 2) for time in times],
                    "tflops": 1e-9 * flops / min(ran) if ran else None,
                }
                | {key: row[key] if is_taken else None for key in ("algorithm", "tile", "splits", "cluster")}
            )
        for tier, reason in row["refused"].items():
            yield about | sizes | {"tier": tier, "refused": reason}


def sliced_weights(backend: Any, rows: int, width: int, slices: int) -> Row:
    """Return microseconds of dW and db of slices of the rows as one batch, without the sum over slices."""
    x, dz = numbers(backend, rows, width), numbers(backend, rows, width)
    dW = backend.zeros((slices, width, width), "float32")
    db = backend.zeros((slices, 1, width), "float32")
    product = backward_weights((rows // slices, width, width), types_of(backend.gpu, x), members=slices)
    assert product.strides == Strides(rows // slices * width, rows // slices * width, width * width, width)
    pointers = Pointers(x.data.ptr, dz.data.ptr, dW.data.ptr, db.data.ptr)
    of_slices = dz.reshape(slices, rows // slices, width)
    finish = functools.partial(sum_over_rows, backend.gpu, of_slices, db, False)
    found = fastest(backend, product, pointers, finish)
    return {"product": "dW in slices", "rows": rows, "columns": width, "members": slices} | found
