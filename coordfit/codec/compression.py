"""From the levels of a picture to the bytes of a file, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CompressedFileError, PictureError
from ..images.formats.levels import Levels
from ..images.metrics import psnr_from_mse
from .container import MOST_LATENTS, decode, encode
from .drawing import CompressedPicture
from .header import MOST_SIDE
from .pyramid.colours import Reference
from .pyramid.quantising import network_bits, quantised, usually_quantised
from .pyramid.training import PyramidSettings, PyramidTrainer
from .pyramid.workers import Workers
from .synthesis import synthesise
from .targets import Target

_CHANNELS = {1: (1, 1, 1, 1, 1), 2: (2, 2, 2, 2, 2), 3: (1, 2, 3, 3, 3), 4: (2, 3, 4, 4, 4)}
# Most pixels, and hidden units of decoder and context network: small pictures have no room for large networks.
_UNITS = (5_000, 3, 3), (24_000, 6, 8), (36_000, 12, 16), (math.inf, 24, 24)
_LOOKS = 20  # in a training
_SMALL = 1 << 16  # pixels of pictures in which networks count; these are measured
_MEASURED = 0.5  # of the steps, from which on they are
_FINISH = 35  # steps that take as long as all that is done after the last
_LEAST = 0.5  # of the time is for steps, even if what comes after them takes too long then
_GUESSES = 3  # of the first lambda
_WINDOWS, _WINDOW = 9, 336  # of a large picture that they see, and their sides
_LOST_PSNR = 0.06  # by quantised weights
_GAINED_PSNR, _KEPT_BITS = 6.9, 0.82  # what training makes of the start


@dataclass(frozen=True)
class CompressionProgress:
    """What a compression has reached, estimated before the weights are quantised.

    Attributes
    ----------
    done
        Share of the steps or of the seconds.
    evaluated
        Whether PSNR and bits per pixel are new.
    """

    step: int
    done: float
    seconds: float
    psnr: float
    bits_per_pixel: float
    lmbda: float
    evaluated: bool


@dataclass(frozen=True)
class CompressionReport:
    """What a compressed picture came to, by its bytes.

    Attributes
    ----------
    psnr
        Over all channels; colours of fully transparent pixels do not count.
    network_bits
        Bits of a file without latents, but with the same networks.
    """

    psnr: float
    bits_per_pixel: float
    network_bits: float
    lmbda: float
    steps: int
    seconds: float


Callback = Callable[[CompressionProgress], object]
"""Called before each step; training ends if it returns True."""


class Compressor:
    """A compression that can be interrupted.

    Parameters
    ----------
    levels : array, shape (H, W) or (H, W, C)
        uint8 or uint16; C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    steps, seconds
        One of them is given.
    first_lmbda
        That of a compression that goes on; by default it is chosen for the target.
    """

    def __init__(
        self,
        levels: Levels,
        target: Target,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        seed: int = 0,
        settings: PyramidSettings | None = None,
        first_lmbda: float | None = None,
        threads: int | None = None,
    ) -> None:
        self._clock = _Clock(steps, seconds)
        self._bit_depth, self._reference = 8 * levels.dtype.itemsize, Reference(_checked(levels))
        planes = self._reference.planes()
        _check_extent(*planes.shape)
        settings = settings or settings_for(*planes.shape)
        self._target, self._seen = target, (math.nan, math.nan)
        self._looks = 0  # number of the next look
        self._extra = 0.0  # bits per pixel of networks beyond the estimate
        self._workers = Workers(threads)
        with self._workers.activate():
            lmbda = first_lmbda or _first_lmbda(planes, target, settings, self._workers)
            self.trainer = PyramidTrainer(planes, lmbda, settings, seed, self._workers)
        self.first_lmbda = lmbda

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._clock.step

    def train(self, callback: Callback | None = None) -> bool:
        """Take the steps; return whether all are taken, and not ended by the callback."""
        with self._workers.activate():
            for done in self._clock.ticks():
                if is_new := done * _LOOKS >= self._looks:
                    self._looks = int(done * _LOOKS) + 1
                    if callback is not None or self._target.lmbda is None:
                        self._look(done)
                if callback is not None and callback(self._progress(done, is_new)) is True:
                    return False
                with self._clock.step_is_taken():
                    self.trainer.step(done)
        return True

    def _look(self, done: float) -> None:
        """Estimate what is reached, and steer lambda."""
        psnr, bits = estimated(self.trainer)
        if done > _MEASURED and self._reference.num_pixels <= _SMALL:
            self._extra = len(self.finish()[0]) * 8 / self._reference.num_pixels - bits
        self._seen = psnr, bits + self._extra
        self.trainer.lmbda *= math.exp(self._target.correction(done, *self._seen))

    def _progress(self, done: float, is_new: bool) -> CompressionProgress:
        clock = self._clock
        return CompressionProgress(clock.step, done, clock.elapsed, *self._seen, self.trainer.lmbda, is_new)

    def finish(self, compiled: bool | None = False) -> tuple[bytes, CompressionReport]:
        """Return the file as training has left it, and what it came to; `compiled` takes Numba's loops."""
        with self._workers.activate():
            picture = quantised(self.trainer, self._reference, self._bit_depth)
            data = encode(picture, compiled)
            without = dataclasses.replace(picture, latents=[level[:0] for level in picture.latents])
            report = CompressionReport(
                psnr=psnr_from_mse(self._reference.squared_error(synthesise(picture))),
                bits_per_pixel=8 * len(data) / self._reference.num_pixels,
                network_bits=8 * len(encode(without)),
                lmbda=self.trainer.lmbda,
                steps=self._clock.step,
                seconds=self._clock.elapsed,
            )
        return data, report

    def drawing(self, name: str) -> CompressedPicture:
        """Return what a file would hold now, nearly: the bits of its weights are not chosen."""
        return CompressedPicture(usually_quantised(self.trainer, self._bit_depth), name)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return arrays and facts from which `restore` goes on bit by bit."""
        facts = {"first_lmbda": self.first_lmbda, "step": self._clock.step, "seconds": self._clock.elapsed}
        more = {"before": self._clock.before, "looks": self._looks, "seen": self._seen}
        return self.trainer.state(), facts | more

    def restore(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Go on from a state of the same picture, target, seed, settings and first lambda."""
        self.trainer.restore(arrays)
        self._clock.restore(facts["step"], facts["seconds"], facts["before"])
        self._looks, self._seen = facts["looks"], facts["seen"]


