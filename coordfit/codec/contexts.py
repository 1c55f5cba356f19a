"""Laws of latents from latents that are decoded already, by a small network in exact integers.

A latent sees twelve neighbours before it in its own level and channel, and the nine around its place in the
next coarser level, and is told its level and channel. A latent at row y and column x belongs to step
`x + 3 y`, so that its neighbours belong to steps before. A step of all channels is decoded at once.

All numbers of the network are integers below 2^31, so that float64 products of NumPy's BLAS hold them
exactly, in any order and with any number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .law_tables import Integers
from .laws import FRACTIONS, SCALES, put_values, radii, take_escapes, take_values
from .rans import Decoder, Encoder
from .rans_loops import LevelLoop

NEIGHBOURS = (
    (0, -1), (0, -2), (0, -3), (-1, -2), (-1, -1), (-1, 0),
    (-1, 1), (-1, 2), (-2, -1), (-2, 0), (-2, 1), (-3, 0),
)  # fmt: skip
COARSER = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
INPUTS = len(NEIGHBOURS) + len(COARSER) + 2
SKEW = 3  # steps from a latent to the one below it
MOST_INPUT = 255  # neighbours are clipped to this
MOST_UNITS = 32
MOST_WEIGHT = 1023
MOST_BIAS = 1 << 28
MOST_ACTIVATION = (1 << 15) - 1
MOST_SHIFT = 24
_ABOVE, _LEFT = 3, 3  # the reach of NEIGHBOURS
_BLOCK = 512  # rows of a product: BLAS would wake its threads for more, which costs more than they bring
_ROWS = 8192  # latents whose contexts an encoder gathers at a time

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """`y = (x W + b + 2^(shift - 1)) >> shift` in integers; W (n_in, n_out), b (n_out,)."""

    weights: Integers
    biases: Integers
    shift: int

    def __post_init__(self) -> None:
        inputs, outputs = self.weights.shape
        if not (1 <= inputs <= MOST_UNITS and 1 <= outputs <= MOST_UNITS and self.biases.shape == (outputs,)):
            raise ValueError(f"a layer has 1 to {MOST_UNITS} inputs and outputs, and a bias for each output")
        if abs(self.weights).max() > MOST_WEIGHT or abs(self.biases).max() > MOST_BIAS:
            raise ValueError(f"a weight is beyond {MOST_WEIGHT} or a bias beyond 2^28")
        if not 1 <= self.shift <= MOST_SHIFT:
            raise ValueError(f"a layer's shift is 1 to {MOST_SHIFT}")

    def exact(self) -> tuple[Floats, Floats, float]:
        """Return W, `b + 2^(shift - 1)` and `2^-shift` in float64."""
        biases = self.biases + (1 << self.shift - 1)
        return self.weights.astype(np.float64), biases.astype(np.float64), 2.0**-self.shift


class ContextNetwork:
    """Layers with `max(0, min(y, 32767))` between them, from contexts to means and scales."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        shapes = [layer.weights.shape for layer in layers]
        if not shapes or shapes[0][0] != INPUTS or shapes[-1][1] != 2:
            raise ValueError(f"a context network has {INPUTS} inputs and 2 outputs")
        if any(a[1] != b[0] for a, b in itertools.pairwise(shapes)):
            raise ValueError("a layer of the context network does not fit the layer before")
        self.layers = tuple(layers)
        self._exact = [layer.exact() for layer in layers]

    def integers(self) -> tuple[Integers, Integers, Integers, Integers]:
        """Return weights (layers, 32, 32) and `b + 2^(shift - 1)` (layers, 32), shifts, and units."""
        weights = np.zeros((len(self.layers), MOST_UNITS, MOST_UNITS), np.int32)
        biases = np.zeros(weights.shape[:2], np.int32)
        units = [INPUTS, *(layer.biases.size for layer in self.layers)]
        for w, b, layer in zip(weights, biases, self.layers, strict=True):
            inputs, outputs = layer.weights.shape
            w[:inputs, :outputs] = layer.weights
            b[:outputs] = layer.biases + (1 << layer.shift - 1)
        shifts = np.array([layer.shift for layer in self.layers])
        return weights, biases, shifts, np.array(units)

    def laws(self, contexts: Floats) -> tuple[Integers, Integers]:
        """Return means in sixteenths and scales (n,) of contexts (n, INPUTS) that hold integers."""
        outputs = np.empty((contexts.shape[0], 2), np.int64)
        for i in range(0, outputs.shape[0], _BLOCK):
            outputs[i : i + _BLOCK] = self._evaluate(contexts[i : i + _BLOCK])
        means, scales = outputs.T
        return np.maximum(means, -MOST_ACTIVATION), _clipped(scales, 0, SCALES - 1)

    def _evaluate(self, y: Floats) -> Floats:
        """Return the outputs (n, 2), clipped from above alone."""
        for i, (weights, biases, factor) in enumerate(self._exact):
            y = (np.maximum(y, 0.0, out=y) if i else y) @ weights
            y += biases
            y *= factor
            np.floor(y, out=y)
            np.minimum(y, MOST_ACTIVATION, out=y)
        return y


