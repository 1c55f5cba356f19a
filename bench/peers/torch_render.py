"""Render in PyTorch on the CPU, tuned as one who knows it well would."""

from __future__ import annotations

from typing import Any

import torch

from .cases import Case, Problem


class Rendering:
    """A picture a few lines at a time; `variant` is "eager" or "compile"."""

    stride = 1

    def __init__(self, variant: str) -> None:
        torch.set_flush_denormal(True)
        self.draw = _draw if variant == "eager" else torch.compile(_draw)

    def settings(self, case: Case, cores: int) -> dict[str, list[Any]]:
        """See `worker.Peer`; separable features are products of sines along x and along y."""
        return {"lines": [2, 8, 64], "separable": [True, False], "threads": list(range(cores, 0, -1))}

    def prepare(self, problem: Problem, setting: dict[str, Any]) -> None:
        """See `worker.Peer`."""
        self.problem, self.setting, self.size = problem, setting, problem.case.render or 1
        torch.set_num_threads(setting["threads"])
        torch._dynamo.reset()
        self.parameters = [torch.from_numpy(a) for pair in problem.weights for a in pair]

    def run(self, steps: int) -> list[float]:
        """See `worker.Peer`."""
        return [self._rendered() for _ in range(steps)]

    @torch.inference_mode()
    def _rendered(self) -> float:
        B = torch.from_numpy(self.problem.B)
        picture = torch.empty(self.size, self.size, 3)
        axis = (torch.arange(self.size) + 0.5) / self.size
        x, y = (2.0 * torch.pi * axis[:, None] * b for b in B.T)
        waves = [torch.cos(x), torch.sin(x), torch.cos(y), torch.sin(y)] if self.setting["separable"] else []
        for start in range(0, self.size, self.setting["lines"]):
            part = slice(start, start + self.setting["lines"])
            self.draw(self.parameters, x, y[part], [*waves[:2], *(w[part] for w in waves[2:])], picture[part])
        return float(picture.mean())


def _draw(
    parameters: list[torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    waves: list[torch.Tensor],
    out: torch.Tensor,
) -> None:
    """Fill lines of a picture from phases along x (W, m) and y (L, m), or from cosines and sines of them."""
    if waves:
        cos_x, sin_x, cos_y, sin_y = waves[0], waves[1], waves[2][:, None], waves[3][:, None]
        features = [cos_x * cos_y - sin_x * sin_y, sin_x * cos_y + cos_x * sin_y]
    else:
        phase = x + y[:, None]
        features = [torch.cos(phase), torch.sin(phase)]
    h = torch.cat(features, dim=-1).flatten(0, 1)
    *hidden, (W, b) = zip(parameters[::2], parameters[1::2], strict=True)
    for V, c in hidden:
        h = torch.relu(torch.addmm(c, h, V))
    out.copy_(torch.sigmoid(torch.addmm(b, h, W)).clamp(0.0, 1.0).view_as(out))
