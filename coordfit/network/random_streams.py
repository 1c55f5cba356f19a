"""Independent random streams from one seed: for the encoding, the weights and the order of batches."""

from __future__ import annotations

import numpy as np


class RandomStreams:
    """The streams of one seed: the generators `encoding` and `weights`, and `order_seed`."""

    def __init__(self, seed: int) -> None:
        encoding, weights, order = np.random.SeedSequence(seed).spawn(3)
        self.encoding = np.random.Generator(np.random.PCG64(encoding))
        self.weights = np.random.Generator(np.random.PCG64(weights))
        self.order_seed = int(order.generate_state(1, np.uint32)[0])
