"""Initial weights, drawn on the host in float64 from an explicit generator.

Every device thus starts from the same numbers, whatever its own generator would draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .activations import ActivationFunction

Drawn = tuple[NDArray[np.float64], NDArray[np.float64]]


def he(rng: np.random.Generator, n_in: int, n_out: int, **_: float | bool) -> Drawn:
    """W ~ N(0, 2 / n_in), b = 0: He et al., "Delving Deep into Rectifiers" (2015), equation 10."""
    return rng.normal(0.0, np.sqrt(2.0 / n_in), (n_in, n_out)), np.zeros((1, n_out))


def glorot(rng: np.random.Generator, n_in: int, n_out: int, **_: float | bool) -> Drawn:
    """W ~ U(-a, a) with a = sqrt(6 / (n_in + n_out)), b = 0: Glorot and Bengio (2010), equation 16."""
    limit = np.sqrt(6.0 / (n_in + n_out))
    return rng.uniform(-limit, limit, (n_in, n_out)), np.zeros((1, n_out))


def sine(rng: np.random.Generator, n_in: int, n_out: int, *, omega: float, first: bool, **_: float) -> Drawn:
    """W ~ U(-a, a) with a = 1 / n_in in a layer that sees coordinates, else sqrt(6 / n_in) / omega.

    Sitzmann et al. (2020), section 3.2 and supplement 1.5; b ~ U(-1, 1) / sqrt(n_in). A layer after Fourier
    features is not `first`: they are sines themselves, of the variance 1 / 2 that the paper's layers keep.
    """
    limit = 1.0 / n_in if first else np.sqrt(6.0 / n_in) / omega
    W = rng.uniform(-limit, limit, (n_in, n_out))
    return W, rng.uniform(-1.0, 1.0, (1, n_out)) / np.sqrt(n_in)


INITIALIZERS: dict[str, Callable[..., Drawn]] = {"he": he, "glorot": glorot, "sine": sine}


def start_linear(layers: Sequence[Drawn], S: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
    """Change a ReLU network's layers such that it starts as `x S + bias`, for S (F, C).

    Two units of each hidden layer pass on one output's positive and negative part. The other units keep their
    drawn weights, and have no effect before the last layer learns.
    """
    *hidden, (W_last, b_last) = layers
    parts = np.concatenate([np.eye(S.shape[1]), -np.eye(S.shape[1])])  # (2 C, C)
    units, weights, last = len(parts), S @ parts.T, S
    for W, b in hidden:
        W[:, :units], b[:, :units] = 0.0, 0.0
        W[: len(weights), :units] = weights
        weights, last = np.eye(units), parts
    W_last[...] = 0.0
    W_last[: len(last)], b_last[...] = last, bias


def bias_for_mean(activation: ActivationFunction, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return b (C,) with `f(b) = mean`: with weights of 0 the network starts at the mean colour.

    Parameters
    ----------
    activation : ActivationFunction
        f, with an `inverse`; ConfigError if it has none.
    mean : array, shape (C,)
        In [0, 1]; moved inside by a hundredth, as some f reach 0 and 1 at infinity alone.
    """
    if (inverse := getattr(activation, "inverse", None)) is None:
        raise ConfigError(f"output_start mean needs the inverse of {activation!r}: define its inverse(xp, y)")
    b = np.asarray(inverse(np, np.clip(mean, 0.01, 0.99)))
    if not np.isfinite(b).all():
        raise ConfigError(f"output_start mean: {activation!r} never is {mean}; leave output_start at drawn")
    return b
