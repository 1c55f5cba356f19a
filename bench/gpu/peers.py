"""PyTorch, eager and as one CUDA graph for a whole step, and JAX: the same step at a stated precision."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .steps import LEARNING_RATE, Case

STRETCHES, STEPS = 5, 200


def _numbers(case: Case) -> tuple[list[Any], Any, Any]:
    rng = np.random.default_rng(0)
    sizes = list(zip(case.sizes[:-1], case.sizes[1:], strict=True))
    weights = [(rng.standard_normal(s) * (2 / s[0]) ** 0.5).astype(np.float32) for s in sizes]
    x = rng.standard_normal((case.rows, case.sizes[0])).astype(np.float32)
    return weights, x, rng.uniform(size=(case.rows, 3)).astype(np.float32)


def _median(run: Callable[[int], None], wait: Callable[[], None]) -> float:
    """Median milliseconds of a step by the host's clock, each stretch to its end on the device."""
    run(20)
    wait()
    times = []
    for _ in range(STRETCHES):
        start = time.perf_counter()
        run(STEPS)
        wait()
        times.append(1e3 * (time.perf_counter() - start) / STEPS)
    return statistics.median(times)


def time_torch(case: Case, precision: str, graph: bool) -> dict[str, Any]:
    """A step of PyTorch, its Adam fused; as one graph with `graph`."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no GPU")
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    weights, x, target = _numbers(case)
    device = "cuda"
    p = [torch.tensor(a, device=device, requires_grad=True) for a in weights]
    b = [torch.zeros(a.shape[1], device=device, requires_grad=True) for a in weights]
    x, target = torch.tensor(x, device=device), torch.tensor(target, device=device)
    adam = torch.optim.Adam([*p, *b], lr=LEARNING_RATE, fused=True, capturable=True)

    def step() -> None:
        adam.zero_grad(set_to_none=not graph)
        h = x
        for i, (W, c) in enumerate(zip(p, b, strict=True)):
            h = torch.addmm(c, h, W)
            h = torch.relu(h) if i + 1 < len(p) else torch.sigmoid(h)
        torch.square(h - target).mean().backward()
        adam.step()

    take = step
    if graph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            step()
        take = recorded.replay

    def run(steps: int) -> None:
        for _ in range(steps):
            take()

    return {"version": torch.__version__, "milliseconds": _median(run, torch.cuda.synchronize)}


def time_jax(case: Case, precision: str) -> dict[str, Any]:
    """A step of JAX, compiled, some hundred of them in one `scan`."""
    import jax
    import jax.numpy as jnp

    if jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX runs on {jax.default_backend()}")
    weights, x, target = _numbers(case)
    p = [(jnp.asarray(W), jnp.zeros(W.shape[1])) for W in weights]
    x, target = jnp.asarray(x), jnp.asarray(target)

    def loss(p: Any) -> Any:
        h = x
        for i, (W, c) in enumerate(p):
            h = h @ W + c
            h = jax.nn.relu(h) if i + 1 < len(p) else jax.nn.sigmoid(h)
        return jnp.mean(jnp.square(h - target))

    def adam(state: Any, _: Any) -> tuple[Any, None]:
        p, m, v, t = state
        g, t = jax.grad(loss)(p), t + 1
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        size = LEARNING_RATE * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        p = jax.tree.map(lambda a, b, c: a - size * b / (jnp.sqrt(c) + 1e-8), p, m, v)
        return (p, m, v, t), None

    with jax.default_matmul_precision("float32" if precision == "float32" else "tensorfloat32"):
        many = jax.jit(lambda state: jax.lax.scan(adam, state, None, length=STEPS)[0])
        zeros = jax.tree.map(jnp.zeros_like, p)
        state = many((p, zeros, zeros, jnp.float32(0)))

        def run(steps: int) -> None:
            nonlocal state
            if steps == STEPS:
                state = many(state)

        milliseconds = _median(run, lambda: jax.block_until_ready(state))
    return {"version": jax.__version__, "milliseconds": milliseconds}


def peers(quick: bool) -> list[dict[str, Any]]:
    """A row for each peer, width, batch and precision; what is not installed is told once for each."""
    table = []
    for width in (16,) if quick else (256, 128, 64):
        for batch in (64,) if quick else (None, 1024):
            for precision in ("float32", "tf32"):
                case = Case(width=width, batch=batch)
                ways: dict[str, Callable[[], dict[str, Any]]] = {
                    "torch eager": lambda c=case, p=precision: time_torch(c, p, False),
                    "torch graph": lambda c=case, p=precision: time_torch(c, p, True),
                    "jax": lambda c=case, p=precision: time_jax(c, p),
                }
                for name, way in ways.items():
                    row = {"peer": name, "width": width, "rows": case.rows, "precision": precision}
                    try:
                        table.append(row | way())
                    except Exception as error:
                        table.append(row | {"fault": f"{type(error).__name__}: {error}".splitlines()[0]})
    return table
