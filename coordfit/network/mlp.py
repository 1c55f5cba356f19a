"""The multi-layer perceptron: forward and backward by hand, for one network or K of them, on any device.

Arrays are (*E, N, n): ensemble axes, rows (pixels), features; E is () for one network and (K,) for K.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend, OutputBuffers
from ..config import FitConfig
from ..encoders.base import Encoder, Shapes
from ..errors import ConfigError
from .activations import ActivationFunction, Identity, make_activation
from .buffers import Scratch, first_rows
from .initializers import INITIALIZERS, Drawn
from .losses import Loss
from .parameters import ParameterLayout

Previous = tuple[ActivationFunction, Array]
"""The activation before a layer and the array that it saved, for `linear_backward`."""


class Layer:
    """One layer `y = f(x W + b)` of output type `dtype`, with buffers for at most `rows` rows.

    W (*E, n_in, n_out) and b (*E, 1, n_out) are views into the flat parameters, dW and db into the flat
    gradient.
    """

    def __init__(
        self,
        backend: Backend,
        W: Array,
        b: Array,
        dW: Array,
        db: Array,
        activation: ActivationFunction,
        rows: int,
        dtype: str,
        scratch: Scratch,
    ) -> None:
        self.backend, self.activation = backend, activation
        self.W, self.b, self.dW, self.db, self.dtype = W, b, dW, db, dtype
        shape = (*W.shape[:-2], rows, W.shape[-1])
        self.output_buffer = scratch(shape, dtype)
        self.saved_buffer = scratch(shape, dtype) if activation.saves_input else None

    def forward(self, x: Array) -> Array:
        """Return y (*E, N, n_out) for x (N, n_in) or (*E, N, n_in), and keep both for `backward`."""
        n = x.shape[-2]
        self.x = x
        self.y, self.saved = self.backend.linear(
            x,
            self.W,
            self.b,
            self.activation,
            out=first_rows(self.output_buffer, n),
            out_saved=first_rows(self.saved_buffer, n),
        )
        return self.y

    def backward(
        self, dz: Array, previous: Previous | None, *, accumulate: bool, out: Array | None
    ) -> Array | None:
        """Fill (or add to) dW and db from dz (*E, N, n_out); return the dz of the previous layer, if any."""
        return self.backend.linear_backward(
            dz, self.x, self.W, dW=self.dW, db=self.db, accumulate=accumulate, previous=previous, out=out
        )


class MLP:
    """A stack of layers over flat buffers (*E, P) of parameters and gradient; see `ParameterLayout`.

    Parameters
    ----------
    rows : int
        The most rows of a call.
    gradient : array, shape (*E, P), optional
        Filled by `backward`; a new buffer by default.
    scratch : callable, optional
        Allocates buffers of activations; `Backend.scratch` by default.
    encoder_shapes : mapping, optional
        Shapes of an encoder's parameters, which follow those of the network; `backward` then returns dx.

    Raises
    ------
    ConfigError
        The backend's precision is for float32 networks only.
    """

    def __init__(
        self,
        backend: Backend,
        layer_sizes: Sequence[int],
        parameters: Array,
        activation: ActivationFunction,
        output_activation: ActivationFunction,
        *,
        rows: int,
        dtype: str,
        gradient: Array | None = None,
        scratch: Scratch | None = None,
        encoder_shapes: Shapes | None = None,
    ) -> None:
        if dtype != "float32" and backend.precision != "float32":
            raise ConfigError(
                f"precision {backend.precision} is of float32 networks, not {dtype}; leave one of the two out"
            )
        self.backend, self.dtype = backend, dtype
        self.layout = ParameterLayout(layer_sizes, encoder_shapes)
        self.activation, self.output_activation = activation, output_activation
        self.parameters = parameters
        self.gradient = backend.zeros(parameters.shape, dtype) if gradient is None else gradient
        W_and_b, dW_and_db = (self.layout.views(backend.xp, flat) for flat in (parameters, self.gradient))
        hidden = (activation, backend.stored_dtype(dtype))
        kinds = [hidden] * (len(layer_sizes) - 2) + [(output_activation, dtype)]
        scratch = scratch or backend.scratch
        self.layers = [
            Layer(backend, W, b, dW, db, function, rows, output_dtype, scratch)
            for (W, b), (dW, db), (function, output_dtype) in zip(W_and_b, dW_and_db, kinds, strict=True)
        ]
        dx_shape = (*parameters.shape[:-1], rows, layer_sizes[0])
        dx_buffer = scratch(dx_shape, dtype) if self.layout.encoder_shapes else None
        self._dz_buffers = [dx_buffer, *(self._dz_buffer(layer, rows, scratch) for layer in self.layers[1:])]

    def _dz_buffer(self, layer: Layer, rows: int, scratch: Scratch) -> Array | None:
        # A layer's output is unused once its dz is known, so the dz of the layer before can take its memory,
        # which is in the cache.
        n_in, n_out = layer.W.shape[-2:]
        dtype = self.backend.stored_dtype(self.dtype)
        if n_in == n_out and layer.dtype == dtype:
            return layer.output_buffer
        return scratch((*self.parameters.shape[:-1], rows, n_in), dtype)

    def replica(
        self,
        rows: int,
        *,
        members: slice | None = None,
        gradient: Array | None = None,
        scratch: Scratch | None = None,
    ) -> MLP:
        """Return a network on the same parameters with its own activations and gradient, for one worker.

        `members` selects some of the networks; `gradient` and `scratch` are as in the constructor.
        """
        return MLP(
            self.backend,
            self.layout.layer_sizes,
            self.parameters if members is None else self.parameters[members, ...],
            self.activation,
            self.output_activation,
            rows=rows,
            dtype=self.dtype,
            gradient=gradient,
            scratch=scratch,
            encoder_shapes=self.layout.encoder_shapes,
        )

    def give_parameters(self, encoder: Encoder) -> Encoder:
        """Return the encoder on its part of this network's parameters and gradient."""
        xp, views = self.backend.xp, self.layout.encoder_views
        return encoder.with_parameters(views(xp, self.parameters), views(xp, self.gradient))

    def forward(self, x: Array) -> Array:
        """Return the output (*E, N, C) for features (N, F) or (*E, N, F); layers save what `backward` needs."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: Array, *, accumulate: bool = False) -> Array | None:
        """Fill (or add to) the flat gradient buffer from dy (*E, N, C), the loss's gradient.

        Returns dx (*E, N, F), the gradient with respect to the features, if the encoder learns.
        """
        last = self.layers[-1]
        dz = self.backend.activation_backward(last.activation, dy, last.saved)
        return self._backward_from(len(self.layers), dz, accumulate)

    def forward_and_backward(
        self,
        x: Array,
        loss: Loss,
        target: Array,
        *,
        count: int,
        weights: Array | None = None,
        accumulate: bool = False,
        dy: Array | None = None,
        value: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Do `forward`, the loss and `backward`, with the output layer in one pass if the backend can.

        Returns the loss, shape E, and the dx of `backward`; dy and value are optional buffers for the loss's
        gradient and value. See `Backend.loss_and_gradient`.
        """
        *hidden, last = self.layers
        h = x
        for layer in hidden:
            h = layer.forward(h)
        last.x, n = h, x.shape[-2]
        value, dz = self.backend.output_step(
            loss,
            h,
            last.W,
            last.b,
            last.activation,
            target,
            divisor=count,
            weights=weights,
            dW=last.dW,
            db=last.db,
            accumulate=accumulate,
            previous=self._previous(len(hidden)),
            buffers=OutputBuffers(
                first_rows(last.output_buffer, n),
                first_rows(last.saved_buffer, n),
                dy,
                first_rows(self._dz_buffers[-1], n),
                value,
            ),
        )
        return value, self._backward_from(len(hidden), dz, accumulate)

    def _backward_from(self, count: int, dz: Array, accumulate: bool) -> Array | None:
        """Go back through the first `count` layers, from the dz of the last one to dx."""
        for i in reversed(range(count)):
            out = first_rows(self._dz_buffers[i], dz.shape[-2])
            dz = self.layers[i].backward(dz, self._previous(i), accumulate=accumulate, out=out)
        return dz

    def _previous(self, i: int) -> Previous | None:
        """Return the source of layer i's input: the layer before, learned features, or None."""
        if i:
            return self.layers[i - 1].activation, self.layers[i - 1].saved
        return (Identity(), self.layers[0].x) if self.layout.encoder_shapes else None


