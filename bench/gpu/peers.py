"""Time PyTorch and JAX: the same step at a stated precision, as an expert would write it.

`bf16` is what these libraries call mixed precision: float32 parameters, products of bfloat16 operands; the
features, which do not change, are in bfloat16 from the start, as ours are. PyTorch's Adam is the fused one.
Neither draws batches: a step of 1024 rows has the same rows each time, while ours draws new ones.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .steps import LEARNING_RATE, Case, Row, Rows, fault_of

STRETCHES, STEPS = 5, 200
PRECISIONS = ("bf16", "tf32", "float32")
TORCH_WAYS = ("graph", "eager", "compiled", "compiled, graph")
"""A whole step as one CUDA graph; call by call; compiled by Inductor; compiled, and then one CUDA graph."""


def _numbers(case: Case) -> tuple[list[Any], Any, Any]:
    rng = np.random.default_rng(0)
    sizes = list(zip(case.sizes[:-1], case.sizes[1:], strict=True))
    weights = [(rng.standard_normal(s) * (2 / s[0]) ** 0.5).astype(np.float32) for s in sizes]
    x = rng.standard_normal((case.rows, case.sizes[0])).astype(np.float32)
    return weights, x, rng.uniform(size=(case.rows, 3)).astype(np.float32)


def _median(run: Callable[[int], None], wait: Callable[[], None], stretches: int = STRETCHES) -> float:
    """Return the median milliseconds of a step by the host's clock, each stretch to its end on the device."""
    run(20)
    wait()
    times = []
    for _ in range(stretches):
        start = time.perf_counter()
        run(STEPS)
        wait()
        times.append(1e3 * (time.perf_counter() - start) / STEPS)
    return statistics.median(times)


def torch_step(case: Case, precision: str, compiled: bool, device: str = "cuda") -> Callable[[], Any]:
    """Return a step of PyTorch, which returns its loss."""
    import torch

    weights, x, target = _numbers(case)
    p = [torch.tensor(a, device=device, requires_grad=True) for a in weights]
    b = [torch.zeros(a.shape[1], device=device, requires_grad=True) for a in weights]
    x, target = torch.tensor(x, device=device), torch.tensor(target, device=device)
    adam = torch.optim.Adam([*p, *b], lr=LEARNING_RATE, fused=True, capturable=device == "cuda")
    mixed: Any = contextlib.nullcontext
    if precision == "bf16":
        x = x.bfloat16()
        mixed = lambda: torch.autocast(device, torch.bfloat16, cache_enabled=False)  # noqa: E731

    def loss() -> Any:
        h = x
        for i, (W, c) in enumerate(zip(p, b, strict=True)):
            h = torch.addmm(c, h, W)
            h = torch.relu(h) if i + 1 < len(p) else torch.sigmoid(h.float())
        return torch.square(h - target).mean()

    forward = torch.compile(loss, mode="max-autotune-no-cudagraphs") if compiled else loss

    def step() -> Any:
        adam.zero_grad(set_to_none=True)
        with mixed():
            value = forward()
        value.backward()
        adam.step()
        return value

    return step


def captured(step: Callable[[], Any]) -> Callable[[], Any]:
    """Return a step as one CUDA graph, as PyTorch's notes on graphs describe it."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], Any] = graph.replay
    return replay


def time_torch(case: Case, precision: str, way: str) -> Row:
    """Return milliseconds of a step of PyTorch, in one of `TORCH_WAYS`."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no GPU")
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    step = torch_step(case, precision, way.startswith("compiled"))
    take = captured(step) if way.endswith("graph") else step

    def run(steps: int) -> None:
        for _ in range(steps):
            take()

    return {"version": torch.__version__, "milliseconds": _median(run, torch.cuda.synchronize)}


def time_jax(case: Case, precision: str, way: str = "scan") -> Row:
    """Return milliseconds of a step of JAX, compiled, some hundred of them in one `scan`."""
    import jax
    import jax.numpy as jnp

    if jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX runs on {jax.default_backend()}")
    weights, x, target = _numbers(case)
    p = [(jnp.asarray(W), jnp.zeros(W.shape[1])) for W in weights]
    x, target = jnp.asarray(x), jnp.asarray(target)

    kind = jnp.bfloat16 if precision == "bf16" else jnp.float32
    x = x.astype(kind)

    def loss(p: Any) -> Any:
        h = x
        for i, (W, c) in enumerate(p):
            h = h @ W.astype(kind) + c.astype(kind)
            h = jax.nn.relu(h) if i + 1 < len(p) else jax.nn.sigmoid(h.astype(jnp.float32))
        return jnp.mean(jnp.square(h - target))

    def adam(state: Any, _: Any) -> tuple[Any, None]:
        p, m, v, t = state
        g, t = jax.grad(loss)(p), t + 1
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        size = LEARNING_RATE * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        p = jax.tree.map(lambda a, b, c: a - size * b / (jnp.sqrt(c) + 1e-8), p, m, v)
        return (p, m, v, t), None

    with jax.default_matmul_precision("tensorfloat32" if precision == "tf32" else "float32"):
        many = jax.jit(lambda state: jax.lax.scan(adam, state, None, length=STEPS)[0])
        zeros = jax.tree.map(jnp.zeros_like, p)
        state = many((p, zeros, zeros, jnp.float32(0)))

        def run(steps: int) -> None:
            nonlocal state
            if steps == STEPS:
                state = many(state)

        milliseconds = _median(run, lambda: jax.block_until_ready(state))
    return {"version": jax.__version__, "milliseconds": milliseconds}


def peers(
    library: str, ways: Sequence[str], widths: Sequence[int], make: Any, quick: bool, budget: float
) -> Rows:
    """Yield a row for each way, width, batch and precision of one library; the end of the budget is a row."""
    if quick:
        yield {"skipped": "--quick"}
        return
    measure = time_torch if library == "torch" else time_jax
    end = time.monotonic() + budget
    for way in ways:
        for width in widths:
            for batch in (None, 1024):
                for precision in PRECISIONS:
                    case = Case(width=width, batch=batch)
                    row = {
                        "peer": f"{library} {way}",
                        "width": width,
                        "rows": case.rows,
                        "precision": precision,
                    }
                    if time.monotonic() > end:
                        yield row | {"fault": f"left out: the budget of {budget:.0f} s is spent"}
                        continue
                    try:
                        yield row | measure(case, precision, way)
                    except ImportError as error:
                        yield {"peer": library, "skipped": f"{library} is not installed: {error}"}
                        return
                    except Exception as error:
                        yield row | fault_of(error)
