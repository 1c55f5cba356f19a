"""Models on disk: one `.safetensors` file with tensors by name and self-describing metadata.

It holds `encoding.B` (m, 2), `layers.N.weight` (n_in, n_out), `layers.N.bias` (n_out,), `encoding.NAME` of a
trained encoder; a checkpoint also has the optimizer's state as `optimizer.NAME.layers.N.weight` and so on. A
file holds no code, and everything in it is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..config import FitConfig, make_config
from ..encoders.base import Encoding, State
from ..encoders.registry import encoding_of
from ..errors import ConfigError, ModelFileError
from ..files import printable
from ..files.tensor_file import save_tensors
from ..network.cost import layout_for
from ..network.parameters import ParameterLayout
from ..optimizers.make import state_names
from ..signals.facts import Frame, SignalFacts

if TYPE_CHECKING:
    from ..tiles.model import TiledModel
    from .model import Model

Tensors = Mapping[str, NDArray[Any]]

_COORDINATES = "pixel centres (i + 0.5) / longer side, x right, y down"
_COLOURS = "the file's own encoding (sRGB as a rule), scaled to [0, 1]"
MOST_STEPS, MOST_SECONDS = 10**9, 1e12
_MOST_NAMES = 6  # files in a message
_MOST_LETTERS = 300  # letters of a reason, which may quote the file
_MOST_SAMPLES = 2**31  # along an axis
_PICTURE_FACTS = {"height", "width", "channels", "bit_depth", "name"}
_LIMITS = {"height": 2**20, "width": 2**20, "channels": 4, "bit_depth": 16}


def save_model(path: str | PathLike[str], model: Model) -> None:
    """Write a model, atomically; OutputError if that fails."""
    parameters = model.backend.to_numpy(model.mlp.parameters)
    tensors = model_tensors(model.mlp.layout, model.encoder.state(), parameters)
    save_tensors(path, tensors, describe_model(model) | {"kind": "model"})


def model_in(path: str | PathLike[str]) -> Path:
    """Return the model file of a path: itself, or the model or checkpoint in a run's folder.

    Raises
    ------
    ModelFileError
        The folder has no model, or several without a main one.
    """
    folder = Path(path)
    if not folder.is_dir():
        return folder
    found = sorted([*folder.glob("*.safetensors"), *folder.glob("models/*.safetensors"), *folder.glob("*.cfc")])
    for name in ("model.safetensors", "model.cfc", "checkpoint.safetensors"):
        if folder / name in found:
            return folder / name
    if len(found) == 1:
        return found[0]
    if not found:
        raise refused(path, "the folder holds no model; name the folder of a finished run, or a file")
    names = ", ".join(str(file.relative_to(folder)) for file in found[:_MOST_NAMES])
    more = ", ..." if len(found) > _MOST_NAMES else ""
    raise refused(path, f"the folder holds {len(found)} models; name one of its files ({names}{more})")


def model_tensors(layout: ParameterLayout, state: State, parameters: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a model by name, its encoder's state first."""
    return state_tensors(state) | layout.to_tensors(parameters)


def state_tensors(state: State) -> dict[str, NDArray[Any]]:
    """Return the tensors of an encoder's state: `encoding.B` of Fourier features."""
    return {f"encoding.{name}": array for name, array in state.items()}


def stored_state(tensors: Tensors, encoding: type[Encoding]) -> dict[str, NDArray[Any]]:
    """Return an encoder's state from the tensors of a file."""
    return {name: tensors[f"encoding.{name}"] for name in encoding.state_names}


def describe_model(model: Model | TiledModel) -> dict[str, Any]:
    """Return the metadata of a model's file."""
    return {
        "config": model.config.as_dict(),
        **_described(model.signal),
        "metrics": model.metrics,
        "versions": {"coordfit": __version__, "numpy": np.__version__},
    }


def checked_checkpoint(
    path: str | PathLike[str], tensors: Tensors, metadata: Mapping[str, Any]
) -> tuple[FitConfig, SignalFacts, ParameterLayout]:
    """Return `checked_model`; ModelFileError for a model without a training state."""
    if metadata.get("kind") != "checkpoint":
        raise refused(path, "it holds a model but no training state; resume needs a checkpoint")
    return checked_model(path, tensors, metadata)


def checked_model(
    path: str | PathLike[str], tensors: Tensors, metadata: Mapping[str, Any]
) -> tuple[FitConfig, SignalFacts, ParameterLayout]:
    """Return settings, picture and layout of a file; ModelFileError if they do not fit its tensors."""
    try:
        config, picture = read_description(metadata)
    except (ConfigError, TypeError, ValueError) as error:
        raise refused(path, f"its metadata cannot be used ({error})") from error
    encoding = encoding_of(config, picture.shape)
    state = checked_state(path, tensors, encoding, config.dtype)
    layout = layout_for(config, encoding, state, picture.channels)
    expected = _expected_tensors(config, layout, with_state=metadata.get("kind") == "checkpoint")
    found = {name: tensors[name] for name in set(tensors) - state_tensors(state).keys()}
    if unknown := set(found) - set(expected):
        raise refused(path, f"it holds unknown tensors ({', '.join(sorted(unknown)[:3])})")
    for name, shape in expected.items():
        if name not in found:
            raise refused(path, f"{name} is missing")
        if found[name].shape != shape or found[name].dtype != config.dtype:
            array = found[name]
            raise refused(path, f"{name} is {array.dtype} {array.shape}, not {config.dtype} {shape}")
    return config, picture, layout