def make_mlp(
    backend: Backend,
    config: FitConfig,
    layout: ParameterLayout,
    parameters: Array,
    *,
    rows: int = 1,
    gradient: Array | None = None,
) -> MLP:
    """Return the networks of some settings on flat parameters (*E, P), for `rows` rows at a time."""
    return MLP(
        backend,
        layout.layer_sizes,
        parameters,
        make_activation(config.activation, **vars(config)),
        make_activation(config.output_activation, **vars(config)),
        rows=rows,
        dtype=config.dtype,
        gradient=gradient,
        encoder_shapes=layout.encoder_shapes,
    )


def initial_parameters(
    layer_sizes: Sequence[int],
    initializer: str | Callable[..., Drawn],
    *,
    omega: float,
    rng: np.random.Generator,
    encoded: bool = False,
    output_bias: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Draw one network's parameters as a flat host vector (P,) in float64.

    `initializer` is a name in `INITIALIZERS`, or an activation's own `(rng, n_in, n_out, first) -> (W, b)`;
    `omega` is the sine's. If not `encoded`, the first layer sees coordinates. With an `output_bias` (C,) the
    last layer has weights 0, so that the network starts with one colour.
    """
    layout, draw = ParameterLayout(layer_sizes), initializer
    if isinstance(draw, str):
        draw = functools.partial(INITIALIZERS[draw], omega=omega)
    flat = np.zeros(layout.size)
    for i, (W, b) in enumerate(layout.views(np, flat)):
        first = i == 0 and not encoded
        W[...], b[...] = draw(rng, *W.shape, first=first)
    if output_bias is not None:
        W[...], b[...] = 0.0, output_bias  # W and b are still those of the last layer
    return flat
