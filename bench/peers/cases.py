"""Define the cases that are timed, and the numbers that every peer starts from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordfit.pixels.batch_order import BatchOrder

LEARNING_RATE = 1e-3
NUM_BATCHES = 64


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Parameters
    ----------
    size : int
        Side of the picture in pixels.
    batch : int or None
        Pixels of a step; None for all.
    num_frequencies, hidden : int
        m, and units of the three hidden layers.
    members : int or None
        K networks at once on shared features.
    render : int or None
        Render a picture of this side instead of training.
    tiles : bool
        Whether the members are tiles of a photograph: one hidden layer, a linear output, targets of their own.
    """

    name: str
    size: int
    batch: int | None
    num_frequencies: int
    hidden: int
    members: int | None = None
    render: int | None = None
    tiles: bool = False

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Return widths from features to channels."""
        if self.tiles:
            return (2 * self.num_frequencies, self.hidden, 3)
        return (2 * self.num_frequencies, self.hidden, self.hidden, self.hidden, 3)

    @property
    def rows(self) -> int:
        """Return the pixels of one step, or of the rendering."""
        return self.render**2 if self.render else self.batch or self.size**2

    @property
    def flops(self) -> float:
        """Return the operations of the products of one step: forward, dW, and dx except for the first layer."""
        products = [a * b for a, b in itertools.pairwise(self.layer_sizes)]
        per_row = 2 * sum(products) if self.render else 6 * sum(products) - 2 * products[0]
        return float(per_row * self.rows * (self.members or 1))

    @property
    def parameter_bytes(self) -> int:
        """Return the size of all weights and biases."""
        layers = itertools.pairwise(self.layer_sizes)
        return 4 * (self.members or 1) * sum(n_in * n_out + n_out for n_in, n_out in layers)

    @property
    def optimizer_bytes(self) -> int:
        """Return what Adam reads (weights, gradient, two moments) and writes (weights, moments) in a step."""
        return 7 * self.parameter_bytes


def _training_cases() -> list[Case]:
    cases = []
    for m, hidden in ((256, 256), (128, 128)):
        for size, batch in ((32, 32), (32, 256), (128, 1024), (128, None)):
            cases.append(Case(f"{size}-{batch or 'full'}-{hidden}", size, batch, m, hidden))
    return cases


CASES = (
    *_training_cases(),
    Case("K16-32-256-64", 32, 256, 64, 64, members=16),
    Case("K16-128-1024-128", 128, 1024, 128, 128, members=16),
    Case("tiles-8-48", 10, None, 16, 48, members=1024, tiles=True),
    Case("tiles-16-64", 18, None, 24, 64, members=512, tiles=True),
    Case("render-1024-256", 128, None, 256, 256, render=1024),
    Case("render-1024-128", 128, None, 128, 128, render=1024),
)


@dataclass(frozen=True)
class Problem:
    """What every peer is given: arrays in float32 on the host.

    `weights` holds (W, b) for each layer, shapes (*E, n_in, n_out) and (*E, 1, n_out); `batches` is
    (NUM_BATCHES, batch), or None for full batches; `order` goes on where they begin again.
    `target` is (N, 3), or (K, N, 3) for tiles.
    """

    case: Case
    coordinates: NDArray[np.float32]
    target: NDArray[np.float32]
    B: NDArray[np.float32]
    weights: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
    order: BatchOrder | None
    batches: NDArray[np.int64] | None

    @classmethod
    def make(cls, case: Case) -> Problem:
        """Return the same problem for the same case in every process."""
        rng = np.random.default_rng(7)
        side = (np.arange(case.size) + 0.5) / case.size
        y, x = np.meshgrid(side, side, indexing="ij")
        coordinates = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
        pictures = (case.members or 1,) if case.tiles else ()
        target = rng.uniform(size=(*pictures, case.size**2, 3)).astype(np.float32)
        B = rng.normal(0.0, 10.0, (case.num_frequencies, 2)).astype(np.float32)
        ensemble = () if case.members is None else (case.members,)
        weights = [
            (
                rng.normal(0.0, np.sqrt(2.0 / n_in), (*ensemble, n_in, n_out)).astype(np.float32),
                np.zeros((*ensemble, 1, n_out), np.float32),
            )
            for n_in, n_out in itertools.pairwise(case.layer_sizes)
        ]
        order = batches = None
        if case.batch is not None:
            order = BatchOrder(case.size**2, case.batch, seed=7)
            batches = np.stack([order.batch(t).copy() for t in range(NUM_BATCHES)])
        return cls(case, coordinates, target, B, weights, order, batches)

    def batch(self, t: int) -> NDArray[np.int64] | None:
        """Return the pixels of step t."""
        return None if self.batches is None else self.batches[t % NUM_BATCHES]

    def render_coordinates(self) -> NDArray[np.float32]:
        """Return coordinates (N, 2) of the rendering."""
        side = (np.arange(self.case.render or 1) + 0.5) / (self.case.render or 1)
        y, x = np.meshgrid(side, side, indexing="ij")
        return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
