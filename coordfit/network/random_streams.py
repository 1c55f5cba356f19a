"""Random streams: one seed gives frequencies, weights and the order of batches, independent of each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..config import FitConfig
from ..encoders.fourier import frequency_matrix


class RandomStreams:
    """The three streams of randomness of one seed: frequencies, weights, and the order of batches."""

    def __init__(self, seed: int) -> None:
        frequencies, weights, order = np.random.SeedSequence(seed).spawn(3)
        self._frequencies = np.random.Generator(np.random.PCG64(frequencies))
        self.weights = np.random.Generator(np.random.PCG64(weights))
        self.order_seed = int(order.generate_state(1, np.uint32)[0])

    def frequencies(self, config: FitConfig) -> NDArray[np.float64] | None:
        """B (m, 2) of the encoding that the settings name; None for `none`."""
        return frequency_matrix(
            config.encoding, config.num_frequencies, config.resolved_sigma, self._frequencies
        )
