"""Compare gradients by hand with finite differences, in float64.

Small networks are checked element by element, whole models along a random direction (four evaluations instead
of 4 P). Networks are drawn until no pre-activation or residual is near a kink (of ReLU, MAE, Huber).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends import Backend, get_backend
from .components import name_of
from .config import make_config
from .encoders.registry import ENCODINGS, encoding_of
from .network import activations, losses
from .network.activations import make_activation
from .network.losses import Loss, make_loss
from .network.mlp import MLP, initial_parameters
from .network.parameters import ParameterLayout

TOLERANCE = 1e-7
ACTIVATIONS, LOSSES = tuple(activations.ACTIVATIONS), tuple(losses.LOSSES)
METHODS = ("element", "direction")

_STEP = 2.5e-4
_MARGIN = 5e-3  # to any kink: a difference moves a pre-activation by at most 2 _STEP times its input
_DRAWS = 2000
_SIZE, _SMALL = (3, 4), {"grid_levels": 2, "grid_features": 1, "grid_smoothness": 0.1}
_SMALL |= {"pyramid_levels": 2, "pyramid_smoothness": 0.1}
_FLOOR = 1e-4  # of relative errors: the noise of a difference quotient in float64


@dataclass(frozen=True)
class GradientCheck:
    """One checked case.

    `error` is the largest |analytic - numeric| / max(|analytic|, |numeric|, floor) of the checked values.
    """

    method: str
    loss: str
    activation: str
    encoding: str
    members: int | None
    checked: int
    error: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= TOLERANCE


def check_gradients(
    device: str = "cpu",
    *,
    seed: int = 0,
    fused: str = "auto",
    activations: Sequence[Any] | None = None,
    losses: Sequence[Any] | None = None,
    encodings: Sequence[Any] | None = None,
) -> list[GradientCheck]:
    """Compare gradients by hand with finite differences, for every loss, activation and encoding.

    Each combination is checked for one network and for three networks in a batch, in two ways. The method
    `element` moves each parameter of a small network alone. The method `direction` moves all parameters of a
    larger network at once, along a random direction.

    Parameters
    ----------
    device : str
        The device of the analytic gradient; the check itself runs in float64.
    seed : int
        Of the weights, pixels and directions.
    fused : {"auto", "always", "never"}
        Selects the bodies of the primitives; see `backends.Backend`.
    activations, losses, encodings : sequences of names or objects, optional
        All built-in ones by default. Networks stay away from the `kinks` of an object.

    Returns
    -------
    list of GradientCheck
        One for each case, passed or not. `check.passed` is True if `check.error` is at most 1e-7. `error` is
        the largest relative error of the values that were compared, and `checked` is their number. `method`,
        `loss`, `activation`, `encoding` and `members` (None for one network) name the case.
    """
    backend = get_backend(device, fused=fused)
    return list(iterate_checks(backend, seed, activations, losses, encodings))


def iterate_checks(
    backend: Backend,
    seed: int = 0,
    activations: Sequence[Any] | None = None,
    losses: Sequence[Any] | None = None,
    encodings: Sequence[Any] | None = None,
) -> Iterator[GradientCheck]:
    """Yield the cases of `check_gradients`, each as soon as it is done."""
    given = {
        "loss": (losses, LOSSES),
        "activation": (activations, ACTIVATIONS),
        "encoding": (encodings, ENCODINGS),
    }
    kinds = [
        [getattr(make_config({option: one}), option) for one in (all_of if asked is None else asked)]
        for option, (asked, all_of) in given.items()
    ]
    cases = itertools.product(METHODS, (None, 3), *kinds)
    with backend.activate():
        for method, members, loss, activation, encoding in cases:
            sizes = (4, 5, 3) if method == "element" else (24, 16, 16, 3)
            case = _Case(backend, make_loss(loss, delta=0.3), activation, encoding, members, sizes, seed)
            error, checked = case.by_element() if method == "element" else case.by_direction()
            named = name_of(loss), name_of(activation), name_of(encoding)
            yield GradientCheck(method, *named, members, checked, error)


class _Case:
    """A small network and pixels away from all kinks; its loss depends on the flat parameters."""

    def __init__(
        self,
        backend: Backend,
        loss: Loss,
        activation: Any,
        encoding: Any,
        members: int | None,
        sizes: tuple[int, ...],
        seed: int,
    ) -> None:
        self.backend, self.loss, self.members = backend, loss, members
        self.ensemble = () if members is None else (members,)
        number = [*ENCODINGS].index(encoding) if encoding in ENCODINGS else len(ENCODINGS)
        self.rng = np.random.default_rng([seed, len(sizes), members or 0, number])
        settings = {"encoding": encoding, "num_frequencies": sizes[0] // 2, "sigma": 2.0, **_SMALL}
        self.encoding = encoding_of(make_config(settings), _SIZE)
        self.state = self.encoding.draw(self.rng, "float64")
        self.sizes = (self.encoding.num_features(self.state), *sizes[1:])
        self.layout = ParameterLayout(self.sizes, self.encoding.parameter_shapes())
        self.activation = make_activation(activation, omega=3.0)
        self.rows = 4 if len(sizes) == 3 else 3  # large networks have more kinks
        self.weights = np.array([[0.5], [1.5], [1.0], [1.0]])[: self.rows]
        for _ in range(_DRAWS):
            self._draw_network()
            if self._distance_to_kinks() > _MARGIN:
                return
        raise RuntimeError("no network away from all kinks was found")

    def _draw_network(self) -> None:
        initializer = getattr(self.activation, "initializer", "glorot")
        omega = getattr(self.activation, "omega", 3.0)
        networks = [
            initial_parameters(self.sizes, initializer, omega=omega, rng=self.rng)
            for _ in range(self.members or 1)
        ]
        flats = [
            self.layout.with_encoder(network, self.encoding.draw_parameters(self.rng)) for network in networks
        ]
        flat = np.stack(flats) if self.members else flats[0]
        self.mlp = MLP(
            self.backend,
            self.sizes,
            self.backend.asarray(flat, "float64"),
            self.activation,
            make_activation("identity"),
            rows=self.rows,
            dtype="float64",
            encoder_shapes=self.layout.encoder_shapes,
        )
        self.encoder = self.mlp.give_parameters(self.encoding.encoder(self.backend, self.state, "float64"))
        for layer in self.mlp.layers:  # biases start at zero, a kink of ReLU networks
            layer.b[...] = self.backend.asarray(self.rng.normal(0.0, 0.3, layer.b.shape), "float64")
        self.coordinates = self.backend.asarray(self.rng.uniform(size=(self.rows, 2)), "float64")
        self.target = self.rng.uniform(size=(*self.ensemble, self.rows, self.sizes[-1]))

    def _distance_to_kinks(self) -> float:
        """Return the smallest distance of a pre-activation or residual to a kink."""
        prediction = self.backend.to_numpy(self.mlp.forward(self.encoder(self.coordinates)))
        residual = prediction - self.target
        distances = [np.abs(residual - kink).min() for kink in getattr(self.loss, "kinks", ())]
        for kink in getattr(self.activation, "kinks", ()):
            distances += [np.abs(z - kink).min() for z in self._pre_activations()]
        return float(min(distances, default=np.inf))

    def _pre_activations(self) -> Iterator[NDArray[Any]]:
        for layer in self.mlp.layers[:-1]:
            z = self.backend.xp.matmul(layer.x, layer.W) + layer.b
            yield self.backend.to_numpy(z)

    def _loss_and_gradient(self) -> tuple[Any, Any]:
        """Return the loss with the encoder's penalty, and its gradient by the network's output."""
        prediction = self.mlp.forward(self.encoder(self.coordinates))
        value, dy = self.backend.loss_and_gradient(
            self.loss,
            prediction,
            self.backend.asarray(self.target, "float64"),
            divisor=self.rows * self.sizes[-1],
            weights=self.backend.asarray(self.weights, "float64"),
        )
        return value + self.encoder.penalty(), dy

    def _value(self) -> NDArray[Any]:
        return np.array(self.backend.to_numpy(self._loss_and_gradient()[0]))

    def _analytic(self) -> NDArray[Any]:
        _, dy = self._loss_and_gradient()
        dx = self.mlp.backward(dy)
        if dx is not None:
            self.encoder.backward(dx)
            self.encoder.add_penalty_gradient()
        return np.array(self.backend.to_numpy(self.mlp.gradient))

    def _difference(self, direction: NDArray[Any]) -> NDArray[Any]:
        """Return the slope of the loss, shape E, along a direction (*E, P) in parameter space.

        Two central differences, extrapolated to step 0 (Richardson): the error falls with the fourth power
        of the step, so that a large step, with little rounding, suffices.
        """
        parameters = self.mlp.parameters
        start = parameters + 0.0

        def value(step: float) -> NDArray[Any]:
            parameters[...] = start + self.backend.asarray(step * direction, "float64")
            return self._value()

        near, far = ((value(h) - value(-h)) / (2.0 * h) for h in (_STEP, 2.0 * _STEP))
        parameters[...] = start
        return np.asarray((4.0 * near - far) / 3.0)

    def by_element(self) -> tuple[float, int]:
        """Return the largest relative error over all parameters, and their number."""
        analytic = self._analytic()
        used = self._used()
        numeric = np.zeros_like(analytic)
        for i in np.flatnonzero(used):
            direction = np.zeros_like(analytic)
            direction[..., i] = 1.0  # members are independent, so all are moved at once
            numeric[..., i] = self._difference(direction)
        error = relative_error(analytic[..., used], numeric[..., used])
        return error, int(used.sum()) * (self.members or 1)

    def by_direction(self) -> tuple[float, int]:
        """Return the largest relative error over the members, each along one random unit vector."""
        analytic = self._analytic()
        direction = self.rng.normal(size=analytic.shape) * self._used()
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        along = np.sum(analytic * direction, axis=-1)
        return relative_error(along, self._difference(direction)), self.members or 1

    def _used(self) -> NDArray[np.bool_]:
        """Return the mask of the flat buffer that excludes the gaps between parameters."""
        flat = np.zeros(self.layout.size, dtype=np.bool_)
        for array in self.layout.arrays(np, flat):
            array[...] = True
        return flat


def relative_error(analytic: NDArray[Any], numeric: NDArray[Any]) -> float:
    """Return the largest |a - n| / max(|a|, |n|, floor)."""
    size = np.maximum(np.maximum(np.abs(analytic), np.abs(numeric)), _FLOOR)
    return float(np.max(np.abs(analytic - numeric) / size))
