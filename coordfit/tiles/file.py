"""Tiled models on disk: one `.safetensors` file whose tiles are read on demand.

It holds `encoding.B` (m, 2) and `tiles.parameters` (number of tiles, p) in float16, float32 or float64, with
weights and biases layer by layer. A rendering of a window reads only the rows of its tiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..config import FitConfig
from ..encoders.registry import encoding_of
from ..errors import ConfigError
from ..files.tensor_file import save_tensors
from ..models.format import checked_state, describe_model, read_description, refused, state_tensors
from ..signals.facts import SignalFacts
from .layout import TileLayout
from .network import TileNetwork

if TYPE_CHECKING:
    from .model import TiledModel

_MOST_SIDE = 2**14


def save_tiled(path: str | PathLike[str], model: TiledModel, dtype: str | None = None) -> None:
    """Write a tiled model, atomically, with parameters of type `dtype`; by default the model's own."""
    stored = model.parameters if dtype is None else model.parameters.astype(dtype, copy=False)
    tensors = {"tiles.parameters": stored} | state_tensors(model.network.encoder_state)
    tiles = {"tile": model.layout.tile, "overlap": model.layout.overlap, "count": len(model.layout)}
    save_tensors(path, tensors, describe_model(model) | {"kind": "tiled", "tiles": tiles})


def checked_tiles(
    path: str | PathLike[str], tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]
) -> tuple[FitConfig, SignalFacts, TileLayout]:
    """Return settings, picture and tiles of a file; ModelFileError if they do not fit its tensors."""
    try:
        config, picture = read_description(metadata)
        layout = _layout(metadata.get("tiles"), picture.shape)
    except (ConfigError, TypeError, ValueError) as error:
        raise refused(path, f"its metadata cannot be used ({error})") from error
    encoding = encoding_of(config, layout.grid.shape)
    if encoding.learns:
        raise refused(path, f"tiles have no encoding {encoding.name!r}")
    state = checked_state(path, tensors, encoding, config.dtype)
    if unknown := set(tensors) - {*state_tensors(state), "tiles.parameters"}:
        raise refused(path, f"it holds unknown tensors ({', '.join(sorted(unknown)[:3])})")
    network = TileNetwork(config, picture.channels, state, picture.dimensions)
    parameters, wanted = tensors.get("tiles.parameters"), (len(layout), network.layout.num_parameters)
    if parameters is None or parameters.shape != wanted or parameters.dtype.kind != "f":
        raise refused(path, f"its parameters are not of shape {wanted}")
    return config, picture, layout


def _layout(facts: object, shape: tuple[int, ...]) -> TileLayout:
    if not isinstance(facts, dict):
        raise TypeError("the tiles are missing")
    tile, overlap = facts.get("tile"), facts.get("overlap")
    if type(tile) is not int or type(overlap) is not int or not 2 <= tile <= _MOST_SIDE:
        raise ValueError("the tiles make no sense")
    layout = TileLayout(shape, tile, overlap)
    if facts.get("count") != len(layout):
        raise ValueError("the number of tiles makes no sense")
    return layout
