"""Run the step in JAX on the CPU: the whole of it under `jit`, buffers donated; K networks by `vmap`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp

from .cases import LEARNING_RATE, Problem

RENDER_CHUNK = 65_536


class Jax:
    """`variant` is "jit"."""

    def __init__(self, variant: str) -> None:
        self.variant = variant

    def prepare(self, problem: Problem) -> None:
        """Build parameters, features and the compiled step from the problem's numbers."""
        self.problem, self.t = problem, 0
        self.B = jnp.asarray(problem.B)
        self.features = _encode(self.B, jnp.asarray(problem.coordinates))
        self.target = jnp.asarray(problem.target)
        self.batches = None if problem.batches is None else jnp.asarray(problem.batches)
        self.parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in problem.weights]
        zeros = jax.tree.map(jnp.zeros_like, self.parameters)
        self.state = (zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), jnp.int32))
        one = partial(_loss, jax.nn.sigmoid if not problem.case.tiles else lambda z: z)
        if problem.case.members is not None:
            one = jax.vmap(one, in_axes=(0, None, 0 if problem.case.tiles else None))
        self._step = jax.jit(partial(_step, one), donate_argnums=(0, 1))

    def run(self, steps: int) -> list[float]:
        """Take steps (or render), and return what says that the work was right."""
        if self.problem.case.render:
            return [self._render() for _ in range(steps)]
        values = []
        for _ in range(steps):
            rows = None if self.batches is None else self.batches[self.t % len(self.batches)]
            self.parameters, self.state, value = self._step(
                self.parameters, self.state, self.features, self.target, rows
            )
            values.append(value)
            self.t += 1
        return [float(value) for value in jax.block_until_ready(values)]

    def _render(self) -> float:
        coordinates = self.problem.render_coordinates()
        pieces = [
            _render_chunk(self.parameters, self.B, coordinates[i : i + RENDER_CHUNK])
            for i in range(0, len(coordinates), RENDER_CHUNK)
        ]
        return float(jnp.concatenate(pieces).mean())


def _encode(B: jax.Array, coordinates: jax.Array) -> jax.Array:
    phase = 2.0 * jnp.pi * (coordinates @ B.T)
    return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)


def _forward(
    parameters: list[tuple[jax.Array, jax.Array]], x: jax.Array, last: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    *hidden, (W, b) = parameters
    for V, c in hidden:
        x = jax.nn.relu(x @ V + c)
    return last(x @ W + b)


@jax.jit
def _render_chunk(
    parameters: list[tuple[jax.Array, jax.Array]], B: jax.Array, coordinates: jax.Array
) -> jax.Array:
    return jnp.clip(_forward(parameters, _encode(B, coordinates), jax.nn.sigmoid), 0.0, 1.0)


def _loss(last, parameters, x, target):  # type: ignore[no-untyped-def]
    return jnp.square(_forward(parameters, x, last) - target).mean()


def _step(one, parameters, state, features, target, rows):  # type: ignore[no-untyped-def]
    x = features if rows is None else features[rows]
    target = target if rows is None else target[rows]

    def total(p):  # type: ignore[no-untyped-def]
        values = one(p, x, target)
        return values.sum(), values.mean()

    (_, value), gradient = jax.value_and_grad(total, has_aux=True)(parameters)
    first, second, t = state
    t = t + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
    c1, c2 = 1.0 - 0.9**t, 1.0 - 0.999**t
    parameters = jax.tree.map(
        lambda p, m, v: p - LEARNING_RATE * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), parameters, first, second
    )
    return parameters, (first, second, t), value
