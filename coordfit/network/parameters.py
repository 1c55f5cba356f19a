"""One flat buffer for all parameters of a network and its encoder (or of K), and shaped views into it.

Gradients and optimizer state have the same layout, so an optimizer works on a vector. The buffer has shape
(*E, P), with a row for each member. Each array starts at a multiple of 64 elements (256 bytes in float32), as
GPU products require; the gaps stay zero, since their gradients are zero.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Array
from ..encoders.base import Shapes

_ALIGNMENT = 64


@dataclass(frozen=True)
class ParameterLayout:
    """The places of each layer's W and b, and then of the encoder's arrays, in a flat buffer."""

    layer_sizes: tuple[int, ...]
    """Widths from input to output, e.g. (512, 256, 256, 3) for two hidden layers."""
    encoder_shapes: Shapes
    """Shapes of the encoder's parameters by name: `Encoding.parameter_shapes`."""
    size: int = field(init=False)
    """P, the length of the flat buffer with gaps."""
    _starts: tuple[int, ...] = field(init=False, repr=False)
    _shapes: tuple[tuple[int, ...], ...] = field(init=False, repr=False)

    def __init__(self, layer_sizes: Sequence[int], encoder_shapes: Shapes | None = None) -> None:
        shapes: list[tuple[int, ...]] = []
        for n_in, n_out in itertools.pairwise(layer_sizes):
            shapes += [(n_in, n_out), (1, n_out)]
        shapes += (encoder_shapes or {}).values()
        ends = [*itertools.accumulate(_aligned(math.prod(shape)) for shape in shapes)]
        fields = (tuple(layer_sizes), dict(encoder_shapes or {}), ends[-1], (0, *ends[:-1]), tuple(shapes))
        for spec, value in zip(dataclasses.fields(self), fields, strict=True):
            object.__setattr__(self, spec.name, value)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of one network and its encoder, without gaps."""
        return sum(map(math.prod, self._shapes))

    def arrays(self, xp: Any, flat: Array) -> list[Array]:
        """Return views of all arrays in a (*E, P) buffer: W and b layer by layer, then the encoder's."""
        ensemble = flat.shape[:-1]
        return [
            xp.reshape(flat[..., start : start + math.prod(shape)], (*ensemble, *shape))
            for start, shape in zip(self._starts, self._shapes, strict=True)
        ]

    def views(self, xp: Any, flat: Array) -> Iterator[tuple[Array, Array]]:
        """Yield views (W, b) of each layer in a (*E, P) buffer, shapes (*E, n_in, n_out) and (*E, 1, n_out)."""
        arrays = self.arrays(xp, flat)[: self._num_layer_arrays]
        yield from zip(arrays[::2], arrays[1::2], strict=True)

    def encoder_views(self, xp: Any, flat: Array) -> dict[str, Array]:
        """Return views (*E, ...) of the encoder's arrays in a (*E, P) buffer, by name."""
        arrays = self.arrays(xp, flat)[self._num_layer_arrays :]
        return dict(zip(self.encoder_shapes, arrays, strict=True))

    @property
    def _num_layer_arrays(self) -> int:
        return 2 * (len(self.layer_sizes) - 1)

    def weight_range(self, layer: int) -> tuple[int, int]:
        """Return the start and the end of a layer's W in the flat buffer."""
        start = self._starts[2 * layer]
        return start, start + math.prod(self._shapes[2 * layer])

    def with_encoder(self, network: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the host vector (P,) of a network's parameters and the encoder's arrays by name."""
        flat = np.zeros(self.size, network.dtype)
        flat[: network.size] = network
        for name, view in self.encoder_views(np, flat).items():
            view[...] = arrays[name]
        return flat

    def to_tensors(self, flat: NDArray[Any], prefix: str = "") -> dict[str, NDArray[Any]]:
        """Return the arrays of a host vector (P,) by name.

        They are `layers.0.weight` (n_in, n_out), `layers.0.bias` (n_out,) and so on, then `encoding.NAME`.
        """
        tensors = {}
        for i, (W, b) in enumerate(self.views(np, flat)):
            tensors[f"{prefix}layers.{i}.weight"], tensors[f"{prefix}layers.{i}.bias"] = W, b[0]
        for name, array in self.encoder_views(np, flat).items():
            tensors[f"{prefix}encoding.{name}"] = array
        return tensors

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]], dtype: str, prefix: str = "") -> NDArray[Any]:
        """Return the host vector (P,) of arrays by name; KeyError or ValueError if names or shapes differ."""
        flat = np.zeros(self.size, dtype)
        for name, view in self.to_tensors(flat, prefix).items():
            if tensors[name].shape != view.shape or tensors[name].dtype != view.dtype:
                found, wanted = tensors[name], view
                raise ValueError(f"{name} is {found.dtype} {found.shape}, not {wanted.dtype} {wanted.shape}")
            view[...] = tensors[name]
        return flat


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
