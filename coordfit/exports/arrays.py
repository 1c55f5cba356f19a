"""A fitted model as plain arrays on the host: what every export is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..components import name_of
from ..encoders.base import Encoder
from ..encoders.fourier import FourierEncoder
from ..encoders.identity import IdentityEncoder
from ..encoders.interpolation import Kernel, Level
from ..encoders.levels import LevelsEncoder
from ..errors import ConfigError
from ..models.rendering import Rendered
from ..network.activations import ACTIVATIONS, ActivationFunction
from ..signals.facts import SignalFacts
from ..tiles.layout import Axis, TileLayout

Host = NDArray[Any]

PAGE = "a page"
_FAR = 1e30  # pixels: a border that no point reaches


@dataclass(frozen=True)
class Features:
    """The arrays of an encoder.

    Attributes
    ----------
    dimensions : int
        D.
    B : array (m, D), optional
        Frequencies; without them and without levels, features are the coordinates.
    levels : list of (Level, array (H_l, W_l, F_l))
        Nodes and their trained features, interpolated by `kernel`.
    """

    dimensions: int = 2
    B: Host | None = None
    levels: tuple[tuple[Level, Host], ...] = ()
    kernel: Kernel | None = None

    @property
    def groups(self) -> list[int]:
        """The numbers of features that are computed together: cosines and sines, or those of each level."""
        if self.B is not None:
            return [len(self.B), len(self.B)]
        return [level.features for level, _ in self.levels] or [self.dimensions]


@dataclass(frozen=True)
class ModelArrays:
    """The arrays of one network (T = 1), or of the networks of T tiles.

    Attributes
    ----------
    layers : list of (W, b), shapes (T, n_in, n_out) and (T, n_out)
    activations : list
        One for each layer.
    layout : TileLayout, optional
        The places of the tiles.
    """

    title: str
    signal: SignalFacts
    dtype: str
    features: Features
    layers: tuple[tuple[Host, Host], ...]
    activations: tuple[ActivationFunction, ...]
    layout: TileLayout | None

    @property
    def longer(self) -> int:
        """The longest side in samples, which coordinates are divided by."""
        return max(self.signal.shape)

    @property
    def coordinates(self) -> str:
        """The convention of coordinates in words."""
        if self.signal.frame is None:
            return f"pixel centres (i + 0.5) / {self.longer}: x to the right, y down"
        return f"centres of samples (i + 0.5) / {self.longer}: {', '.join(self.signal.coordinate_names)}"

    @property
    def layer_sizes(self) -> list[int]:
        """Widths from features to colours."""
        return [self.layers[0][0].shape[1], *(W.shape[2] for W, _ in self.layers)]

    def check_axes(self, file: str, *, of_any_network: bool = False) -> None:
        """Refuse signals that are no planes, for files whose programs are of two axes; ConfigError.

        With `of_any_network`, one network on Fourier features or coordinates may have any number of axes.
        """
        axes = self.signal.dimensions
        if axes != 2 and not (of_any_network and self.layout is None and not self.features.levels):
            raise ConfigError(f"{file} is of signals with 2 axes, and this one has {axes}; export to .onnx")
        if file == PAGE and self.signal.channels > 4:
            raise ConfigError(f"{file} shows 1 to 4 channels, not {self.signal.channels}; export to .onnx")

    def check_built_in(self, file: str) -> None:
        """Refuse activations that are not built in, for files that spell the formulas out; ConfigError."""
        for activation in self.activations:
            if type(activation) not in ACTIVATIONS.values():
                raise ConfigError(
                    f"{file} knows the activations {', '.join(ACTIVATIONS)}, not {name_of(activation)}; "
                    "export to .onnx, which takes any formula"
                )


def arrays_of(model: Rendered) -> ModelArrays:
    """Return the arrays of a model; ConfigError if its encoding is not one of ours."""
    encoder, mlp, flat, tiles = model.stored()
    layers = tuple((W, b[:, 0]) for W, b in mlp.layout.views(np, flat))
    values = {name: array[0] for name, array in mlp.layout.encoder_views(np, flat).items()}
    activations = tuple(layer.activation for layer in mlp.layers)
    features = _features(encoder, values)
    return ModelArrays(model.title, model.signal, model.dtype, features, layers, activations, tiles)


def _features(encoder: Encoder, values: dict[str, Host]) -> Features:
    if isinstance(encoder, FourierEncoder):
        B = encoder.state()["B"]
        return Features(B.shape[1], B)
    if isinstance(encoder, LevelsEncoder):
        levels = tuple(zip(encoder.nodes, values.values(), strict=True))
        return Features(len(encoder.nodes[0].counts), levels=levels, kernel=encoder.kernel)
    if isinstance(encoder, IdentityEncoder):
        return Features(encoder.num_features)
    raise ConfigError(
        f"the encoder {type(encoder).__name__} is not built in and cannot be exported; "
        "coordfit.FourierEncoding, with frequencies of your own, can"
    )


def stored(array: Host) -> Host:
    """Return an array in float16 if that loses nothing, as in tiles that were read from a file."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half, array) else array


def axis_tables(axis: Axis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the starts (n,) of tiles along an axis and the border (n,) behind each, in pixels.

    The last border is too far for any point, so that a second tile there has no weight.
    """
    return axis.starts.astype(np.float64), np.append(axis.borders, _FAR)
