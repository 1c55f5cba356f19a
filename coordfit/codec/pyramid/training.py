"""Training of a pyramid of latents with its two networks: `MSE + lambda * bits per pixel`.

Colours are in units of the step, so that the rounding error of a latent does not depend on lambda.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..header import level_size
from .decoder_network import DecoderNetwork, decoder_shapes
from .first_contexts import FRACTION_BITS, UNITS, WEIGHTS
from .optimizers import PyramidOptimizer
from .rate_model import RateModel, context_shapes
from .soft_rounding import noisy_round
from .start import start_latents
from .workers import Workers

_BLOCK = 32768  # latents that are rounded at a time, in the cache

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
    latent_rate, decoder_rate, context_rate, matrix_rate
        Learning rates; the last of hidden layers' matrices, which Muon trains, or Adam if it is 0.
    rate_share
        Of the latents whose bits a step counts: half of them is faster, and almost as good.
    trained_start
        Whether the context network starts from weights of other pictures, if there are some of its size.
    temperatures
        Of soft rounding, at the first and at the last step that has it.
    soft_share
        Of the steps; those after it round, and pass gradients straight through.
    """

    channels: tuple[int, ...] = (1, 2, 3, 3, 3)
    hidden: int = 24
    context_units: int = 24
    step_share: float = 0.5
    latent_rate: float = 0.2
    decoder_rate: float = 0.08
    context_rate: float = 0.04
    matrix_rate: float = 0.1
    rate_share: float = 0.5
    warm_up: int = 10
    trained_start: bool = True
    temperatures: tuple[float, float] = (0.6, 0.08)
    soft_share: float = 0.97


