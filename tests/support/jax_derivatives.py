"""Derivatives of models beside those of JAX: `python -m support.jax_derivatives` prints the differences."""

import json

import numpy as np

import coordfit
from coordfit.models.model import Model
from coordfit.signals.facts import SignalFacts

ENCODINGS = ["none", "basic", "positional", "gaussian", "grid", "pyramid"]
ACTIVATIONS = ["relu", "sine", "tanh", "sigmoid", "identity"]
SMALL = {"hidden_size": 9, "depth": 3, "num_frequencies": 6, "sigma": 2.0, "dtype": "float64", "steps": 3}
SHAPES = {1: (40,), 2: (9, 13), 3: (5, 6, 7)}


def model_of(dimensions=2, channels=2, frame=None, **options):
    """A network with random weights, grids and pyramids included."""
    shape = SHAPES[dimensions]
    values = np.random.default_rng(1).random((*shape, channels))
    fitted = coordfit.fit_array(values, "zyx"[-dimensions:], **SMALL | options).model
    parameters = np.random.default_rng(2).normal(0.0, 0.3, fitted.mlp.parameters.shape)
    facts = SignalFacts(shape, channels, frame=frame)
    return Model(fitted.backend, fitted.config, facts, fitted.encoder.state(), parameters)


def points_of(dimensions, n=40):
    """Random points, some of them outside of the signal."""
    return np.random.default_rng(3).uniform(-0.1, 1.1, (n, dimensions))


CASES = [(2, "gaussian", activation) for activation in ACTIVATIONS]
CASES += [
    (D, encoding, "tanh") for D in (1, 2, 3) for encoding in ENCODINGS if (D, encoding) != (2, "gaussian")
]
"""Coordinates, encoding and activation."""


def in_jax(model, jnp):
    """The model's function, written once more in JAX."""
    parameters = model.mlp.layout
    flat = np.asarray(model.mlp.parameters)
    layers = [(jnp.asarray(W), jnp.asarray(b[0])) for W, b in parameters.views(np, flat)]
    levels = [jnp.asarray(level) for level in parameters.encoder_views(np, flat).values()]
    functions = {
        "relu": lambda z: jnp.where(z > 0, z, 0.0),
        "sine": lambda z: jnp.sin(30.0 * z),
        "tanh": jnp.tanh,
        "sigmoid": lambda z: 1.0 / (1.0 + jnp.exp(-z)),
        "identity": lambda z: z,
    }

    def interpolated(level, values, v):
        kernel, weights, nodes = model.encoder.kernel, [], []
        margin = kernel.taps // 2 - 1
        for k, count in reversed([*enumerate(level.counts[::-1])]):  # the first axis of nodes first
            place = jnp.clip((v[k] - level.start) / level.step + margin, 0.0, count - 1.0 + 2 * margin)
            cell = jnp.clip(jnp.floor(place), 0.0, count - 2.0 + 2 * margin)
            weights.append(jnp.stack(kernel.weights(place - cell)))
            nodes.append(jnp.clip(cell + jnp.arange(kernel.taps) - 2 * margin, 0, count - 1).astype(int))
        total = values[jnp.ix_(*nodes)]
        for along in weights:
            total = jnp.tensordot(along, total, axes=1)
        return total

    def function(v):
        if "B" in (state := model.encoder.state()):
            phase = 2 * jnp.pi * jnp.asarray(state["B"]) @ v
            x = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)])
        elif levels:
            x = jnp.concatenate(
                [interpolated(*each, v) for each in zip(model.encoder.nodes, levels, strict=True)]
            )
        else:
            x = v
        for W, b in layers[:-1]:
            x = functions[model.config.activation](x @ W + b)
        return functions[model.config.output_activation](x @ layers[-1][0] + layers[-1][1])

    return function


def derivatives_of(function, jax):
    """The gradient and the hessian of a function at many points, compiled."""
    first = jax.jacfwd(function)
    return jax.jit(jax.vmap(lambda v: (first(v), jax.jacfwd(first)(v))))


def main():
    """Print the largest differences of each case, relative to each value, and 1e-12 of the largest at least."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)  # compiling takes most of the time
    found = {}
    for dimensions, encoding, activation in CASES:
        model = model_of(dimensions, encoding=encoding, activation=activation, output_activation="sigmoid")
        points = points_of(dimensions)
        with jax.enable_x64(True):
            function, v = in_jax(model, jax.numpy), jax.numpy.asarray(points)
            gradient, hessian = map(np.asarray, derivatives_of(function, jax)(v))
        pairs = {
            "gradient": (model.gradient(points), gradient),
            "hessian": (model.hessian(points), hessian),
            "laplacian": (model.laplacian(points), np.trace(hessian, axis1=-2, axis2=-1)),
        }
        found[str((dimensions, encoding, activation))] = {
            name: float(np.max(np.abs(ours - jaxs) / (np.abs(jaxs) + 1e-9 * np.abs(jaxs).max() + 1e-300)))
            for name, (ours, jaxs) in pairs.items()
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