class _Clock:
    """Tells what share of the steps or of the seconds is used.

    Attributes
    ----------
    step : int
        Steps taken.
    before : float or None
        Seconds until the first step.
    """

    def __init__(self, steps: int | None, seconds: float | None) -> None:
        if (steps is None) == (seconds is None):
            raise ValueError("give either steps or seconds")
        self._steps, self._seconds = steps, seconds
        self.restore(0, 0.0, None)

    def restore(self, step: int, seconds: float, before: float | None) -> None:
        """Go on after some steps that took some seconds."""
        self._start = time.monotonic() - seconds
        self.step, self.before = step, before
        self._in_steps = seconds - (before or 0.0)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def ticks(self) -> Iterator[float]:
        """Yield the share that is used before each step; what is done in a step is in `step_is_taken`."""
        while (done := self._share()) < 1:
            yield done

    @contextlib.contextmanager
    def step_is_taken(self) -> Iterator[None]:
        """Count a step, and its seconds."""
        began = time.monotonic()
        yield
        self._in_steps += time.monotonic() - began
        self.step += 1

    def _share(self) -> float:
        if self._seconds is None:
            return self.step / float(self._steps or 1)
        elapsed = self.elapsed
        if self.before is None:
            self.before = elapsed
        trained = elapsed - self.before
        left = self._seconds - self.before
        for_steps = max(left - _FINISH * self._in_steps / max(self.step, 1), _LEAST * left)
        return trained / for_steps if for_steps > 0 else float(self.step > 0)


def compress(
    levels: Levels,
    target: Target,
    *,
    callback: Callback | None = None,
    compiled: bool | None = False,
    **options: Any,
) -> tuple[bytes, CompressionReport]:
    """Return the bytes of a picture and what they came to; options as `Compressor` takes them."""
    compressor = Compressor(levels, target, **options)
    compressor.train(callback)
    return compressor.finish(compiled)


