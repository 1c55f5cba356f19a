"""The header of a compressed picture: what it holds, and the bounds on what a file may claim."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from .contexts import INPUTS, MOST_SHIFT, MOST_UNITS, Level
from .law_tables import DamagedError
from .laws import SCALES

MOST_SIDE = (1 << 16) - 1  # bounds the steps of a level, however few latents they have
_MOST_LEVELS = 16
_MOST_CHANNELS = 8
_MOST_LAYERS = 4
_MOST_ARRAYS = 64
_MOST_AXES = 4
_MOST_NUMBERS = 1 << 20  # of all arrays together
_LEAST_STEP, _MOST_STEP = 2.0**-126, 2.0**127


@dataclass(frozen=True)
class Tensor:
    """Integers in the stream under the law of one scale, each worth `2^exponent`."""

    shape: tuple[int, ...]
    scale: int
    exponent: int = 0


@dataclass(frozen=True)
class LayerHead:
    """A layer of the context network: weights (n_in, n_out), biases (n_out,) and its shift."""

    weights: Tensor
    biases: Tensor
    shift: int


@dataclass(frozen=True)
class Header:
    """What stands before the stream; levels come finest first."""

    height: int
    width: int
    channels: list[int]
    steps: list[float]
    layers: list[LayerHead]
    arrays: list[Tensor]

    def levels(self) -> list[Level]:
        """Return the levels, finest first."""
        sizes = [level_size(self.height, self.width, i) for i in range(len(self.channels))]
        shapes = [(c, *size) for c, size in zip(self.channels, sizes, strict=True)]
        return [Level(i, shape) for i, shape in enumerate(shapes)]

    @property
    def latents(self) -> int:
        """The number of latents of all levels."""
        return sum(math.prod(level.shape) for level in self.levels())


def level_size(height: int, width: int, level: int) -> tuple[int, int]:
    """Return the rows and columns of a level: the picture's over `2^level`, rounded up."""
    return -(-height >> level), -(-width >> level)


def pack(header: Header) -> bytes:
    """Return the bytes of a header; ValueError if it is beyond the format's bounds."""
    parts: list[tuple[object, ...]] = [("HHB", header.height, header.width, len(header.channels))]
    parts += [("Bf", c, step) for c, step in zip(header.channels, header.steps, strict=True)]
    parts.append(("B", len(header.layers)))
    for layer in header.layers:
        biases = layer.biases
        parts.append(("BBBBB", *biases.shape, layer.shift, layer.weights.scale, biases.scale, biases.exponent))
    parts.append(("B", len(header.arrays)))
    for array in header.arrays:
        parts.append((f"B{len(array.shape)}H", len(array.shape), *array.shape))
        parts.append(("Bb", array.scale, array.exponent))
    try:
        data = b"".join(struct.pack(f"<{layout}", *fields) for layout, *fields in parts)
        same = unpack(data, 0) == (header, len(data))
    except (struct.error, DamagedError, OverflowError) as error:
        raise ValueError(f"a compressed picture cannot be stored: it {error}") from error
    if not same:
        raise ValueError("a compressed picture cannot be stored: its layers do not fit the format")
    return data


class _Reader:
    """The fields of a header, little-endian, one after the other."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self.position = data, position

    def number(self, layout: str, what: str, low: float, high: float) -> float:
        """Return the next field, laid out as `struct` says; DamagedError if it is not low to high."""
        size = struct.calcsize(f"<{layout}")
        if self.position + size > len(self._data):
            raise DamagedError("ends inside its header; copy it again")
        (n,) = struct.unpack_from(f"<{layout}", self._data, self.position)
        if not low <= n <= high:
            raise DamagedError(f"has a {what} of {n}, but {low} to {high} is possible")
        self.position += size
        return n  # type: ignore[no-any-return]

    def byte(self, what: str, low: int, high: int) -> int:
        """Return the next byte; DamagedError if it is not low to high."""
        return int(self.number("B", what, low, high))


def unpack(data: bytes, position: int) -> tuple[Header, int]:
    """Return the header at a position, and the position after it; nothing is allocated by its claims."""
    read = _Reader(data, position)
    height, width = (int(read.number("H", side, 1, MOST_SIDE)) for side in ("height", "width"))
    channels, steps = [], []
    for _ in range(read.byte("number of levels", 1, _MOST_LEVELS)):
        channels.append(read.byte("number of channels", 0, _MOST_CHANNELS))
        steps.append(read.number("f", "step", _LEAST_STEP, _MOST_STEP))
    layers = _unpack_layers(read)
    arrays = [_unpack_array(read) for _ in range(read.byte("number of arrays", 0, _MOST_ARRAYS))]
    if sum(math.prod(array.shape) for array in arrays) > _MOST_NUMBERS:
        raise DamagedError(f"has arrays of more than {_MOST_NUMBERS} numbers")
    return Header(height, width, channels, steps, layers, arrays), read.position


def _unpack_layers(read: _Reader) -> list[LayerHead]:
    layers, inputs = [], INPUTS
    for left in reversed(range(read.byte("number of layers", 1, _MOST_LAYERS))):
        outputs = read.byte("number of units", 1 if left else 2, MOST_UNITS if left else 2)
        shift = read.byte("shift", 1, MOST_SHIFT)
        weights = Tensor((inputs, outputs), _unpack_scale(read))
        biases = Tensor((outputs,), _unpack_scale(read), read.byte("shift of biases", 0, MOST_SHIFT))
        layers.append(LayerHead(weights, biases, shift))
        inputs = outputs
    return layers


def _unpack_array(read: _Reader) -> Tensor:
    axes = read.byte("number of axes", 0, _MOST_AXES)
    shape = tuple(int(read.number("H", "side of an array", 1, 2**16 - 1)) for _ in range(axes))
    return Tensor(shape, _unpack_scale(read), int(read.number("b", "exponent", -128, 127)))


def _unpack_scale(read: _Reader) -> int:
    return read.byte("scale", 0, SCALES - 1)
