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
from ..encoders.base import Encoder, Encoding, State
from ..encoders.registry import encoding_of
from ..network.activations import make_activation
from ..network.cost import layout_for
from ..network.mlp import MLP, initial_parameters
from ..network.parameters import ParameterLayout
from ..network.random_streams import RandomStreams

_ANY_SIZE = (1, 1)  # what learns nothing is the same for all sizes


@dataclass(frozen=True)
class TileNetwork:
    """The network of one tile, but for its weights.

    Attributes
    ----------
    encoder_state : mapping
        Of the encoder that all tiles share: frequencies in cycles per side of a tile.
    """

    config: FitConfig
    channels: int
    encoder_state: State

    @classmethod
    def drawn(cls, config: FitConfig, channels: int) -> TileNetwork:
        """Return one whose encoder is drawn from the settings' seed."""
        rng = RandomStreams(config.seed).encoding
        return cls(config, channels, encoding_of(config, _ANY_SIZE).draw(rng, config.dtype))

    @property
    def encoding(self) -> Encoding:
        """The encoding of all tiles; it learns nothing."""
        return encoding_of(self.config, _ANY_SIZE)

    def encoder(self, backend: Backend) -> Encoder:
        """Return the encoder of all tiles on a backend."""
        return self.encoding.encoder(backend, self.encoder_state, self.config.dtype)

    @property
    def layout(self) -> ParameterLayout:
        """Where its parameters lie in a flat buffer."""
        return layout_for(self.config, self.encoding, self.encoder_state, self.channels)

    def first_parameters(self) -> NDArray[np.floating]:
        """The flat parameters (P,) from which every tile starts."""
        config, streams = self.config, RandomStreams(self.config.seed)
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
