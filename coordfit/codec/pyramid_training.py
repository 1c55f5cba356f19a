"""Training of a pyramid of latents with its two networks: `MSE + lambda * bits per pixel`.

Colours are in units of the step, so that the rounding error of a latent does not depend on lambda.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decoder_network import DecoderNetwork, decoder_shapes
from .header import level_size
from .pyramid_start import start_latents
from .rate_model import RateModel, context_shapes
from .soft_rounding import noisy_round

Real = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class PyramidSettings:
    """The sizes of a pyramid and of its networks, and how they are trained.

    Attributes
    ----------
    channels
        Of each level, finest first.
    hidden, context_units
        Hidden units of the decoder and of each layer of the context network.
    step_share
        D in `step = sqrt(12 lambda D)`: the MSE of uniform rounding, as a share of lambda.
    temperatures
        Of soft rounding, at the first and at the last step that has it.
    soft_share
        Of the steps; those after it round, and pass gradients straight through.
    """

    channels: tuple[int, ...] = (1, 2, 3, 3, 3, 3, 3)
    hidden: int = 24
    context_units: int = 20
    step_share: float = 0.25
    latent_rate: float = 0.1
    decoder_rate: float = 0.04
    context_rate: float = 0.02
    warm_up: int = 10
    temperatures: tuple[float, float] = (0.3, 0.1)
    soft_share: float = 0.97


class _Adam:
    """Adam on a flat buffer, with a learning rate for each of its parts. Source: Kingma and Ba (2015)."""

    def __init__(self, parameters: Real, gradient: Real, rates: dict[str, tuple[slice, float]]) -> None:
        self.parameters, self.gradient, self.rates = parameters, gradient, rates
        self._first, self._second = np.zeros_like(parameters), np.zeros_like(parameters)
        self._buffer = np.empty_like(parameters)
        self.steps = 0

    def step(self, factor: float) -> None:
        """Take one step with the learning rates times a factor; beta 0.9 and 0.99."""
        self.steps += 1
        fast, slow = 1 - 0.9**self.steps, 1 - 0.99**self.steps
        for begin in range(0, self.parameters.size, 65536):
            at = slice(begin, begin + 65536)
            g, m, v, buffer = self.gradient[at], self._first[at], self._second[at], self._buffer[at]
            m *= 0.9
            np.multiply(g, 0.1, out=buffer)
            m += buffer
            v *= 0.99
            np.multiply(g, g, out=buffer)
            buffer *= 0.01
            v += buffer
            np.divide(v, slow, out=buffer)
            np.sqrt(buffer, out=buffer)
            buffer += 1e-8
            np.divide(m, buffer, out=buffer)
        for at, rate in self.rates.values():
            self._buffer[at] *= rate * factor / fast
            self.parameters[at] -= self._buffer[at]


class PyramidTrainer:
    """A picture's latents and networks, and the steps that train them.

    Parameters
    ----------
    target : array, shape (C, H, W)
        Colours in [0, 1].
    lmbda : float
        The price of one bit per pixel, as MSE.
    """

    def __init__(self, target: Real, lmbda: float, settings: PyramidSettings, seed: int = 0) -> None:
        self.settings, self.lmbda = settings, lmbda
        self.colours, *size = target.shape
        self.size = (size[0], size[1])
        self.step_size = math.sqrt(12 * lmbda * settings.step_share)
        self.mean = target.mean((1, 2), dtype=np.float64)
        self._rng = np.random.default_rng(seed)
        self._target = ((target - self.mean[:, None, None]) / self.step_size).astype(np.float32)
        self.shapes = [(c, *level_size(*self.size, i)) for i, c in enumerate(settings.channels)]
        features = sum(settings.channels)
        networks = (
            decoder_shapes(features, settings.hidden, self.colours),
            context_shapes(settings.context_units),
        )
        shapes = [*self.shapes, *networks[0], *networks[1]]
        self.parameters = np.zeros(sum(map(math.prod, shapes)), np.float32)
        self.gradient = np.zeros_like(self.parameters)
        arrays, gradients = _views(self.parameters, shapes), _views(self.gradient, shapes)
        count = len(self.shapes)
        self.latents, self._d_latents = arrays[:count], gradients[:count]
        self.decoder = DecoderNetwork(
            self.shapes, self.size, arrays[count : count + 2], gradients[count : count + 2]
        )
        self.rate = RateModel(self.shapes, arrays[count + 2 :], gradients[count + 2 :])
        ends = np.cumsum([0, *(sum(map(math.prod, group)) for group in (self.shapes, *networks))]).tolist()
        rates = {
            "latents": settings.latent_rate,
            "decoder": settings.decoder_rate,
            "context": settings.context_rate,
        }
        parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self._adam = _Adam(
            self.parameters,
            self.gradient,
            dict(zip(rates, zip(parts, rates.values(), strict=True), strict=True)),
        )
        self._start()

    def _start(self) -> None:
        skip = start_latents(self._target, self.latents)
        first, _ = self.decoder.weights
        hidden, features = self.settings.hidden, first.shape[1] - 1
        first[:hidden, :-1] = self._rng.normal(size=(hidden, features)) / math.sqrt(features)
        first[hidden:, :-1] = skip
        for w in self.rate.weights:
            w[:, :-1] = self._rng.normal(size=(w.shape[0], w.shape[1] - 1)) / math.sqrt(w.shape[1] - 1)
        self.rate.weights[-1][:, :-1] *= 0.1

    def step(self, done: float) -> tuple[float, float]:
        """Take one step, `done` being the share of the steps before it; return MSE and bits."""
        s = self.settings
        flat = self.parameters[self._adam.rates["latents"][0]]
        slope: Real | None = None
        if done < s.soft_share:
            first, last = s.temperatures
            values, slope = noisy_round(flat, first + (last - first) * done / s.soft_share, self._rng)
        else:
            values = np.rint(flat)
        mse, bits = self._gradients(_views(values, self.shapes))
        if slope is not None:
            self.gradient[: slope.size] *= slope
        warm = min(1.0, (self._adam.steps + 1) / s.warm_up)
        self._adam.step(warm * 0.5 * (1 + math.cos(math.pi * done)))
        return mse, bits

    def _gradients(self, y: Sequence[Real]) -> tuple[float, float]:
        """Fill the gradient of `squared error / 2 + bits * C lambda / (2 step^2)`; return MSE and bits."""
        self.gradient.fill(0)
        squares = self.decoder.squared_error(y, self._target, self._d_latents)
        bits = self.rate.bits(y, self._d_latents, self.colours * self.lmbda / (2 * self.step_size**2))
        return squares * self.step_size**2 / self._target.size, bits

    def integers(self) -> list[Real]:
        """Return the latents rounded, finest first."""
        return [np.rint(level) for level in self.latents]

    def reached(self) -> tuple[float, float]:
        """Return the PSNR and the bits per pixel of the rounded latents, without the networks' weights."""
        y = self.integers()
        colours = self.decoder.forward(y) * self.step_size + self.mean[:, None, None]
        target = self._target * self.step_size + self.mean[:, None, None]
        mse = float(np.square(np.clip(colours, 0, 1) - target).mean())
        kept = self.gradient.copy()
        bits = self.rate.bits(y, [np.zeros_like(level) for level in y], 0.0)
        self.gradient[...] = kept
        return -10 * math.log10(max(mse, 1e-12)), bits / (self.size[0] * self.size[1])


def _views(flat: Real, shapes: Sequence[tuple[int, ...]]) -> list[Real]:
    """Return arrays of these shapes that lie one after the other in a flat buffer."""
    ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)]).tolist()
    return [flat[a:b].reshape(shape) for a, b, shape in zip(ends, ends[1:], shapes, strict=False)]
