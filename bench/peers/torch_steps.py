"""Train in PyTorch on the CPU, tuned as one who knows it well would."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.func import grad_and_value

from .cases import LEARNING_RATE, Case, Problem

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

Parameters = list[torch.Tensor]
# Features and target of pixels that are passed together, and the pixels of the batch or None for all.
Loss = Callable[[Parameters, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class Steps:
    """Features are computed once, K networks are batched products, Adam is fused.

    `variant` is "eager", "compile" (gather, loss and gradient under `torch.compile`), or "whole" (Adam too).
    """

    stride = 1

    def __init__(self, variant: str) -> None:
        self.variant = variant
        torch.set_flush_denormal(True)

    def settings(self, case: Case, cores: int) -> dict[str, list[Any]]:
        """See `worker.Peer`.

        `piece` is what stays in a cache: networks that take all steps before the next ones begin, or rows whose
        gradients are summed; `workers` are threads with pieces of their own, each on one processor.
        """
        threads = list(range(cores, 0, -1))
        if case.members:
            pieces = [case.members // n for n in (1, 4, 16) if case.members % n == 0]
            return {"piece": pieces, "threads": threads, "workers": list(range(1, cores + 1))}
        pixels = case.size**2
        return {"piece": [pixels] if case.batch else [pixels, pixels // 4, pixels // 8], "threads": threads}

    def prepare(self, problem: Problem, setting: dict[str, Any]) -> None:
        """See `worker.Peer`."""
        case, self.t = problem.case, 0
        self.members = case.members or 1
        workers = setting.get("workers", 1)
        torch.set_num_threads(1 if workers > 1 else setting["threads"])
        torch._dynamo.reset()
        self.pool = ThreadPoolExecutor(workers)
        self.batches = [] if problem.batches is None else [torch.from_numpy(rows) for rows in problem.batches]
        take_step = _step_function(self.variant, _loss_function(case))
        parts = [slice(None)]
        if case.members:
            parts = [slice(k, k + setting["piece"]) for k in range(0, case.members, setting["piece"])]
        rows = case.size**2 if case.members else setting["piece"]
        _Networks(problem, parts[0], rows, take_step).steps(
            self.batches[:1] or [None]
        )  # compiles, before threads
        self.networks = [_Networks(problem, part, rows, take_step) for part in parts]

    def run(self, steps: int) -> list[float]:
        """See `worker.Peer`."""
        order = range(self.t, self.t + steps)
        rows = [self.batches[t % len(self.batches)] if self.batches else None for t in order]
        self.t += steps
        losses = list(self.pool.map(lambda networks: networks.steps(rows), self.networks))
        found: list[float] = (torch.stack(losses).sum(0) / self.members).tolist()
        return found


class _Networks:
    """Networks that are trained together: parameters, Adam and data."""

    def __init__(
        self, problem: Problem, part: slice, rows: int, take_step: Callable[[_Networks, Any], torch.Tensor]
    ) -> None:
        own = problem.case.members is not None
        self.take_step = take_step
        self.parameters = [
            torch.from_numpy(np.array(a[part] if own else a)) for pair in problem.weights for a in pair
        ]
        phase = 2.0 * torch.pi * (torch.from_numpy(problem.coordinates) @ torch.from_numpy(problem.B).T)
        features = torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)
        target = torch.from_numpy(problem.target[part] if problem.case.tiles else problem.target)
        self.data = list(zip(features.split(rows), target.split(rows, dim=-2), strict=True))
        self.first, self.second = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
        self.t = torch.zeros(())
        self.adam = torch.optim.Adam(
            self.parameters, lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=True
        )

    def steps(self, rows: list[torch.Tensor | None]) -> torch.Tensor:
        return torch.stack([self.take_step(self, batch) for batch in rows])


def _loss_function(case: Case) -> Loss:
    """Return the mean squared error of rows, as their share of all rows of a step, summed over networks."""
    scale = 1.0 / (3 * case.rows)

    def loss(parameters: Parameters, x: Any, target: Any, rows: torch.Tensor | None) -> torch.Tensor:
        if rows is not None:
            x, target = x.index_select(0, rows), target.index_select(0, rows)
        batched = parameters[0].ndim == 3
        product = torch.baddbmm if batched else torch.addmm
        if batched:
            x = x.expand(len(parameters[0]), *x.shape)
        *hidden, (W, b) = zip(parameters[::2], parameters[1::2], strict=True)
        for V, c in hidden:
            x = torch.relu(product(c, x, V))
        y = product(b, x, W)
        return torch.square((y if case.tiles else torch.sigmoid(y)) - target).sum() * scale

    return loss


def _step_function(variant: str, loss: Loss) -> Callable[[_Networks, torch.Tensor | None], torch.Tensor]:
    if variant == "whole":
        return _whole_step(loss)
    loss = torch.compile(loss) if variant == "compile" else loss

    def step(networks: _Networks, rows: torch.Tensor | None) -> torch.Tensor:
        for p in networks.parameters:
            p.requires_grad_()
        networks.adam.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for x, target in networks.data:
            value = loss(networks.parameters, x, target, rows)
            value.backward()
            total += value.detach()
        networks.adam.step()
        return total

    return step


def _whole_step(loss: Loss) -> Callable[[_Networks, torch.Tensor | None], torch.Tensor]:
    @torch.compile
    def compiled(parameters, first, second, t, data, rows):  # type: ignore[no-untyped-def]
        gradients, total = grad_and_value(loss)(parameters, *data[0], rows)
        for x, target in data[1:]:
            more, value = grad_and_value(loss)(parameters, x, target, rows)
            gradients, total = [g + m for g, m in zip(gradients, more, strict=True)], total + value
        t += 1.0
        c1, c2 = 1.0 / (1.0 - BETA1**t), 1.0 / (1.0 - BETA2**t)
        for p, m, v, g in zip(parameters, first, second, gradients, strict=True):
            m.lerp_(g, 1.0 - BETA1)
            v.mul_(BETA2).addcmul_(g, g, value=1.0 - BETA2)
            p.sub_(LEARNING_RATE * c1 * m / (torch.sqrt(v * c2) + EPSILON))
        return total

    def step(networks: _Networks, rows: torch.Tensor | None) -> torch.Tensor:
        n = networks
        with torch.no_grad():
            loss: torch.Tensor = compiled(n.parameters, n.first, n.second, n.t, n.data, rows)
        return loss

    return step
