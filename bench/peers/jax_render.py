"""Render in JAX on the CPU, tuned as one who knows it well would."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .cases import Case, Problem


class Rendering:
    """A picture under one `jit`, a few lines at a time."""

    stride = 1

    def __init__(self, variant: str) -> None:
        self.variant = variant

    def settings(self, case: Case, cores: int) -> dict[str, list[Any]]:
        """See `worker.Peer`; separable features are products of sines along x and along y."""
        return {"lines": [2, 8, 64], "separable": [True, False]}

    def prepare(self, problem: Problem, setting: dict[str, Any]) -> None:
        """See `worker.Peer`."""
        parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in problem.weights]
        drawn = jax.jit(partial(_drawn, problem.case.render, setting["lines"], setting["separable"]))
        self.render = partial(drawn, parameters, jnp.asarray(problem.B))

    def run(self, steps: int) -> list[float]:
        """See `worker.Peer`."""
        return [float(self.render().mean()) for _ in range(steps)]


def _drawn(size, count, separable, parameters, B):  # type: ignore[no-untyped-def]
    axis = (jnp.arange(size) + 0.5) / size
    x, y = (2.0 * jnp.pi * axis[:, None] * b for b in B.T)

    def lines(y):  # type: ignore[no-untyped-def]
        y = y[:, None]
        if separable:
            a, b, c, d = jnp.cos(x), jnp.sin(x), jnp.cos(y), jnp.sin(y)
            features = [a * c - b * d, b * c + a * d]
        else:
            features = [jnp.cos(x + y), jnp.sin(x + y)]
        h = jnp.concatenate(features, axis=-1).reshape(-1, 2 * len(B))
        *hidden, (W, b) = parameters
        for V, c in hidden:
            h = jax.nn.relu(h @ V + c)
        return jnp.clip(jax.nn.sigmoid(h @ W + b), 0.0, 1.0)

    return jax.lax.map(lines, y.reshape(-1, count, len(B)))