def quantise(
    weights: Sequence[Floats], biases: Sequence[Floats], bits: int = 9, fraction: int = 6
) -> ContextNetwork:
    """Return the integer network that is nearest to a float one.

    Parameters
    ----------
    weights, biases
        Of each layer, (n_in, n_out) and (n_out,); ReLU between layers. The outputs are the mean in units of
        latents, and the natural logarithm of the Laplace law's b.
    bits
        Of a weight, with its sign: up to 11. Fewer bits make a smaller file.
    fraction
        Fractional bits of the hidden activations, which go to `2^(15 - fraction)`.
    """
    scale = np.array([FRACTIONS, 4 / np.log(2)])
    weights = [*weights[:-1], weights[-1] * scale]
    biases = [*biases[:-1], biases[-1] * scale + np.array([0, 16])]
    layers = []
    at = 0  # fractional bits of the layer's inputs
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        after = fraction if i + 1 < len(weights) else 0
        most = ((1 << bits - 1) - 1) / max(float(abs(w).max()), 1e-9)
        exponent = int(np.floor(np.log2(most)))  # fractional bits of the weights
        exponent = min(max(exponent, after - at + 1), after - at + MOST_SHIFT)
        integer = np.clip(np.rint(np.ldexp(w, exponent)), -MOST_WEIGHT, MOST_WEIGHT).astype(np.int64)
        bias = np.clip(np.rint(np.ldexp(b, exponent)) * 2.0**at, -MOST_BIAS, MOST_BIAS).astype(np.int64)
        layers.append(Layer(integer, bias, at + exponent - after))
        at = after
    return ContextNetwork(layers)


def weights_of(network: ContextNetwork, fraction: int = 6) -> list[Floats]:
    """Return W (n_out, n_in + 1) of each layer of the float network that `quantise` made this one of."""
    found = []
    at = 0
    for i, layer in enumerate(network.layers):
        after = fraction if i + 1 < len(network.layers) else 0
        exponent = layer.shift - at + after
        weights = np.ldexp(layer.weights.astype(np.float64), -exponent)
        found.append(np.column_stack([weights.T, np.ldexp(layer.biases.astype(np.float64), -exponent - at)]))
        at = after
    found[-1] = (found[-1] - np.outer([0, 16], np.eye(found[-1].shape[1])[-1])) / [[FRACTIONS], [4 / np.log(2)]]
    return found


@dataclass(frozen=True)
class Level:
    """A level of the pyramid: its place in it, 0 for the finest, and its shape."""

    index: int
    shape: tuple[int, int, int]  # channels, height, width


