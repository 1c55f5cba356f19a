"""Run the step in PyTorch on the CPU: eager and compiled, features computed once, Adam in its fused form."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from .cases import LEARNING_RATE, Problem

RENDER_CHUNK = 65_536


class Torch:
    """`variant` is "eager-1", "eager-2", "compile-1" or "compile-2": the number is that of threads.

    With K networks, "loop-N" trains them one after the other, everything else by batched products.
    """

    def __init__(self, variant: str) -> None:
        self.mode, threads = variant.split("-")
        torch.set_num_threads(int(threads))

    def prepare(self, problem: Problem) -> None:
        """Build parameters, features and optimizer from the problem's numbers."""
        self.problem, self.t = problem, 0
        members = problem.case.members if self.mode == "loop" else None
        nets = [[(W[k], b[k]) for W, b in problem.weights] for k in range(members)] if members else None
        targets = problem.target if nets and problem.case.tiles else itertools.repeat(problem.target)
        self.nets = [_Net(problem, *own) for own in zip(nets or [problem.weights], targets, strict=False)]
        self.batches = None if problem.batches is None else torch.from_numpy(problem.batches)
        if self.mode == "compile":
            torch._dynamo.reset()
            for net in self.nets:
                net.loss = torch.compile(net.loss)  # type: ignore[method-assign]
                net.forward = torch.compile(net.forward)  # type: ignore[method-assign]

    def run(self, steps: int) -> list[float]:
        """Take steps (or render), and return what says that the work was right."""
        if self.problem.case.render:
            return [self._render() for _ in range(steps)]
        values = []
        for _ in range(steps):
            rows = None if self.batches is None else self.batches[self.t % len(self.batches)]
            values.append([net.step(rows) for net in self.nets])
            self.t += 1
        return [float(torch.stack(losses).mean()) for losses in values]

    @torch.inference_mode()
    def _render(self) -> float:
        net = self.nets[0]
        coordinates = torch.from_numpy(self.problem.render_coordinates())
        pieces = [net.forward(net.encode(part)) for part in coordinates.split(RENDER_CHUNK)]
        return float(torch.cat(pieces).clamp(0.0, 1.0).mean())


class _Net:
    def __init__(
        self, problem: Problem, weights: list[tuple[np.ndarray, np.ndarray]], target: np.ndarray
    ) -> None:
        self.B = torch.from_numpy(problem.B)
        self.parameters = [torch.from_numpy(a.copy()).requires_grad_() for pair in weights for a in pair]
        self.members = weights[0][0].shape[0] if weights[0][0].ndim == 3 else None
        self.features = self.encode(torch.from_numpy(problem.coordinates))
        self.target = torch.from_numpy(target)
        self.linear = problem.case.tiles
        self.adam = torch.optim.Adam(self.parameters, lr=LEARNING_RATE, fused=True)

    def encode(self, coordinates: torch.Tensor) -> torch.Tensor:
        phase = 2.0 * torch.pi * (coordinates @ self.B.T)
        return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.members is not None:
            x = x.expand(self.members, *x.shape)
        p = self.parameters
        product = torch.addmm if self.members is None else torch.baddbmm
        for i in range(0, len(p), 2):
            x = product(p[i + 1], x, p[i])
            x = torch.relu(x) if i + 2 < len(p) else x if self.linear else torch.sigmoid(x)
        return x

    def loss(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.square(self.forward(x) - target).mean(dim=(-2, -1)).sum()

    def step(self, rows: torch.Tensor | None) -> torch.Tensor:
        x = self.features if rows is None else self.features[rows]
        target = self.target if rows is None else self.target[rows]
        self.adam.zero_grad(set_to_none=True)
        loss = self.loss(x, target)
        loss.backward()
        self.adam.step()
        return loss.detach() / (self.members or 1)
