"""From pixels to the bytes of a compressed picture, and back."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._backends import get_backend
from ..errors import CompressedFileError
from ..images.metrics import psnr_from_mse
from .container import MOST_LATENTS, Compressed, ScaledArray, decode, encode
from .contexts import ContextNetwork, quantise, weights_of
from .law_tables import DamagedError
from .pyramid.training import PyramidSettings, PyramidTrainer
from .synthesis import synthesis_arrays, synthesise

_CONTEXT_BITS, _DECODER_BITS = range(6, 10), range(7, 13)  # of a weight
_GREY_CHANNELS = 1, 1, 1, 1, 1
_FRACTION = 3  # fractional bits of the context network's activations: 6 cost 1 % more
_FEEDBACK = 0.4  # of the expected distance from the target, at each twentieth of the steps
_BLIND = 0.4  # of the steps: where these end cannot be told
_FINISH = 35  # steps that take as long as all that is done after the last
_GUESSES = 3  # of the first lambda
_GAINED_PSNR, _KEPT_BITS = 6.9, 0.82  # what training makes of the start

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class CompressionProgress:
    """What a compression has reached, estimated before the weights are quantised."""

    step: int
    done: float
    seconds: float
    psnr: float
    bits_per_pixel: float
    lmbda: float


@dataclass(frozen=True)
class CompressionReport:
    """What a compressed picture came to; PSNR (peak 255) and bits per pixel are those of the bytes.

    Attributes
    ----------
    network_bits
        Bits of a file without latents, but with the same networks.
    """

    psnr: float
    bits_per_pixel: float
    network_bits: float
    lmbda: float
    steps: int
    seconds: float


Callback = Callable[[CompressionProgress], None]


@dataclass(frozen=True)
class Target:
    """What a compression is to reach: exactly one of the three; `lmbda` is the price of a bit, as MSE."""

    lmbda: float | None = None
    bits_per_pixel: float | None = None
    psnr: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.lmbda, self.bits_per_pixel, self.psnr) if v is not None]
        if len(given) != 1 or not (0 < given[0] < math.inf):
            raise ValueError("give exactly one of lmbda, bits_per_pixel and psnr, above 0")

    def first_lmbda(self) -> float:
        """Return a lambda to begin with: about the MSE that it leads to."""
        if self.lmbda is not None:
            return self.lmbda
        psnr = self.psnr if self.psnr is not None else 32 + 6 * float(self.bits_per_pixel or 0)
        return float(10 ** (-psnr / 10))

    def too_good(self, psnr: float, bits_per_pixel: float) -> float:
        """Return by how much the logarithm of lambda is too small, by experience; 0 for a given lambda."""
        if self.psnr is not None:
            return 1.5 * (psnr - self.psnr) * math.log(10) / 10
        if self.bits_per_pixel is not None:
            return 2.5 * math.log(bits_per_pixel / self.bits_per_pixel)
        return 0.0


class _Clock:
    """Tells what share of the steps or of the seconds is used."""

    def __init__(self, steps: int | None, seconds: float | None) -> None:
        if (steps is None) == (seconds is None):
            raise ValueError("give either steps or seconds")
        self._steps, self._seconds = steps, seconds
        self._start = time.monotonic()
        self.step = 0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def ticks(self) -> Iterator[float]:
        """Yield the share that is used before each step."""
        while (done := self._share()) < 1:
            yield done
            self.step += 1

    def _share(self) -> float:
        if self._seconds is None:
            return self.step / float(self._steps or 1)
        return self.elapsed * (1 + _FINISH / max(self.step, 1)) / self._seconds


def compress(
    pixels: Pixels,
    target: Target,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    settings: PyramidSettings | None = None,
    callback: Callback | None = None,
    compiled: bool = False,
) -> tuple[bytes, CompressionReport]:
    """Return the bytes of a picture (H, W), (H, W, 1) or (H, W, 3) of uint8, and what they came to.

    Either `steps` or `seconds` is given. `compiled` takes Numba's loops.
    """
    clock, colours = _Clock(steps, seconds), _planes(pixels)
    if settings is None:
        settings = PyramidSettings() if colours.shape[0] == 3 else PyramidSettings(channels=_GREY_CHANNELS)
    with get_backend("numpy", threads=1).activate():  # products are too small for more BLAS threads
        trainer = _trained(colours, target, settings, clock, seed, callback)
        picture = _quantised(trainer, colours)
        data = encode(picture, compiled)
        without = dataclasses.replace(picture, latents=[level[:0] for level in picture.latents])
        report = CompressionReport(
            psnr=psnr_from_mse(_squared_error(synthesise(picture), colours)),
            bits_per_pixel=8 * len(data) / colours[0].size,
            network_bits=8 * len(encode(without)),
            lmbda=trainer.lmbda,
            steps=clock.step,
            seconds=clock.elapsed,
        )
    return data, report


def _trained(
    colours: NDArray[np.float32],
    target: Target,
    settings: PyramidSettings,
    clock: _Clock,
    seed: int,
    callback: Callback | None,
) -> PyramidTrainer:
    """Return a trainer after all steps of the clock."""
    trainer = _first_trainer(colours, target, settings, seed)
    checks = iter(np.arange(0.05, 1.0, 0.05).tolist())
    check = next(checks)
    for done in clock.ticks():
        if done >= check:
            check = next(checks, 2.0)
            _look(trainer, target, clock, done, callback)
        trainer.step(done)
    return trainer


def decompress(
    data: bytes, name: str = "the compressed picture", most_latents: int = MOST_LATENTS, compiled: bool = False
) -> Pixels:
    """Return the pixels (H, W, C) of a compressed picture; CompressedFileError if it cannot be used.

    `most_latents` bounds the pixels too.
    """
    picture = decode(data, name, most_latents, compiled)
    try:
        if (count := picture.height * picture.width) > most_latents:
            raise DamagedError(f"has {count} pixels, more than the limit of {most_latents}")
        return synthesise(picture)
    except DamagedError as error:
        raise CompressedFileError(f"cannot load {name}: it {error}") from error


def _planes(pixels: Pixels) -> NDArray[np.float32]:
    """Return pixels as colours (C, H, W) in [0, 1]."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,)):
        raise ValueError("pixels must be uint8 of the shape (H, W), (H, W, 1) or (H, W, 3)")
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    return np.ascontiguousarray(planes, np.float32) / np.float32(255)


