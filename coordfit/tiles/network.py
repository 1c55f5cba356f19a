"""What all tiles of a picture share: the shape of their networks, the frequencies and the first weights.

A tile's network is like any other here, in its tile's own coordinates: `(i + 0.5) / side`, so that sigma means
cycles per side of a tile. All start from the same weights; since they see the same features, what the hidden
units say at first is one array for all of them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._backends import Array, Backend
from ..config import FitConfig
from ..network.activations import make_activation
from ..network.cost import layer_sizes
from ..network.mlp import MLP, initial_parameters
from ..network.parameters import ParameterLayout
from ..network.random_streams import RandomStreams


@dataclass(frozen=True)
class TileNetwork:
    """The network of one tile, but for its weights.

    Attributes
    ----------
    B : array, shape (m, 2), or None
        Frequencies in cycles per side of a tile, shared by all tiles.
    """

    config: FitConfig
    channels: int
    B: NDArray[np.floating] | None

    @classmethod
    def drawn(cls, config: FitConfig, channels: int) -> TileNetwork:
        """With frequencies from the settings' seed."""
        B = RandomStreams(config.seed).frequencies(config)
        return cls(config, channels, None if B is None else B.astype(config.dtype))

    @property
    def layout(self) -> ParameterLayout:
        """Where its parameters lie in a flat buffer."""
        num_features = 2 if self.B is None else 2 * len(self.B)
        return ParameterLayout(layer_sizes(self.config, num_features, self.channels))

    def first_parameters(self) -> NDArray[np.floating]:
        """The flat parameters (P,) from which every tile starts."""
        config, streams = self.config, RandomStreams(self.config.seed)
        streams.frequencies(config)
        return initial_parameters(
            self.layout.layer_sizes, config.resolved_initializer, omega=config.omega, rng=streams.weights
        ).astype(config.dtype)

    def mlp(self, backend: Backend, parameters: Array, rows: int, *, gradient: Array | None = None) -> MLP:
        """The networks (K, P) of some tiles, for `rows` rows at a time."""
        config = self.config
        return MLP(
            backend,
            self.layout.layer_sizes,
            parameters,
            make_activation(config.activation, omega=config.omega),
            make_activation(config.output_activation, omega=config.omega),
            rows=rows,
            dtype=config.dtype,
            gradient=gradient,
        )

    def packed(self, flat: NDArray[np.floating]) -> NDArray[np.floating]:
        """Parameters (K, p) without the gaps of a flat buffer (K, P): what is stored."""
        arrays = itertools.chain.from_iterable(self.layout.views(np, flat))
        return np.concatenate([array.reshape(len(flat), -1) for array in arrays], axis=-1)

    def unpacked(self, packed: NDArray[np.floating]) -> NDArray[np.floating]:
        """The flat buffer (K, P) of stored parameters (K, p)."""
        flat = np.zeros((len(packed), self.layout.size), self.config.dtype)
        start = 0
        for array in itertools.chain.from_iterable(self.layout.views(np, flat)):
            size = array[0].size
            array[...] = packed[:, start : start + size].reshape(array.shape)
            start += size
        return flat
