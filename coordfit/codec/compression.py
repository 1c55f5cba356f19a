"""From pixels to the bytes of a compressed picture, and back."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CompressedFileError
from .container import MOST_LATENTS, Compressed, decode, encode
from .contexts import quantise
from .header import level_size
from .law_tables import DamagedError
from .pyramid_training import PyramidSettings, PyramidTrainer
from .synthesis import synthesis_arrays, synthesise

WEIGHT_BITS = 9  # of the context network
_DECODER_BITS = range(8, 13)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class CompressionProgress:
    """What a compression has reached: PSNR and bits per pixel are of rounded latents, networks not counted."""

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
        """Return the lambda to begin with: about the MSE that it leads to."""
        if self.lmbda is not None:
            return self.lmbda
        psnr = self.psnr if self.psnr is not None else 30 + 6 * float(self.bits_per_pixel or 0)
        return float(10 ** (-psnr / 10))

    def too_good(self, psnr: float, bits_per_pixel: float) -> float:
        """Return the logarithm by which lambda is too small; 0 for a given lambda."""
        if self.psnr is not None:
            return (psnr - self.psnr) * math.log(10) / 10
        if self.bits_per_pixel is not None:
            return 1.5 * math.log(bits_per_pixel / self.bits_per_pixel)
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
        return self.step / self._steps if self._steps is not None else self.elapsed / float(self._seconds or 1)


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
    clock = _Clock(steps, seconds)
    colours = _planes(pixels)
    trainer = PyramidTrainer(colours, target.first_lmbda(), settings or PyramidSettings(), seed)
    checks = iter(np.arange(0.05, 1.0, 0.05).tolist())
    check = next(checks)
    for done in clock.ticks():
        if done >= check:
            check = next(checks, 2.0)
            _look(trainer, target, clock, done, callback)
        trainer.step(done)
    data, pictured = _best_bytes(trainer, colours, compiled)
    levels = [np.zeros((0, *level_size(*trainer.size, i)), np.int64) for i in range(len(trainer.shapes))]
    network = 8 * len(encode(dataclasses.replace(pictured, latents=levels)))
    count = colours.shape[1] * colours.shape[2]
    report = CompressionReport(
        _psnr(synthesise(pictured), pixels),
        8 * len(data) / count,
        network,
        trainer.lmbda,
        clock.step,
        clock.elapsed,
    )
    return data, report


def decompress(
    data: bytes, name: str = "the compressed picture", most_latents: int = MOST_LATENTS, compiled: bool = False
) -> Pixels:
    """Return the pixels (H, W, C) of a compressed picture; CompressedFileError if it cannot be used."""
    picture = decode(data, name, most_latents, compiled)
    try:
        return synthesise(picture)
    except DamagedError as error:
        raise CompressedFileError(f"cannot load {name}: it {error}") from error


def _planes(pixels: Pixels) -> NDArray[np.float32]:
    """Return pixels as colours (C, H, W) in [0, 1]."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,)):
        raise ValueError("pixels must be uint8 of the shape (H, W), (H, W, 1) or (H, W, 3)")
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    return np.ascontiguousarray(planes, np.float32) / np.float32(255)


def _look(
    trainer: PyramidTrainer, target: Target, clock: _Clock, done: float, callback: Callback | None
) -> None:
    """Measure, move lambda towards the target, and tell the callback."""
    if callback is None and target.lmbda is not None:
        return
    psnr, bits = trainer.reached()
    trainer.lmbda *= math.exp(0.5 * target.too_good(psnr, bits))
    if callback is not None:
        callback(CompressionProgress(clock.step, done, clock.elapsed, psnr, bits, trainer.lmbda))


def _best_bytes(trainer: PyramidTrainer, colours: NDArray[Any], compiled: bool) -> tuple[bytes, Compressed]:
    """Return the bytes with the decoder's weights in as many bits as `MSE + lambda * bits` asks for."""
    latents = [level.astype(np.int64) for level in trainer.integers()]
    weights = [w.astype(np.float64) for w in trainer.rate.weights]
    network = quantise([w[:, :-1].T for w in weights], [w[:, -1] for w in weights], WEIGHT_BITS)
    height, width = trainer.size
    best = math.inf, Compressed(height, width, latents, [trainer.step_size] * len(latents), network)
    bare = dataclasses.replace(best[1], latents=[level[:0] for level in latents])
    for bits in _DECODER_BITS:
        arrays = synthesis_arrays(trainer.decoder.weights, trainer.step_size, trainer.mean, bits)
        picture = dataclasses.replace(best[1], synthesis=arrays)
        found = synthesise(picture).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        size = 8 * len(encode(dataclasses.replace(bare, synthesis=arrays)))
        cost = float(np.square(found - colours).mean()) + trainer.lmbda * size / (height * width)
        if cost < best[0]:
            best = cost, picture
    return encode(best[1], compiled), best[1]


def _psnr(found: Pixels, pixels: Pixels) -> float:
    error = found.astype(np.float64) - pixels.reshape(found.shape)
    return -10 * math.log10(max(float(np.square(error).mean()) / 255**2, 1e-12))
