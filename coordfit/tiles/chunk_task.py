"""The training of a chunk of tiles in another process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..backends import Backend
from .group import Host
from .layout import TileLayout
from .network import TileNetwork
from .trainer import Tally, TileRules, TileTrainer

TASK_TILES = 512
"""Tiles of a task: of 8x8 pixels, 0.8 MB are sent and 1.8 MB come back."""


@dataclass(frozen=True)
class TrainedChunk:
    """What comes back: packed parameters (n, p) as they are stored, errors (n,), and what they took."""

    packed: NDArray[np.floating]
    errors: NDArray[np.floating]
    tally: Tally


@dataclass(frozen=True)
class ChunkTask:
    """What a worker needs to know of a picture; it can be pickled."""

    make_backend: Callable[[], Backend]
    network: TileNetwork
    layout: TileLayout
    rules: TileRules
    steps: int
    stored: str

    def __call__(self, pixels: Host, weights: Host | None, blend_weights: Host | None) -> TrainedChunk:
        """Train tiles with pixels (n, N, C); see `TileTrainer.fit`."""
        trainer = TileTrainer(self.make_backend(), self.network, self.layout, self.rules)
        parameters, errors = trainer.fit(pixels, self.steps, blend_weights, weights)
        packed = self.network.packed(parameters).astype(self.stored)
        return TrainedChunk(packed, errors, trainer.tally())
