"""Run the same fit in PyTorch, as its users write it: eager, features computed once, fused Adam."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coordfit._backends import get_backend
from coordfit.config import FitConfig
from coordfit.images import Picture
from coordfit.network.parameters import ParameterLayout
from coordfit.training.member import Member


class TorchFit:
    """Frequencies and weights as coordfit draws them; batches are slices of a permutation for each epoch."""

    def __init__(self, picture: Picture, config: FitConfig) -> None:
        torch.manual_seed(config.seed)
        member = Member(get_backend("numpy"), picture, config)
        self.member, self.config, self.size = member, config, (picture.height, picture.width)
        if "B" not in member.encoder_state or config.optimizer != "adam" or config.activation != "relu":
            raise ValueError("in PyTorch there is Adam on ReLU and Fourier features here")
        layout: ParameterLayout = member.model.mlp.layout
        flat = np.asarray(member.model.mlp.parameters)
        self.parameters = [
            torch.from_numpy(np.array(a)).requires_grad_() for pair in layout.views(np, flat) for a in pair
        ]
        grid = member.model.picture.grid
        coordinates = torch.from_numpy(grid.coordinates(np.arange(len(member.target))).astype(np.float32))
        phase = 2.0 * torch.pi * (coordinates @ torch.from_numpy(member.encoder_state["B"]).T)
        self.features = torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)
        self.target = torch.from_numpy(np.array(member.target, np.float32))
        betas = (config.beta1, config.beta2)
        self.adam = torch.optim.Adam(
            self.parameters, lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=True
        )
        self.step = 0
        self.order = torch.empty(0, dtype=torch.int64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return colours (n, C) of features (n, F)."""
        p = self.parameters
        for i in range(0, len(p), 2):
            x = torch.addmm(p[i + 1], x, p[i])
            x = torch.relu(x) if i + 2 < len(p) else torch.sigmoid(x)
        return x

    def take_steps(self, count: int) -> None:
        """See `curves.Fitter`."""
        for _ in range(count):
            rows = self._batch()
            x = self.features if rows is None else self.features[rows]
            target = self.target if rows is None else self.target[rows]
            for group in self.adam.param_groups:
                group["lr"] = self.member.learning_rate(self.step)
            self.adam.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(self.forward(x), target).backward()
            self.adam.step()
            self.step += 1

    def _batch(self) -> torch.Tensor | None:
        if self.config.batch_size is None:
            return None
        if len(self.order) < self.config.batch_size:
            self.order = torch.randperm(len(self.target))
        rows, self.order = self.order.split([self.config.batch_size, len(self.order) - self.config.batch_size])
        return rows

    @torch.inference_mode()
    def picture(self) -> NDArray[Any]:
        """See `curves.Fitter`."""
        colours: NDArray[Any] = self.forward(self.features).numpy()
        return colours.reshape(*self.size, -1)

    def close(self) -> None:
        """Nothing to give back."""
