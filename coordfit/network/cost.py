"""Sizes of layers, features and activations, and what a row of pixels costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..config import FitConfig
from ..encoders.base import Encoding, State
from .parameters import ParameterLayout


def layer_sizes(config: FitConfig, num_features: int, channels: int) -> tuple[int, ...]:
    """Widths from the features to the channels: `depth` layers, all but the last of `hidden_size` units."""
    return (num_features, *[config.hidden_size] * (config.depth - 1), channels)


def layout_for(config: FitConfig, encoding: Encoding, state: State, channels: int) -> ParameterLayout:
    """Return where the parameters of a network and of its encoder lie."""
    sizes = layer_sizes(config, encoding.num_features(state), channels)
    return ParameterLayout(sizes, encoding.parameter_shapes())


# Features of all training pixels are computed once where they take no more memory than this.
FEATURE_TABLE_BYTES = 128 * 2**20


# Networks with frequencies of their own may have so many times that together.
_MEMBERS_SHARE = 4


def table_fits(table_bytes: int, members: int) -> bool:
    """Whether tables of features are kept: of so many bytes for each of so many members."""
    return max(table_bytes, table_bytes * members // _MEMBERS_SHARE) <= FEATURE_TABLE_BYTES


def cost_of_a_row(layer_sizes: Sequence[int], dtype: str, *, forward_alone: bool = False) -> tuple[int, int]:
    """Bytes of activations that one row of one member keeps alive, and its operations forward.

    With `forward_alone` a layer's input is dead once its output is there, and features are read but once.
    """
    products = sum(n_in * n_out for n_in, n_out in itertools.pairwise(layer_sizes))
    alive = sum(layer_sizes)
    if forward_alone:
        outputs = layer_sizes[1:]
        alive = max(map(sum, itertools.pairwise(outputs)), default=outputs[0])
    return alive * item_size(dtype), 2 * products


def item_size(dtype: str) -> int:
    """Bytes of one number."""
    return np.dtype(dtype).itemsize
