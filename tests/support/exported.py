"""Fit small models of every kind once, for what is exported of them, and choose points that tell errors."""

import functools

import numpy as np

import coordfit
from coordfit.images import bundled_picture
from coordfit.tiles.model import TiledModel

PICTURE = bundled_picture(32).pixels[:24]
ALPHA = np.linspace(0.0, 1.0, PICTURE[..., :1].size).reshape(PICTURE[..., :1].shape)
WITH_ALPHA = np.concatenate([PICTURE, ALPHA], axis=-1)
SMALL = {"hidden_size": 14, "num_frequencies": 9, "depth": 3, "steps": 20, "sigma": 3.0, "device": "numpy"}

MODELS = {
    "none, sine": {"encoding": "none", "activation": "sine", "omega": 20},
    "basic, tanh": {"encoding": "basic", "activation": "tanh"},
    "positional, sigmoid": {"encoding": "positional", "activation": "sigmoid", "output_activation": "identity"},
    "gaussian, relu": {"encoding": "gaussian"},
    "gaussian, one layer": {"encoding": "gaussian", "depth": 1, "output_activation": "tanh"},
    "grid, identity": {"encoding": "grid", "grid_features": 3, "activation": "identity"},
    "pyramid": {"encoding": "pyramid", "pyramid_features": 2},
    "grey": {"picture": PICTURE[..., :1]},
    "grey and alpha": {"picture": WITH_ALPHA[..., 2:]},
    "alpha": {"picture": WITH_ALPHA},
    "tiles": {"tiles": 8, "sigma": 1.0},
    "tiles of 32 bits": {"tiles": 8, "sigma": 1.0},
    "tiles without encoding": {"tiles": 7, "encoding": "none", "output_activation": "identity"},
    "one tile": {"tiles": 40, "picture": WITH_ALPHA},
}


@functools.cache
def model(name, dtype="float32"):
    """The model of that name."""
    options = SMALL | {"tiles": "none"} | MODELS[name]
    of = coordfit.fit(options.pop("picture", PICTURE), dtype=dtype, **options).model
    if name == "tiles of 32 bits":  # others are trained for parameters of 16 bits
        of.parameters = np.float32(1.001) * of.parameters.astype(np.float32)
    return of


def points(model, rng=None):
    """Coordinates (N, 2): pixel centres, borders of tiles and of their blends, random ones, some outside."""
    rng, longer = rng or np.random.default_rng(0), max(model.picture.size)
    height, width = model.picture.size
    found = [model.picture.grid.coordinates(np.arange(height * width)), rng.uniform(-0.1, 1.1, (500, 2))]
    if isinstance(model, TiledModel):
        half = model.layout.overlap / 2
        ends = [
            np.concatenate([axis.starts, axis.borders, axis.borders - half, axis.borders + half])
            for axis in model.layout.axes[::-1]
        ]
        found.append(np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 2) / longer)
    return np.concatenate(found).astype(model.dtype)