def _first_trainer(
    colours: NDArray[Any], target: Target, settings: PyramidSettings, seed: int
) -> PyramidTrainer:
    """Return a trainer whose lambda leads near the target, by what training makes of the start."""
    trainer = PyramidTrainer(colours, target.first_lmbda(), settings, seed)
    for _ in range(0 if target.lmbda is not None else _GUESSES):
        psnr, bits = trainer.reached()
        lmbda = trainer.lmbda * math.exp(target.too_good(psnr + _GAINED_PSNR, bits * _KEPT_BITS))
        trainer = PyramidTrainer(colours, lmbda, settings, seed)
    return trainer


def _look(
    trainer: PyramidTrainer, target: Target, clock: _Clock, done: float, callback: Callback | None
) -> None:
    """Measure, move lambda towards the target, and tell the callback."""
    if callback is None and target.lmbda is not None:
        return
    psnr, bits = trainer.reached()
    if done > _BLIND:
        left = (1 - done) ** 3
        expected = target.too_good(psnr + 3.4 * left, bits * math.exp(-0.53 * left))
        trainer.lmbda *= math.exp(_FEEDBACK * expected)
    if callback is not None:
        callback(CompressionProgress(clock.step, done, clock.elapsed, psnr, bits, trainer.lmbda))


def _quantised(trainer: PyramidTrainer, colours: NDArray[Any]) -> Compressed:
    """Return the picture with the bits of each weight that `MSE + lambda * bits per pixel` asks for."""
    y = trainer.integers()
    pixels = math.prod(trainer.size)

    def bare(network: ContextNetwork, synthesis: Sequence[ScaledArray] = ()) -> Compressed:
        latents = [np.zeros((0, *level.shape[1:]), np.int64) for level in y]
        return Compressed(*trainer.size, latents, [trainer.step_size] * len(y), network, synthesis)

    def context_cost(network: ContextNetwork) -> float:
        weights = [w.astype(np.float32) for w in weights_of(network, _FRACTION)]
        return trainer.rate.bits(y, weights) + 8 * len(encode(bare(network)))

    def decoder_cost(synthesis: Sequence[ScaledArray]) -> float:
        picture = dataclasses.replace(whole, synthesis=synthesis)
        size = 8 * len(encode(bare(network, synthesis)))
        return _squared_error(synthesise(picture), colours) + trainer.lmbda * size / pixels

    weights = [w.astype(np.float64) for w in trainer.rate.weights]
    layers = [w[:, :-1].T for w in weights], [w[:, -1] for w in weights]
    network = min((quantise(*layers, bits, _FRACTION) for bits in _CONTEXT_BITS), key=context_cost)
    whole = dataclasses.replace(bare(network), latents=[level.astype(np.int64) for level in y])
    decoder = trainer.decoder.weights, trainer.step_size, trainer.mean
    decoders = (synthesis_arrays(*decoder, bits) for bits in _DECODER_BITS)
    return dataclasses.replace(whole, synthesis=min(decoders, key=decoder_cost))


def _squared_error(pixels: Pixels, colours: NDArray[np.float32]) -> float:
    """Return the mean squared error of pixels (H, W, C) against colours (C, H, W) in [0, 1]."""
    error = pixels.transpose(2, 0, 1) / np.float32(255) - colours
    return float(np.square(error, dtype=np.float64).mean())
