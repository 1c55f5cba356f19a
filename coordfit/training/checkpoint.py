"""Checkpoints: the model, the optimizer's state and the step of a run, in one file."""

from __future__ import annotations

from functools import partial
from os import PathLike

from ..config import FitConfig
from ..encoders.registry import encoding_class
from ..files.tensor_file import load_tensors, save_tensors
from ..models.format import (
    MOST_SECONDS,
    MOST_STEPS,
    checked_checkpoint,
    describe_model,
    model_tensors,
    refused,
    stored_state,
)
from ..models.model import Model
from ..optimizers.make import state_names
from .state import TrainingState


def save_checkpoint(path: str | PathLike[str], model: Model, state: TrainingState) -> None:
    """Write a checkpoint, atomically."""
    layout = model.mlp.layout
    tensors = model_tensors(layout, state.encoder_state, state.parameters)
    for name, flat in state.optimizer.items():
        tensors |= layout.to_tensors(flat, prefix=f"optimizer.{name}.")
    progress = {"step": state.step, "seconds": state.seconds, "picture_digest": state.picture_digest}
    save_tensors(path, tensors, describe_model(model) | {"kind": "checkpoint", "progress": progress})


def load_checkpoint(path: str | PathLike[str]) -> tuple[FitConfig, TrainingState]:
    """Read settings and state of a run, without its history; ModelFileError if they cannot be used."""
    tensors, metadata = load_tensors(path, partial(checked_checkpoint, path))
    config, _, layout = checked_checkpoint(path, tensors, metadata)
    try:
        step, seconds, digest = _progress(metadata.get("progress"))
    except (TypeError, ValueError) as error:
        raise refused(path, f"its training progress cannot be used ({error})") from error
    return config, TrainingState(
        step=step,
        seconds=seconds,
        parameters=layout.from_tensors(tensors, config.dtype),
        optimizer={
            name: layout.from_tensors(tensors, config.dtype, f"optimizer.{name}.")
            for name in state_names(config)
        },
        encoder_state=stored_state(tensors, encoding_class(config.encoding)),
        picture_digest=digest,
    )


def _progress(progress: object) -> tuple[int, float, str]:
    """Return step, seconds and the picture's digest of a checkpoint."""
    if not isinstance(progress, dict):
        raise TypeError("it is missing")
    step, seconds, digest = (progress.get(name) for name in ("step", "seconds", "picture_digest"))
    if type(step) is not int or not 0 <= step <= MOST_STEPS:
        raise ValueError("the step makes no sense")
    if not isinstance(seconds, int | float) or not 0 <= seconds <= MOST_SECONDS:
        raise ValueError("the seconds make no sense")
    if not isinstance(digest, str):
        raise TypeError("the picture's digest is missing")
    return step, float(seconds), digest
