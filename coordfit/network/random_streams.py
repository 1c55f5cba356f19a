"""Random streams: one seed gives an encoding, weights and the order of batches, independent of each other."""

from __future__ import annotations

import numpy as np


class RandomStreams:
    """The streams of randomness of one seed: `encoding` and `weights` as generators, and `order_seed`."""

    def __init__(self, seed: int) -> None:
        encoding, weights, order = np.random.SeedSequence(seed).spawn(3)
        self.encoding = np.random.Generator(np.random.PCG64(encoding))
        self.weights = np.random.Generator(np.random.PCG64(weights))
        self.order_seed = int(order.generate_state(1, np.uint32)[0])