def checked_state(
    path: str | PathLike[str], tensors: Tensors, encoding: Encoding, dtype: str
) -> dict[str, NDArray[Any]]:
    """Return the state of a file's encoder, after checking its types and shapes."""
    for name in encoding.state_names:
        if f"encoding.{name}" not in tensors:
            raise refused(path, f"encoding.{name} is missing")
    state = stored_state(tensors, type(encoding))
    if fault := encoding.fault_of(state, dtype):
        raise refused(path, fault)
    return state


def _expected_tensors(
    config: FitConfig, layout: ParameterLayout, *, with_state: bool
) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of all tensors except the encoder's state."""
    states = state_names(config) if with_state else ()
    nothing = np.broadcast_to(np.float32(0), layout.size)  # shapes without memory
    return {
        name: array.shape
        for prefix in ("", *(f"optimizer.{state}." for state in states))
        for name, array in layout.to_tensors(nothing, prefix).items()
    }


def read_description(metadata: Mapping[str, Any]) -> tuple[FitConfig, SignalFacts]:
    """Return settings and picture of a file; ConfigError, TypeError or ValueError for unusable ones."""
    facts = _signal(metadata["signal"]) if "signal" in metadata else _picture(metadata.get("picture"))
    return _config(metadata.get("config")), facts


def _config(settings: object) -> FitConfig:
    if not isinstance(settings, dict):
        raise TypeError("the settings are missing")
    missing = {spec.name for spec in fields(FitConfig) if not spec.metadata["is_new"]} - set(settings)
    if missing:
        raise ValueError(f"the settings lack {', '.join(sorted(missing)[:3])}")
    return make_config(settings)


def _described(signal: SignalFacts) -> dict[str, Any]:
    """Return the metadata of a signal: of a picture as in all versions, of others with their frame."""
    if signal.frame is not None:
        return {"signal": asdict(signal)}
    height, width = signal.shape
    shared = {name: getattr(signal, name) for name in ("channels", "bit_depth", "name")}
    return {
        "picture": {"height": height, "width": width, **shared},
        "coordinates": _COORDINATES,
        "colours": _COLOURS,
    }


def _signal(facts: object) -> SignalFacts:
    """Return the facts of a signal that is no picture; TypeError or ValueError for unusable ones."""
    if not isinstance(facts, dict) or set(facts) != {spec.name for spec in fields(SignalFacts)}:
        raise TypeError("the signal's facts are missing")
    shape, channels, frame = tuple(facts["shape"]), facts["channels"], facts["frame"]
    sizes = [channels, *shape]
    if (
        any(type(size) is not int or not 1 <= size <= _MOST_SAMPLES for size in sizes)
        or not 1 <= len(shape) <= 4
    ):
        raise ValueError(f"the signal's shape is {shape!r}, with {channels!r} channels")
    if not isinstance(frame, dict) or set(frame) != {spec.name for spec in fields(Frame)}:
        raise TypeError("the signal's frame is missing")
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in frame.items()}
    made = Frame(**settings)
    made.check(len(shape), channels)
    if facts["bit_depth"] not in (8, 16):
        raise ValueError(f"the signal's bit depth is {facts['bit_depth']!r}")
    return SignalFacts(shape, channels, facts["bit_depth"], str(facts["name"]), made)


def _picture(facts: object) -> SignalFacts:
    if not isinstance(facts, dict) or set(facts) != _PICTURE_FACTS:
        raise TypeError("the picture's facts are missing")
    for name, limit in _LIMITS.items():
        if type(facts[name]) is not int or not 1 <= facts[name] <= limit:
            raise ValueError(f"the picture's {name} is {facts[name]!r}")
    if facts["bit_depth"] not in (8, 16) or not isinstance(facts["name"], str):
        raise ValueError("the picture's facts make no sense")
    shape = facts["height"], facts["width"]
    return SignalFacts(shape, facts["channels"], facts["bit_depth"], facts["name"])


def refused(path: str | PathLike[str], reason: str) -> ModelFileError:
    """Return the error for an unusable file, with a reason of limited length, as it may quote the file."""
    short = reason if len(reason) <= _MOST_LETTERS else f"{reason[:_MOST_LETTERS]} ..."
    return ModelFileError(f"cannot load {printable(fspath(path))}: {short}")