class PyramidTrainer:
    """A picture's latents and networks, and the steps that train them.

    Parameters
    ----------
    target : array, shape (C, H, W)
        Colours in [0, 1].
    lmbda : float
        The price of one bit per pixel, as MSE.

    Attributes
    ----------
    parts : dict
        The slices of `parameters` that hold the latents, the decoder and the context network.
    """

    def __init__(
        self,
        target: Real,
        lmbda: float,
        settings: PyramidSettings,
        seed: int = 0,
        workers: Workers | None = None,
    ) -> None:
        self.settings, self.lmbda = settings, lmbda
        self.colours, height, width = target.shape
        self.size = height, width
        self.step_size = math.sqrt(12 * lmbda * settings.step_share)
        self.mean = target.mean((1, 2), dtype=np.float64)
        self._seed, self._workers = seed, workers or Workers(1)
        self._target = ((target - self.mean[:, None, None]) / self.step_size).astype(np.float32)
        self.shapes = [(c, *level_size(height, width, i)) for i, c in enumerate(settings.channels)]
        groups: dict[str, Sequence[tuple[int, ...]]] = {
            "latents": self.shapes,
            "decoder": decoder_shapes(sum(settings.channels), settings.hidden, self.colours),
            "context": context_shapes(settings.context_units),
        }
        ends = np.cumsum([0, *(sum(map(math.prod, shapes)) for shapes in groups.values())]).tolist()
        self.parts = {name: slice(*pair) for name, pair in zip(groups, itertools.pairwise(ends), strict=True)}
        self.parameters = np.zeros(ends[-1], np.float32)
        self.gradient = np.zeros_like(self.parameters)
        arrays, gradients = (
            {name: _views(flat[self.parts[name]], shapes) for name, shapes in groups.items()}
            for flat in (self.parameters, self.gradient)
        )
        self.latents, self._d_latents = arrays["latents"], gradients["latents"]
        decoder, context = ((arrays[name], gradients[name]) for name in ("decoder", "context"))
        self.decoder = DecoderNetwork(self.shapes, self.size, *decoder, self._workers)
        self.rate = RateModel(self.shapes, *context, self._workers)
        rates = settings.latent_rate, settings.decoder_rate, settings.context_rate
        hidden = slice(settings.hidden)
        matrices = [(self.decoder.weights[0][hidden, :-1], self.decoder.gradients[0][hidden, :-1])]
        for w, gradient in zip(self.rate.weights[:-1], self.rate.gradients, strict=False):
            matrices.append((w[:, :-1], gradient[:, :-1]))
        self._optimizer = PyramidOptimizer(
            self._workers.backend,
            self.parameters,
            self.gradient,
            [*zip(self.parts.values(), rates, strict=True)],
            matrices if settings.matrix_rate else [],
            settings.matrix_rate,
        )
        self._start()

    def _start(self) -> None:
        skip, rng = start_latents(self._target, self.latents), np.random.default_rng(self._seed)
        first, _ = self.decoder.weights
        hidden, features = self.settings.hidden, first.shape[1] - 1
        first[:hidden, :-1] = rng.normal(size=(hidden, features)) / math.sqrt(features)
        first[hidden:, :-1] = skip
        if self.settings.trained_start and self.settings.context_units == UNITS:
            integers = np.frombuffer(base64.b85decode(WEIGHTS), "<i2")
            self.parameters[self.parts["context"]] = np.ldexp(integers, -FRACTION_BITS)
            return
        for w in self.rate.weights:
            w[:, :-1] = rng.normal(size=(w.shape[0], w.shape[1] - 1)) / math.sqrt(w.shape[1] - 1)
        self.rate.weights[-1][:, :-1] *= 0.1

    def step(self, done: float) -> tuple[float, float]:
        """Take one step, `done` being the share of the steps before it; return MSE and bits."""
        s, rng = self.settings, np.random.default_rng((self._seed, self._optimizer.steps))
        flat = self.parameters[self.parts["latents"]]
        slope: Real | None = None
        if done < s.soft_share:
            first, last = s.temperatures
            values, slope = self._noisy(flat, first + (last - first) * done / s.soft_share)
        else:
            values = np.rint(flat)
        mse, bits = self._gradients(_views(values, self.shapes), rng)
        if slope is not None:
            self.gradient[: slope.size] *= slope
        warm = min(1.0, (self._optimizer.steps + 1) / s.warm_up)
        self._optimizer.step(warm * 0.5 * (1 + math.cos(math.pi * done)))
        return mse, bits

    def _noisy(self, flat: Real, temperature: float) -> tuple[Real, Real]:
        """Return latents with noise and their slopes, from a stream of random numbers for each block."""
        values, slopes = np.empty_like(flat), np.empty_like(flat)

        def fill(begin: int, worker: int) -> None:
            at = slice(begin, begin + _BLOCK)
            rng = np.random.default_rng((self._seed, self._optimizer.steps, begin))
            values[at], slopes[at] = noisy_round(flat[at], temperature, rng)

        self._workers.run([partial(fill, begin) for begin in range(0, flat.size, _BLOCK)])
        return values, slopes

    def _gradients(self, y: Sequence[Real], rng: np.random.Generator) -> tuple[float, float]:
        """Fill the gradient of `squared error / 2 + bits * C lambda / (2 step^2)`; return MSE and bits."""
        self.gradient.fill(0)
        squares = self.decoder.squared_error(y, self._target, self._d_latents)
        count = len(self.rate.batches)
        some = rng.permutation(count)[: max(1, round(self.settings.rate_share * count))]
        price = self.colours * self.lmbda / (2 * self.step_size**2)
        bits = self.rate.add_gradient(y, self._d_latents, price, some.tolist())
        return squares * self.step_size**2 / self._target.size, bits

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that the next steps depend on, by name."""
        numbers = {"steps": np.array(self._optimizer.steps), "lmbda": np.array(self.lmbda)}
        return {"parameters": self.parameters, **self._optimizer.state(), **numbers}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from the state of a trainer of the same picture, first lambda, settings and seed."""
        self.parameters[...] = state["parameters"]
        self._optimizer.restore(state, int(state["steps"]))
        self.lmbda = float(state["lmbda"])

    def integers(self) -> list[Real]:
        """Return the latents rounded, finest first."""
        return [np.rint(level) for level in self.latents]

    def loss_parts(self) -> tuple[float, float]:
        """Return the MSE and the bits per pixel of the rounded latents, with 1 % more for integer laws."""
        y = self.integers()
        colours = self.decoder.forward(y)
        for drawn, target, mean in zip(colours, self._target, self.mean, strict=True):  # with little memory
            drawn *= self.step_size
            drawn += mean
            np.clip(drawn, 0, 1, out=drawn)
            drawn -= target * self.step_size + mean
        mse = float(np.square(colours, out=colours).mean())
        return mse, 1.01 * self.rate.bits(y) / math.prod(self.size)


def _views(flat: Real, shapes: Sequence[tuple[int, ...]]) -> list[Real]:
    """Return arrays of these shapes that lie one after the other in a flat buffer."""
    ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)]).tolist()
    return [flat[a:b].reshape(shape) for a, b, shape in zip(ends, ends[1:], shapes, strict=False)]