def decompress(
    data: bytes,
    name: str = "the compressed picture",
    most_latents: int = MOST_LATENTS,
    compiled: bool | None = False,
) -> Levels:
    """Return the levels (H, W, C) of a compressed picture; CompressedFileError if it cannot be used.

    `most_latents` bounds the pixels too.
    """
    picture = decode(data, name, most_latents, compiled)
    if (count := picture.height * picture.width) > most_latents:
        raise CompressedFileError(
            f"cannot load {name}: it has {count} pixels, more than the limit of {most_latents}"
        )
    return CompressedPicture(picture, name).levels()


def estimated(trainer: PyramidTrainer) -> tuple[float, float]:
    """Return the PSNR and the bits per pixel of a file with the latents as they are, rounded."""
    return _in_file([trainer.loss_parts()], trainer, math.prod(trainer.size))


def _in_file(
    parts: Sequence[tuple[float, float]], networks: PyramidTrainer, pixels: int
) -> tuple[float, float]:
    """Return PSNR and bits per pixel with these networks, from MSE and bits of parts of equal size."""
    mse, bits = np.mean(parts, axis=0).tolist()
    return psnr_from_mse(max(mse, 1e-12)) - _LOST_PSNR, bits + network_bits(networks) / pixels


def settings_for(channels: int, height: int, width: int) -> PyramidSettings:
    """Return the sizes of a pyramid and its networks for a picture."""
    hidden, units = next(rest for most, *rest in _UNITS if height * width <= most)
    return PyramidSettings(channels=_CHANNELS[channels], hidden=hidden, context_units=units)


def most_pixels(channels: int) -> int:
    """Return how many pixels a picture may have so that decoders read its file."""
    per_pixel = sum(count / 4**level for level, count in enumerate(_CHANNELS[channels]))
    return int(0.99 * MOST_LATENTS / per_pixel)


def _check_extent(channels: int, height: int, width: int) -> None:
    """Refuse a picture that no decoder would read."""
    most = most_pixels(channels)
    if height * width > most or max(height, width) > MOST_SIDE:
        raise PictureError(
            f"cannot compress {width}x{height} = {height * width} pixels: {most} are the most, and {MOST_SIDE} "
            "for a side; make it smaller (`coordfit compress --size`)"
        )


def _checked(levels: Levels) -> Levels:
    """Return levels as (H, W, C)."""
    if levels.dtype not in (np.uint8, np.uint16) or levels.ndim not in (2, 3) or levels.shape[2:] > (4,):
        raise ValueError("pixels must be uint8 or uint16 of the shape (H, W) or (H, W, 1 to 4)")
    return levels.reshape(*levels.shape[:2], -1)


def _windows(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return a picture, or nine evenly spaced windows of a large one."""
    sides = [min(side, _WINDOW) for side in planes.shape[1:]]
    if planes[0].size <= 2 * _WINDOWS * math.prod(sides):
        return [planes]
    starts = [
        np.linspace(0, whole - side, math.isqrt(_WINDOWS)).astype(int).tolist()
        for whole, side in zip(planes.shape[1:], sides, strict=True)
    ]
    return [planes[:, top : top + sides[0], left : left + sides[1]] for top, left in itertools.product(*starts)]


def _first_lmbda(
    planes: NDArray[np.float32], target: Target, settings: PyramidSettings, workers: Workers
) -> float:
    """Return a lambda that leads near the target, by what training makes of the start.

    Bits are told by the context network that was trained on other pictures.
    """
    lmbda, own, pixels = target.first_lmbda(), PyramidSettings, planes[0].size
    usual = dataclasses.replace(settings, hidden=own.hidden, context_units=own.context_units)

    def reached(lmbda: float) -> tuple[float, float]:
        parts = []
        for window in _windows(planes):
            trainer = PyramidTrainer(window, lmbda, usual, workers=workers)
            parts.append(trainer.loss_parts())
        networks = trainer if usual == settings else PyramidTrainer(window, lmbda, settings, workers=workers)
        return _in_file(parts, networks, pixels)

    for _ in range(0 if target.lmbda is not None else _GUESSES):
        psnr, bits = reached(lmbda)
        lmbda *= math.exp(target.too_good(psnr + _GAINED_PSNR, bits * _KEPT_BITS))
    return lmbda
