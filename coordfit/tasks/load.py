"""`load`: a model file, single or tiled, onto a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import Backend, get_backend
from ..codec import CompressedPicture
from ..codec.container import is_compressed
from ..components import known
from ..encoders.registry import encoding_class
from ..files.tensor_file import load_tensors, map_tensors, read_metadata
from ..fit_options import FusedMode, Precision
from ..models.format import Tensors, checked_model, model_in, stored_state
from ..models.model import Model
from ..tiles.file import checked_tiles
from ..tiles.model import TiledModel
from ..tiles.network import TileNetwork
from .compress import open_compressed

NETWORKS = "networks"
"""The folder of a mean's networks, in that of its run."""


def load(
    path: str | PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    fused: FusedMode = "auto",
    precision: Precision = "float32",
    backend: Backend | None = None,
    components: Iterable[type] = (),
) -> Model | TiledModel | CompressedPicture:
    """Read a model, or the model inside a checkpoint, onto a device; tiles are read as they are asked for.

    Parameters
    ----------
    path : path
        A file that `Model.save` wrote, a `.cfc` file, or the folder of a run.
    device, threads, fused, precision
        As of `coordfit.fit`.
    backend : Backend, optional
        One that is there already, instead of those four.
    components : classes, optional
        Encodings, activations, losses and optimizers that the file names and coordfit does not have.

    Raises
    ------
    ModelFileError, CompressedFileError
        The file is missing, damaged, or not a model of ours.
    """
    file = model_in(path)
    if is_compressed(file):
        return open_compressed(file)
    backend = backend or get_backend(device, threads=threads, fused=fused, precision=precision)
    return load_networks(file, backend, components)


def networks_in(folder: Path, backend: Backend) -> list[Model]:
    """Return the networks of a mean in a run's folder; none if it is no mean."""
    found = (load_networks(file, backend) for file in sorted((folder / NETWORKS).glob("*.safetensors")))
    return [model for model in found if isinstance(model, Model)]


def load_networks(path: Path, backend: Backend, components: Iterable[type] = ()) -> Model | TiledModel:
    """Read the file of one network or of tiles onto a backend; ModelFileError if it cannot be used."""
    with known(components):
        if read_metadata(path).get("kind") == "tiled":
            return load_tiled(path, backend)
        tensors, metadata = load_tensors(path, partial(checked_model, path))
        return _build(path, tensors, metadata, backend)


def _build(path: str | PathLike[str], tensors: Tensors, metadata: Mapping[str, Any], backend: Backend) -> Model:
    config, picture, layout = checked_model(path, tensors, metadata)
    parameters = layout.from_tensors(tensors, config.dtype)
    metrics = metadata.get("metrics")
    return Model(
        backend,
        config,
        picture,
        stored_state(tensors, encoding_class(config.encoding)),
        parameters,
        metrics if isinstance(metrics, dict) else None,
    )


def load_tiled(path: str | PathLike[str], backend: Backend) -> TiledModel:
    """Map a tiled model onto memory; ModelFileError where it cannot be used."""
    tensors, metadata = map_tensors(path, partial(checked_tiles, path))
    config, picture, layout = checked_tiles(path, tensors, metadata)
    metrics = metadata.get("metrics")
    state = stored_state(tensors, encoding_class(config.encoding))
    own = {name: np.array(array) for name, array in state.items()}
    network = TileNetwork(config, picture.channels, own, picture.dimensions)
    return TiledModel(
        backend,
        picture,
        network,
        layout,
        tensors["tiles.parameters"],
        metrics if isinstance(metrics, dict) else None,
    )
