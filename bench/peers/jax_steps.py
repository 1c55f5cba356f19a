"""Train in JAX on the CPU, tuned as one who knows it well would."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .cases import LEARNING_RATE, Case, Problem

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

Parameters = list[tuple[jax.Array, jax.Array]]


class Steps:
    """Several steps in one `scan` under `jit`, gathers in it and buffers donated; K networks by `vmap`."""

    stride = 1

    def __init__(self, variant: str) -> None:
        self.variant = variant

    def settings(self, case: Case, cores: int) -> dict[str, list[Any]]:
        """See `worker.Peer`.

        `scan` is the number of steps in one call; `piece` as in `torch_steps`. Pieces are dispatched without a
        wait, so that JAX's threads take several at a time.
        """
        if case.members:
            pieces = [case.members // n for n in (1, 4, 16) if case.members % n == 0]
            return {"piece": pieces, "scan": [16, 4, 1]}
        if case.batch:
            return {"scan": [16, 1]}
        return {"piece": [case.size**2 // n for n in (1, 4, 8)], "scan": [1, 4]}

    def prepare(self, problem: Problem, setting: dict[str, Any]) -> None:
        """See `worker.Peer`."""
        case, self.t, self.stride = problem.case, 0, setting["scan"]
        self.members = case.members or 1
        self.batches = [None]
        if problem.batches is not None:
            self.batches = list(
                map(jnp.asarray, np.split(problem.batches, len(problem.batches) // self.stride))
            )
        phase = 2.0 * jnp.pi * (jnp.asarray(problem.coordinates) @ jnp.asarray(problem.B).T)
        features = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)
        piece = setting.get("piece", case.size**2)
        self.data, self.states = [], []
        for k in range(0, self.members, piece) if case.members else [None]:
            part = slice(None) if k is None else slice(k, k + piece)
            target = problem.target[part] if case.tiles else problem.target
            self.data.append(_pieces(features, target, case.size**2 if case.members else piece))
            weights = jax.tree.map(lambda a, part=part: jnp.array(a[part]), problem.weights)
            zeros = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
            self.states.append((weights, *zeros, jnp.zeros((), jnp.int32)))
        self.steps = jax.jit(partial(_steps, partial(_total, case), self.stride), donate_argnums=0)

    def run(self, steps: int) -> list[float]:
        """See `worker.Peer`: each piece takes the steps of one call before the next begins."""
        found = []
        for _ in range(math.ceil(steps / self.stride)):
            rows = self.batches[self.t % len(self.batches)]
            self.t += 1
            for k, data in enumerate(self.data):
                self.states[k], losses = self.steps(self.states[k], data, rows)
                found.append(losses)
        each = np.reshape(jax.device_get(found), (-1, len(self.data), self.stride))
        losses: list[float] = (each.sum(axis=1) / self.members).ravel().tolist()
        return losses


def _pieces(features: jax.Array, target: np.ndarray, rows: int) -> tuple[jax.Array, jax.Array]:
    """Return features (P, n, F), and targets (P, n, C) or (P, K, n, C)."""
    parts = len(features) // rows
    targets = np.stack(np.split(target, parts, axis=-2))
    return features.reshape(parts, rows, -1), jnp.asarray(targets)


def _network(case: Case, parameters: Parameters, x: jax.Array) -> jax.Array:
    *hidden, (W, b) = parameters
    for V, c in hidden:
        x = jax.nn.relu(x @ V + c)
    y = x @ W + b
    return y if case.tiles else jax.nn.sigmoid(y)


def _total(case: Case, parameters: Parameters, x: jax.Array, target: jax.Array) -> jax.Array:
    """Return the mean squared error of rows, as their share of all rows of a step, summed over networks."""
    network = partial(_network, case)
    if case.members:
        network = jax.vmap(network, in_axes=(0, None))
    return jnp.square(network(parameters, x) - target).sum() / (3 * case.rows)


def _steps(total, count, state, data, rows):  # type: ignore[no-untyped-def]
    step = partial(_step, total, data)
    if count == 1:
        state, value = step(state, None if rows is None else rows[0])
        return state, value[None]
    return jax.lax.scan(step, state, rows, length=count)


def _step(total, data, state, rows):  # type: ignore[no-untyped-def]
    parameters, first, second, t = state
    features, target = data
    of_rows = jax.value_and_grad(total)
    if rows is not None:
        value, gradient = of_rows(parameters, features[0][rows], target[0][rows])
    elif len(features) == 1:
        value, gradient = of_rows(parameters, features[0], target[0])
    else:
        zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, parameters))
        add = lambda sums, piece: (jax.tree.map(jnp.add, sums, of_rows(parameters, *piece)), None)  # noqa: E731
        (value, gradient), _ = jax.lax.scan(add, zeros, data)
    t = t + 1
    first = jax.tree.map(lambda m, g: BETA1 * m + (1.0 - BETA1) * g, first, gradient)
    second = jax.tree.map(lambda v, g: BETA2 * v + (1.0 - BETA2) * g * g, second, gradient)
    c1, c2 = 1.0 / (1.0 - BETA1**t), 1.0 / (1.0 - BETA2**t)
    parameters = jax.tree.map(
        lambda p, m, v: p - LEARNING_RATE * c1 * m / (jnp.sqrt(v * c2) + EPSILON), parameters, first, second
    )
    return (parameters, first, second, t), value
