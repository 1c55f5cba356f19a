"""One flat buffer for all parameters of a network (or of K networks), and shaped views into it.

Gradients and optimizer state have the same layout, so an optimizer is written once, on a vector. The buffer
has shape (*E, P): member by member, so that a member is a row to rate, stop, drop and save. Each array starts
at a multiple of 64 elements (256 bytes in float32), which GPU products ask for; the gap between is never
anything but zero, since its gradient is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._backends import Array

_ALIGNMENT = 64


@dataclass(frozen=True)
class ParameterLayout:
    """Where each layer's W and b lie in a flat buffer.

    Parameters
    ----------
    layer_sizes : sequence of int
        Widths from input to output, e.g. (512, 256, 256, 3) for two hidden layers.
    """

    layer_sizes: tuple[int, ...]
    size: int = field(init=False)
    """P, the length of the flat buffer with its gaps."""
    _offsets: tuple[tuple[int, int], ...] = field(init=False, repr=False)

    def __init__(self, layer_sizes: Sequence[int]) -> None:
        offsets, end = [], 0
        for n_in, n_out in itertools.pairwise(layer_sizes):
            b_start = _aligned(end + n_in * n_out)
            offsets.append((end, b_start))
            end = _aligned(b_start + n_out)
        object.__setattr__(self, "layer_sizes", tuple(layer_sizes))
        object.__setattr__(self, "size", end)
        object.__setattr__(self, "_offsets", tuple(offsets))

    @property
    def num_parameters(self) -> int:
        """Trainable numbers of one network, without the gaps."""
        return sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(self.layer_sizes))

    def views(self, xp: Any, flat: Array) -> Iterator[tuple[Array, Array]]:
        """Views (W, b) of each layer, shapes (*E, n_in, n_out) and (*E, 1, n_out), of a (*E, P) buffer."""
        ensemble = flat.shape[:-1]
        for (w, b), (n_in, n_out) in zip(self._offsets, itertools.pairwise(self.layer_sizes), strict=True):
            W = xp.reshape(flat[..., w : w + n_in * n_out], (*ensemble, n_in, n_out))
            yield W, xp.reshape(flat[..., b : b + n_out], (*ensemble, 1, n_out))

    def weight_range(self, layer: int) -> tuple[int, int]:
        """Where a layer's W starts and ends in the flat buffer."""
        start, n_in, n_out = self._offsets[layer][0], *self.layer_sizes[layer : layer + 2]
        return start, start + n_in * n_out

    def to_tensors(self, flat: NDArray[Any], prefix: str = "") -> dict[str, NDArray[Any]]:
        """Arrays by name of a host vector (P,): `layers.0.weight` (n_in, n_out), `layers.0.bias` (n_out,)."""
        tensors = {}
        for i, (W, b) in enumerate(self.views(np, flat)):
            tensors[f"{prefix}layers.{i}.weight"], tensors[f"{prefix}layers.{i}.bias"] = W, b[0]
        return tensors

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]], dtype: str, prefix: str = "") -> NDArray[Any]:
        """The host vector (P,) of arrays by name; KeyError or ValueError where names or shapes differ."""
        flat = np.zeros(self.size, dtype)
        for name, view in self.to_tensors(flat, prefix).items():
            if tensors[name].shape != view.shape or tensors[name].dtype != view.dtype:
                found, wanted = tensors[name], view
                raise ValueError(f"{name} is {found.dtype} {found.shape}, not {wanted.dtype} {wanted.shape}")
            view[...] = tensors[name]
        return flat


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
