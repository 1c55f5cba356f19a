"""A second decoder of compressed pictures, from `docs/reference/codec_format.md` alone: plain integers."""

import bisect
import functools
import math
import struct
import zlib
from itertools import product

NEIGHBOURS = [(0, -1), (0, -2), (0, -3), (-1, -2), (-1, -1), (-1, 0)]
NEIGHBOURS += [(-1, 1), (-1, 2), (-2, -1), (-2, 0), (-2, 1), (-3, 0)]


@functools.cache
def decay(k):
    """E(0), E(1) ... E(2048) of scale k: powers of `exp(-2^(-k/4))` in 32 bits, rounded down."""
    rate = math.isqrt(math.isqrt(1 << (800 - k)))  # 2^(200 - k/4)
    total, term, n = 0, 1 << 200, 0
    while term:
        total += -term if n % 2 else term
        n += 1
        term = term * rate // (n << 200)
    powers = [1 << 32]
    for _ in range(2048):
        powers.append(powers[-1] * ((total + (1 << 167)) >> 168) >> 32)
    return powers


@functools.cache
def radius(k):
    return next((r for r in range(1, 127) if decay(k)[16 * r] < 1 << 18), 127)


@functools.cache
def law(k, fraction):
    """Bounds of the slots of the values -R ... R and of the escape."""
    r = radius(k)

    def twice_below(value):
        edge = 16 * value - fraction
        return decay(k)[-edge] if edge < 0 else (1 << 33) - decay(k)[edge]

    symbols = 2 * r + 2
    shares = [(twice_below(v) - twice_below(-r)) * (32768 - symbols) >> 33 for v in range(-r, r + 2)]
    return [i + share for i, share in enumerate(shares)] + [32768]


class Stream:
    """The symbols of the stream, group by group."""

    def __init__(self, data, lanes):
        self.states = list(struct.unpack_from(f"<{lanes}I", data))
        self.words = list(reversed(struct.unpack(f"<{(len(data) - 4 * lanes) // 2}H", data[4 * lanes :])))

    def group(self, laws):
        symbols = []
        for i, bounds in enumerate(laws):
            lane = i % len(self.states)
            high, slot = divmod(self.states[lane], 32768)
            s = bisect.bisect_right(bounds, slot) - 1
            x = (bounds[s + 1] - bounds[s]) * high + slot - bounds[s]
            self.states[lane] = x if x >= 65536 else 65536 * x + self.words.pop()
            symbols.append(s)
        return symbols

    def bits(self, n):
        return self.group([[0, 16384, 32768]] * n)

    def values(self, means, scales):
        bases = [(m + 8) // 16 for m in means]
        symbols = self.group([law(k, (m + 8) % 16) for m, k in zip(means, scales, strict=True)])
        offsets = [s - radius(k) for s, k in zip(symbols, scales, strict=True)]
        escaped = [i for i, k in enumerate(scales) if offsets[i] == radius(k) + 1]
        signs = self.bits(len(escaped))
        for i, sign, size in zip(
            escaped, signs, self.golomb([max(0, scales[i] // 4 - 4) for i in escaped]), strict=True
        ):
            offsets[i] = (radius(scales[i]) + 1 + size) * (-1 if sign else 1)
        return [base + offset for base, offset in zip(bases, offsets, strict=True)]

    def golomb(self, orders):
        widths, waiting = list(orders), list(range(len(orders)))
        while waiting:
            waiting = [i for i, bit in zip(waiting, self.bits(len(waiting)), strict=True) if bit]
            for i in waiting:
                widths[i] += 1
        numbers = [1] * len(orders)
        for place in reversed(range(max(widths, default=0))):
            more = [i for i in range(len(orders)) if widths[i] > place]
            for i, bit in zip(more, self.bits(len(more)), strict=True):
                numbers[i] = 2 * numbers[i] + bit
        return [n - (1 << order) for n, order in zip(numbers, orders, strict=True)]

    def tensor(self, size, scale):
        return self.values([0] * size, [scale] * size)


def run(layers, inputs):
    """Mean in sixteenths and scale of one latent."""
    for n, (weights, biases, shift) in enumerate(layers):
        outputs = len(biases)
        sums = [
            b + sum(x * w for x, w in zip(inputs, weights[j::outputs], strict=True))
            for j, b in enumerate(biases)
        ]
        inputs = [min((s + (1 << (shift - 1))) >> shift, 32767) for s in sums]
        if n + 1 < len(layers):
            inputs = [max(0, x) for x in inputs]
    return max(inputs[0], -32767), min(max(inputs[1], 0), 39)


def take_level(stream, layers, index, channels, height, width, coarser):
    """The latents of a level as a dictionary from (channel, row, column)."""

    def clipped(latents, place):
        return max(-255, min(255, latents.get(place, 0)))

    done = {}
    for step in range(width + 3 * (height - 1)):
        rows = [y for y in range(height) if 0 <= step - 3 * y < width]
        group = [(c, y, step - 3 * y) for c in range(channels) for y in rows]
        laws = []
        for c, y, x in group:
            seen = [clipped(done, (c, y + dy, x + dx)) for dy, dx in NEIGHBOURS]
            seen += [clipped(coarser, (c, y // 2 + i, x // 2 + j)) for i, j in product((-1, 0, 1), repeat=2)]
            laws.append(run(layers, [*seen, index, c]))
        if group:
            done |= zip(group, stream.values(*zip(*laws, strict=True)), strict=True)
    return done


def decode(data):
    """Height, width, bit depth, steps, latents by level (dictionaries), arrays: (shape, exponent, values)."""
    at = 0

    def take(layout):
        nonlocal at
        fields = struct.unpack_from("<" + layout, data, at)
        at += struct.calcsize("<" + layout)
        return fields

    magic, version, flags, length = take("4sBBI")
    assert (magic, version, length) == (b"\x93CFC", 1, len(data))
    depth = (8, 16)[flags]
    height, width, count = take("HHB")
    levels = [take("Bf") for _ in range(count)]
    heads = [take("BBBBB") for _ in range(*take("B"))]
    arrays = []
    for _ in range(*take("B")):
        shape = take(f"{take('B')[0]}H")
        arrays.append((shape, *take("Bb")))
    assert zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0]

    sizes = [(-(-height // 2**i), -(-width // 2**i)) for i in range(count)]
    latents = sum(c * h * w for (c, _), (h, w) in zip(levels, sizes, strict=True))
    lanes = 1
    while lanes < 1024 and latents >= 8192 * 2 * lanes:
        lanes *= 2
    stream = Stream(data[at:-4], lanes)
    layers, inputs = [], 23
    for outputs, shift, weight_scale, bias_scale, exponent in heads:
        weights = stream.tensor(inputs * outputs, weight_scale)
        layers.append((weights, [b << exponent for b in stream.tensor(outputs, bias_scale)], shift))
        inputs = outputs
    found = [{}]
    for i in reversed(range(count)):
        found.append(take_level(stream, layers, i, levels[i][0], *sizes[i], found[-1]))
    numbers = [(shape, exponent, stream.tensor(math.prod(shape), scale)) for shape, scale, exponent in arrays]
    assert not stream.words
    assert set(stream.states) == {65536}
    return height, width, depth, [step for _, step in levels], found[:0:-1], numbers
