"""Context networks and latents for the tests of the codec."""

import itertools

import numpy as np

from coordfit.codec import Compressed, ContextNetwork, ScaledArray, quantise
from coordfit.codec.contexts import INPUTS, NEIGHBOURS
from coordfit.codec.upsampling import Block

LEFT_AND_ABOVE = [NEIGHBOURS.index((0, -1)), NEIGHBOURS.index((-1, 0))]


def float_network(seed=0, units=(14, 14), spread=0.5):
    """Weights and biases of a network that takes 0.8 of the mean of two neighbours, and some noise of all."""
    rng = np.random.default_rng(seed)
    sizes = [INPUTS, *units, 2]
    weights = [rng.normal(size=pair) * spread / np.sqrt(pair[0]) for pair in itertools.pairwise(sizes)]
    for w in weights[:-1]:
        w[:, :2] = 0
    weights[0][LEFT_AND_ABOVE, :2] = [[0.4, -0.4]] * 2
    for w in weights[1:-1]:
        w[:2, :2] = np.eye(2)
    weights[-1][:2, 0] = [1, -1]
    return weights, [rng.normal(size=n) * spread for n in sizes[1:]]


def network(seed=0, **options) -> ContextNetwork:
    return quantise(*float_network(seed, **options))


def latents_of(height, width, channels, spread=2.0, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(c, -(-height // 2**i), -(-width // 2**i)) for i, c in enumerate(channels)]
    return [np.rint(rng.laplace(0, spread, shape)).astype(np.int64) for shape in shapes]


def picture(height=9, width=13, channels=(1, 3, 0, 3), spread=2.0, seed=0, units=(14, 14)):
    numbers = np.random.default_rng(seed).integers(-90, 90, (7, 5)), np.array(70000), np.zeros(3, int)
    arrays = [ScaledArray(values, exponent) for values, exponent in zip(numbers, (-6, 0, 9), strict=True)]
    latents, steps = latents_of(height, width, channels, spread, seed), [0.5**i for i in range(len(channels))]
    return Compressed(height, width, latents, steps, network(seed, units=units), arrays)


def same(a: Compressed, b: Compressed) -> bool:
    """Whether two pictures hold the same."""
    return (
        (a.height, a.width, a.bit_depth, [*a.steps]) == (b.height, b.width, b.bit_depth, [*b.steps])
        and len(a.latents) == len(b.latents)
        and all(map(np.array_equal, a.latents, b.latents))
        and all(map(same_layer, a.network.layers, b.network.layers))
        and all(x.exponent == y.exponent for x, y in zip(a.synthesis, b.synthesis, strict=True))
        and all(np.array_equal(x.values, y.values) for x, y in zip(a.synthesis, b.synthesis, strict=True))
    )


def same_layer(a, b):
    return np.array_equal(a.weights, b.weights) and np.array_equal(a.biases, b.biases) and a.shift == b.shift


def whole_matrix(length, scale, full=None):
    """The weights of all cells for all outputs, (length or full, cells)."""
    full = full or length
    block = Block.of(length, scale, slice(0, full), drawn=(full, 0))
    matrix = np.zeros((full, -(-length // scale)))
    matrix[:, block.cells] = block.weights
    return matrix
