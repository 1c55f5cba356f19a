"""A trained pyramid as integers, with the bits of each weight that `MSE + lambda * bits per pixel` asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..container import Compressed, ScaledArray, encode
from ..contexts import ContextNetwork, quantise, weights_of
from ..synthesis import synthesis_arrays, synthesise
from .colours import Reference
from .training import PyramidTrainer

_CONTEXT_BITS, _DECODER_BITS = range(6, 10), range(7, 13)  # of a weight
_USUAL_BITS = 7, 8
_FRACTION = 3  # fractional bits of the context network's activations: 6 cost 1 % more


def quantised(trainer: PyramidTrainer, reference: Reference, bit_depth: int) -> Compressed:
    """Return the picture that a file holds."""
    y = trainer.integers()
    pixels = reference.num_pixels

    def context_cost(network: ContextNetwork) -> float:
        weights = [w.astype(np.float32) for w in weights_of(network, _FRACTION)]
        return trainer.rate.bits(y, weights) + 8 * len(encode(_bare(trainer, network)))

    def decoder_cost(synthesis: Sequence[ScaledArray]) -> float:
        picture = dataclasses.replace(whole, synthesis=synthesis)
        size = 8 * len(encode(_bare(trainer, network, synthesis)))
        return reference.squared_error(synthesise(picture)) + trainer.lmbda * size / pixels

    network = min((_network(trainer, bits) for bits in _CONTEXT_BITS), key=context_cost)
    latents = [level.astype(np.int32) for level in y]
    whole = dataclasses.replace(_bare(trainer, network), latents=latents, bit_depth=bit_depth)
    decoders = (_synthesis(trainer, bits) for bits in _DECODER_BITS)
    return dataclasses.replace(whole, synthesis=min(decoders, key=decoder_cost))


def network_bits(trainer: PyramidTrainer) -> int:
    """Return the bits of a file without latents, with as many bits for a weight as is usual."""
    return 8 * len(encode(_usual(trainer)))


def usually_quantised(trainer: PyramidTrainer, bit_depth: int) -> Compressed:
    """Return the picture as `quantised` does, but with as many bits for a weight as is usual: in no time."""
    latents = [np.rint(level).astype(np.int32) for level in trainer.latents]
    return dataclasses.replace(_usual(trainer), latents=latents, bit_depth=bit_depth)


def _usual(trainer: PyramidTrainer) -> Compressed:
    context, decoder = _USUAL_BITS
    return _bare(trainer, _network(trainer, context), _synthesis(trainer, decoder))


def _network(trainer: PyramidTrainer, bits: int) -> ContextNetwork:
    weights = [w.astype(np.float64) for w in trainer.rate.weights]
    return quantise([w[:, :-1].T for w in weights], [w[:, -1] for w in weights], bits, _FRACTION)


def _synthesis(trainer: PyramidTrainer, bits: int) -> list[ScaledArray]:
    return synthesis_arrays(trainer.decoder.weights, trainer.step_size, trainer.mean, bits)


def _bare(
    trainer: PyramidTrainer, network: ContextNetwork, synthesis: Sequence[ScaledArray] = ()
) -> Compressed:
    """Return a picture without latents."""
    latents = [np.zeros((0, *shape[1:]), np.int64) for shape in trainer.shapes]
    return Compressed(*trainer.size, latents, [trainer.step_size] * len(latents), network, synthesis)
