"""Sizes of layers and tables, and the cost of a row (a pixel) in memory and operations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..config import FitConfig
from ..encoders.base import Encoding, State
from .parameters import ParameterLayout


def layer_sizes(config: FitConfig, num_features: int, channels: int) -> tuple[int, ...]:
    """Return the widths from features to channels: `depth` layers, with `hidden_size` units between them."""
    return (num_features, *[config.hidden_size] * (config.depth - 1), channels)


def layout_for(config: FitConfig, encoding: Encoding, state: State, channels: int) -> ParameterLayout:
    """Return the layout of the parameters of a network and its encoder."""
    sizes = layer_sizes(config, encoding.num_features(state), channels)
    return ParameterLayout(sizes, encoding.parameter_shapes())


# The largest table of the features of all training pixels; networks with their own features may have four times
# that together.
FEATURE_TABLE_BYTES = 128 * 2**20
_ALL_TABLES = 4


def table_fits(table_bytes: int, members: int) -> bool:
    """Whether training keeps tables of features, with `table_bytes` for each of the members."""
    return max(table_bytes, table_bytes * members // _ALL_TABLES) <= FEATURE_TABLE_BYTES


def cost_of_a_row(layer_sizes: Sequence[int], dtype: str, *, forward_alone: bool = False) -> tuple[int, int]:
    """Return the bytes of activations of one row of one member, and its operations forward.

    With `forward_alone` a layer's input is not kept, and features are read only once.
    """
    products = sum(n_in * n_out for n_in, n_out in itertools.pairwise(layer_sizes))
    alive = sum(layer_sizes)
    if forward_alone:
        outputs = layer_sizes[1:]
        alive = max(map(sum, itertools.pairwise(outputs)), default=outputs[0])
    return alive * item_size(dtype), 2 * products


def item_size(dtype: str) -> int:
    """Return the bytes of one number."""
    return np.dtype(dtype).itemsize
