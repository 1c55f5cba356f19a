"""Turn a model into a fragment shader and the numbers that it reads from a texture.

The text of the shader is `viewer/function.glsl`, the same for all models; the constants in front of it are the
model's own. The numbers are texels of four: frequencies, or the nodes of levels; the tables of tiles; and layer
by layer, for each four outputs, their biases and the weights of each input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from ..tiles.layout import Axis
from .arrays import Host, ModelArrays, axis_tables, stored
from .program_text import formula

_ACROSS_BITS = 11
_ACROSS = 2**_ACROSS_BITS  # texels in a row; every WebGL 2 has at least as many

_ACTIVATIONS = {
    "relu": "max(z, 0.0)",
    # Sines are precise between -pi and pi alone.
    "sine": "sin(6.283185307179586 * fract({omega} * z / 6.283185307179586 + 0.5) - 3.141592653589793)",
    "tanh": "tanh(clamp(z, -15.0, 15.0))",  # some drivers make it of powers that overflow
    "sigmoid": "0.5 + 0.5 * tanh(clamp(0.5 * z, -15.0, 15.0))",
    "identity": "z",
}


@dataclass(frozen=True)
class Shader:
    """A fragment shader, and what the page's script gives it.

    Attributes
    ----------
    texels : list of arrays (n, 4), float32 or float16
        One behind the other.
    across, down : int
        Of the texture that holds them.
    frequencies : list of four pairs (x, y) each
        Of one network: the script computes their phases at the first sample of a block.
    nodes : list of (start, step), in pixels
        Of each level.
    """

    text: str
    texels: list[Host]
    across: int
    down: int
    frequencies: list[Any]
    nodes: list[tuple[float, float]]


def make_shader(arrays: ModelArrays) -> Shader:
    """Return the shader of a model; ConfigError if an activation is not built in."""
    arrays.check_built_in("an .html page")
    texels = _Texels()
    constants = [*_features(arrays, texels), *_tiles(arrays, texels), *_networks(arrays, texels)]
    glsl = resources.files(__package__).joinpath("viewer", "function.glsl").read_text(encoding="utf-8")
    precision = [f"precision highp {kind};" for kind in ("float", "int", "sampler2D")]
    B, layout = arrays.features.B, arrays.layout
    levels = [level for level, _ in arrays.features.levels]
    texture = [_integer("ACROSS", _ACROSS), _integer("ACROSS_BITS", _ACROSS_BITS)]
    return Shader(
        "\n".join(["#version 300 es", *precision, *texture, *constants, "", glsl]),
        texels.parts,
        _ACROSS,
        math.ceil(texels.count / _ACROSS),
        _padded(B, (-len(B) % 4, 0)).reshape(-1, 4, 2).tolist() if B is not None and layout is None else [],
        [(level.start * arrays.longer, level.step * arrays.longer) for level in levels],
    )


class _Texels:
    """Texels, one behind the other."""

    def __init__(self) -> None:
        self.parts: list[Host] = []
        self.count = 0

    def add(self, numbers: Host) -> int:
        """Add an array (..., 4), and return the number of its first texel."""
        first = self.count
        self.parts.append(stored(numbers.reshape(-1, 4).astype(np.float32)))
        self.count += len(self.parts[-1])
        return first


def _features(arrays: ModelArrays, texels: _Texels) -> Iterator[str]:
    """Add frequencies or levels, and yield the constants that tell where they are."""
    features = arrays.features
    yield f"#define {'TILED' if arrays.layout else 'ONE'}"
    if features.B is not None:
        yield "#define FOURIER"
        groups = _padded(features.B, (-len(features.B) % 4, 0)).reshape(-1, 4, features.B.shape[1])
        yield _integer("FREQUENCIES", len(groups))
        texels.add(groups.transpose(0, 2, 1))
    elif features.levels:
        assert features.kernel is not None
        yield _integer("LEVELS", len(features.levels))
        yield _integer("TAPS", features.kernel.taps)
        places, distances = [], []
        for level, values in features.levels:
            padded = _padded(values, (0, 0, -level.features % 4))
            places.append((texels.add(padded), *level.counts, padded.shape[-1] // 4))
            distances.append(level.step * arrays.longer)
        powers = _padded(features.kernel.polynomials(), (0, 4 - features.kernel.taps))
        yield _list("KERNEL", "vec4", [_vector("vec4", row) for row in powers.tolist()])
        yield _list("LEVEL", "ivec4", [_vector("ivec4", place) for place in places])
        yield _list("NODE", "float", [repr(distance) for distance in distances])
    else:
        yield "#define IDENTITY"


def _tiles(arrays: ModelArrays, texels: _Texels) -> Iterator[str]:
    """Add the tables of tiles, and yield the constants of the picture and of the tiles."""
    own, layout = arrays.signal, arrays.layout
    for name, number in (("WIDTH", own.width), ("HEIGHT", own.height), ("CHANNELS", own.channels)):
        yield _integer(name, number)
    yield f"#define LONGER {float(arrays.longer)!r}"
    if layout is not None:
        yield _integer("COLUMNS_AT", texels.add(_table(layout.axes[1])))
        yield _integer("ROWS_AT", texels.add(_table(layout.axes[0])))
        yield _integer("COLUMNS", layout.counts[1])
        yield f"#define OVERLAP {float(layout.overlap)!r}"
        yield f"#define SIDE {float(layout.side)!r}"


def _table(axis: Axis) -> Host:
    """Return for each half of a pixel the starts of two tiles, their border, and the first one's number.

    Bands begin and end at halves of pixels, so that one entry is right for all of a half.
    """
    starts, borders = axis_tables(axis)
    first = np.searchsorted(borders + axis.overlap / 2, np.arange(2 * axis.length) / 2, side="right")
    second = np.minimum(first + 1, len(axis) - 1)
    return np.stack([starts[first], starts[second], borders[first], first], axis=-1)


def _networks(arrays: ModelArrays, texels: _Texels) -> Iterator[str]:
    """Add the layers of all networks, and yield the constants of the layers."""
    groups: Sequence[int] = arrays.features.groups
    sizes, parts = [sum(-(-group // 4) for group in groups)], []
    for W, b in arrays.layers:
        parts.append(_layer(W, b, groups))
        groups = [W.shape[2]]
        sizes.append(-(-W.shape[2] // 4))
    networks = np.concatenate(parts, axis=1)  # (T, texels of a network, 4)
    yield _integer("STRIDE", networks.shape[1])
    yield _integer("NETWORKS_AT", texels.add(networks))
    yield _integer("LAYERS", len(arrays.layers))
    yield _integer("WIDEST", max(sizes))
    yield _list("SIZES", "int", [*map(str, sizes)])
    ends = {"activation": arrays.activations[0], "output_activation": arrays.activations[-1]}
    for name, activation in ends.items():
        yield f"vec4 {name}(vec4 z) {{ return {formula(activation, _ACTIVATIONS)}; }}"


def _layer(W: Host, b: Host, groups: Sequence[int]) -> Host:
    """Return a layer (T, n, 4): for each four outputs their biases, and the weights of each input.

    Each group of inputs is filled up to a multiple of four, and so are the outputs.
    """
    ends = np.cumsum(groups)[:-1]
    inputs = [_padded(part, (0, -part.shape[1] % 4, 0)) for part in np.split(W, ends, axis=1)]
    rows = np.concatenate([b[:, None], *inputs], axis=1)
    rows = _padded(rows, (0, 0, -rows.shape[2] % 4))
    return rows.reshape(*rows.shape[:2], -1, 4).swapaxes(1, 2).reshape(len(rows), -1, 4)


def _padded(array: Host, more: Sequence[int]) -> Host:
    """Return an array with more zeros at the end of each axis."""
    return np.pad(array, [(0, count) for count in more])


def _integer(name: str, value: int) -> str:
    return f"#define {name} {value}"


def _vector(kind: str, numbers: Sequence[float]) -> str:
    return f"{kind}({', '.join(map(repr, numbers))})"


def _list(name: str, kind: str, entries: Sequence[str]) -> str:
    return f"const {kind} {name}[{len(entries)}] = {kind}[]({', '.join(entries)});"