class Scan:
    """The latents of a level in their order of decoding, and the values that they see.

    `canvas` holds the level with a border of zeros, and after it the coarser level with one. `order` has the
    latents' places in the level, by step, then by place; `ends` the number of latents up to each step.
    """

    def __init__(self, level: Level, coarser: Integers) -> None:
        channels, height, width = level.shape
        stride = width + _LEFT  # a row's border on the right is that of the next on the left
        c, y, x = (axis.astype(np.int32) for axis in np.ogrid[:channels, :height, :width])
        step = np.broadcast_to(x + SKEW * y, level.shape).ravel()
        self.order = _order(step)
        self.ends = np.cumsum(np.bincount(step))
        above = _padded(coarser, channels, -(-height // 2), -(-width // 2))
        own = channels * (height + _ABOVE) * stride
        self.canvas = np.concatenate([np.zeros(own), above.ravel()])
        place = (c * (height + _ABOVE) + y + _ABOVE) * stride + x + _LEFT
        place_above = own + (c * above.shape[1] + y // 2 + 1) * above.shape[2] + x // 2 + 1
        self._place = place.ravel()[self.order]
        self._place_above = place_above.ravel()[self.order]
        self._channel = np.broadcast_to(c, level.shape).astype(np.uint8).ravel()[self.order]
        self._level = level.index
        self._offsets = np.array([dy * stride + dx for dy, dx in NEIGHBOURS])
        self._offsets_above = np.array([dy * above.shape[2] + dx for dy, dx in COARSER])

    def contexts(self, part: slice) -> Floats:
        """Return the contexts (n, INPUTS) of a part of the order."""
        near, place = len(NEIGHBOURS), self._place[part]
        index = np.empty((place.size, INPUTS - 2), np.int64)
        np.add(place[:, None], self._offsets, out=index[:, :near])
        np.add(self._place_above[part, None], self._offsets_above, out=index[:, near:])
        contexts = np.empty((place.size, INPUTS))
        contexts[:, :-2] = self.canvas.take(index)
        contexts[:, -2] = self._level
        contexts[:, -1] = self._channel[part]
        return contexts

    def show(self, part: slice, values: Integers) -> None:
        """Put the values of a part of the order on the canvas, for all contexts after it."""
        self.canvas[self._place[part]] = _clipped(values, -MOST_INPUT, MOST_INPUT)

    def arrays(self) -> tuple[Any, ...]:
        """Return what `LevelLoop` reads of a scan."""
        ends = np.array([0, *np.unique(self.ends)])
        places = self._place, self._place_above, self._channel
        return self.canvas, *places, self._offsets, self._offsets_above, self._level, ends

    def steps(self) -> Iterator[slice]:
        """Yield the parts of the order that are decoded together; a narrow level has steps without latents."""
        for begin, end in itertools.pairwise([0, *np.unique(self.ends).tolist()]):
            yield slice(begin, end)


def _order(step: Integers) -> NDArray[np.int32]:
    """Return a stable order by step; NumPy sorts 16 bits by radix."""
    narrow = step.astype(np.uint16) if step.max() < 1 << 16 else step
    return np.argsort(narrow, kind="stable").astype(np.int32)


def _clipped(values: Integers, low: int, high: int) -> Integers:
    """Return values from low to high; `np.clip` takes ten times as long for few."""
    clipped: Integers = np.minimum(np.maximum(values, low), high)
    return clipped


def _padded(coarser: Integers, channels: int, height: int, width: int) -> Floats:
    """Return the coarser level clipped, with a border of one, and zeros for channels that it lacks."""
    padded = np.zeros((channels, height + 2, width + 2))
    shared = min(channels, coarser.shape[0])
    padded[:shared, 1:-1, 1:-1] = _clipped(coarser[:shared], -MOST_INPUT, MOST_INPUT)
    return padded


def put_level(
    encoder: Encoder, network: ContextNetwork, level: Level, values: Integers, coarser: Integers
) -> None:
    """Add the latents of a level (C, H, W), after those of the coarser level (C', ceil(H/2), ceil(W/2))."""
    if not np.size(values):
        return
    scan = Scan(level, coarser)
    ordered = np.asarray(values).ravel()[scan.order]
    scan.show(slice(None), ordered)
    means, scales = np.empty(ordered.size, np.int32), np.empty(ordered.size, np.uint8)
    for i in range(0, ordered.size, _ROWS):
        some = slice(i, i + _ROWS)
        means[some], scales[some] = network.laws(scan.contexts(some))
    for part in scan.steps():
        put_values(encoder, *(array[part].astype(np.int64) for array in (ordered, means, scales)))


def take_level(decoder: Decoder, network: ContextNetwork, level: Level, coarser: Integers) -> Integers:
    """Return the latents of a level (C, H, W) as `put_level` adds them."""
    values = np.zeros(level.shape, np.int32)
    if not values.size:
        return values
    scan = Scan(level, coarser)
    take = _take_steps_compiled if decoder.compiled else _take_steps
    values.reshape(-1)[scan.order] = take(decoder, network, scan)
    return values


def _take_steps(decoder: Decoder, network: ContextNetwork, scan: Scan) -> NDArray[np.int32]:
    """Return the latents of a level in the order of decoding."""
    values = np.empty(scan.order.size, np.int32)
    for part in scan.steps():
        means, scales = network.laws(scan.contexts(part))
        values[part] = taken = take_values(decoder, means, scales)
        scan.show(part, taken)
    return values


def _take_steps_compiled(decoder: Decoder, network: ContextNetwork, scan: Scan) -> NDArray[np.int32]:
    """Return the same; the loop stops after a step with escapes, which are taken here."""
    parts = [*scan.steps()]
    values = np.empty(scan.order.size, np.int32)
    group = np.empty((3, max(part.stop - part.start for part in parts)), np.int64)
    laws = radii(), MOST_INPUT, MOST_ACTIVATION, SCALES - 1, FRACTIONS
    loop = LevelLoop(scan.arrays(), network.integers(), laws, group, values)
    step = 0
    while step < len(parts):
        step = decoder.run(loop, step)
        part = parts[step - 1]
        base, scales, offset = group[:, : part.stop - part.start]
        take_escapes(decoder, offset, scales)
        values[part] = taken = base + offset
        scan.show(part, taken)
    return values
