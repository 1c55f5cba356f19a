"""The parts that all tiles of a picture share: shapes, encoder state and first parameters of their networks.

A network has the coordinates of its tile, `(i + 0.5) / side`, so sigma means cycles per side of a tile. All
tiles have the same features and first weights, so their first hidden units are one array.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend
from ..config import FitConfig
from ..encoders.base import Encoder, Encoding, State
from ..encoders.registry import encoding_of
from ..network.cost import layout_for
from ..network.mlp import MLP, initial_parameters, make_mlp
from ..network.parameters import ParameterLayout
from ..network.random_streams import RandomStreams


@dataclass(frozen=True)
class TileNetwork:
    """The network of one tile, without its parameters."""

    config: FitConfig
    channels: int
    encoder_state: State
    """Of the encoder that all tiles share; frequencies in cycles per side of a tile."""
    dimensions: int = 2

    @classmethod
    def drawn(cls, config: FitConfig, channels: int, dimensions: int = 2) -> TileNetwork:
        """Return a network with an encoder drawn from the seed."""
        network = cls(config, channels, {}, dimensions)
        rng = RandomStreams(config.seed).encoding
        return dataclasses.replace(network, encoder_state=network.encoding.draw(rng, config.dtype))

    @property
    def encoding(self) -> Encoding:
        """The encoding of all tiles; it has no parameters, and so does not depend on their size."""
        return encoding_of(self.config, (1,) * self.dimensions)

    def encoder(self, backend: Backend) -> Encoder:
        """Return the encoder of all tiles on a backend."""
        return self.encoding.encoder(backend, self.encoder_state, self.config.dtype)

    @property
    def layout(self) -> ParameterLayout:
        """The layout of the flat parameter buffer."""
        return layout_for(self.config, self.encoding, self.encoder_state, self.channels)

    @property
    def has_linear_output(self) -> bool:
        """Whether the last layer has no activation, so that targets may be scaled."""
        return self.config.output_activation == "identity"

    @property
    def has_closed_form(self) -> bool:
        """Whether the last layer is linear least squares over hidden units."""
        return self.has_linear_output and self.config.loss == "mse" and self.config.depth > 1

    def first_parameters(self) -> NDArray[np.floating]:
        """Return the flat parameters (P,) from which every tile starts."""
        config, rng = self.config, RandomStreams(self.config.seed).weights
        sizes, initializer = self.layout.layer_sizes, config.resolved_initializer
        return initial_parameters(sizes, initializer, omega=config.resolved_omega, rng=rng).astype(config.dtype)

    def mlp(self, backend: Backend, parameters: Array, rows: int, *, gradient: Array | None = None) -> MLP:
        """Return the networks of some tiles on parameters (K, P), for `rows` rows at a time."""
        return make_mlp(backend, self.config, self.layout, parameters, rows=rows, gradient=gradient)

    def packed(self, flat: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return parameters (K, p), as they are stored: a flat buffer (K, P) without its gaps."""
        arrays = itertools.chain.from_iterable(self.layout.views(np, flat))
        return np.concatenate([array.reshape(len(flat), -1) for array in arrays], axis=-1)

    def unpacked(self, packed: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the flat buffer (K, P) of stored parameters (K, p)."""
        flat = np.zeros((len(packed), self.layout.size), self.config.dtype)
        start = 0
        for array in itertools.chain.from_iterable(self.layout.views(np, flat)):
            size = array[0].size
            array[...] = packed[:, start : start + size].reshape(array.shape)
            start += size
        return flat
