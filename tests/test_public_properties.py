"""Any small picture, mask and settings: a fit, a rendering, a saved model, a filling, or a documented error."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import coordfit
from coordfit import ConfigError, PictureError

ON_CPU = {"device": "numpy", "threads": 1}
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

sides = st.integers(1, 9)
shapes = st.tuples(sides, sides) | st.tuples(sides, sides, st.integers(1, 4))
pictures = shapes.flatmap(
    lambda shape: (
        arrays(np.uint8, shape)
        | arrays(np.uint16, shape)
        | arrays(np.bool_, shape)
        | arrays(np.float32, shape, elements=st.floats(0, 1, width=32))
        | arrays(np.float64, shape, elements=st.floats(0, 1))
    )
)
# Anything at all: other types, other ranges, other numbers of axes.
things = pictures | arrays(
    st.sampled_from([np.int8, np.int64, np.float16, np.float64, np.complex64, np.uint32]),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
)
options = st.fixed_dictionaries(
    {"steps": st.integers(0, 3), "hidden_size": st.integers(1, 5), "num_frequencies": st.integers(1, 5)},
    optional={
        "depth": st.integers(1, 3),
        "encoding": st.sampled_from(["none", "basic", "positional", "gaussian"]),
        "sigma": st.floats(0.01, 100.0),
        "activation": st.sampled_from(["relu", "sine", "tanh", "sigmoid", "identity"]),
        "output_activation": st.sampled_from(["sigmoid", "identity", "relu", "sine", "tanh"]),
        "loss": st.sampled_from(["mse", "mae", "huber"]),
        "optimizer": st.sampled_from(["adam", "sgd"]),
        "learning_rate": st.floats(0.0, 1.0),
        "batch_size": st.none() | st.integers(1, 100),
        "train_on": st.sampled_from(["all", "every-second"]),
        "size": sides | st.tuples(sides, sides),
        "seed": st.integers(0, 2**63 - 1),
        "dtype": st.sampled_from(["float32", "float64"]),
        "schedule": st.sampled_from(["constant", "cosine", "linear", "exponential"]),
    },
)
senseless = st.dictionaries(
    st.sampled_from(["sigma", "depth", "steps", "size", "loss", "seed", "batch_size", "learning_rate", "typo"]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=3),
    min_size=1,
    max_size=3,
)


@few
@given(pictures, options, sides, sides)
def test_any_picture_is_fitted_rendered_saved_and_loaded(pixels, chosen, height, width):
    before = pixels.copy()
    result = coordfit.fit(pixels, **chosen, **ON_CPU)
    np.testing.assert_array_equal(pixels, before)
    assert result.reconstruction.shape == result.picture.pixels.shape
    assert result.stopped in ("steps", "diverged")
    assert np.isfinite(result.reconstruction).all()
    rendering = result.render(height, width)
    assert rendering.shape == (height, width, result.picture.channels)
    assert 0.0 <= rendering.min() <= rendering.max() <= 1.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        result.save(path)
        again = coordfit.load(path, **ON_CPU)
    np.testing.assert_array_equal(again.render(height, width), rendering)
    assert again.config == result.config


@few
@given(things, senseless)
def test_whatever_is_given_ends_in_a_documented_error_or_a_fit(thing, chosen):
    small, told = {"steps": 1, "hidden_size": 2, "num_frequencies": 2}, ""
    try:
        coordfit.make_config(chosen)
        chosen = {name: value for name, value in chosen.items() if name in ("sigma", "loss", "seed")}
    except ConfigError as error:
        told, chosen = str(error), {}
    try:
        result = coordfit.fit(thing, **(small | chosen), **ON_CPU)
        assert result.reconstruction.shape[:2] == thing.shape[:2]
    except PictureError as error:
        told += str(error)
    assert told.isprintable()


@few
@given(pictures, st.data())
def test_any_mask_keeps_what_is_known(pixels, data):
    shape = pixels.shape[:2] if data.draw(st.booleans()) else data.draw(st.tuples(sides, sides))
    known = data.draw(arrays(np.bool_, shape))
    try:
        result = coordfit.inpaint(pixels, known, steps=2, hidden_size=3, num_frequencies=2, depth=2, **ON_CPU)
    except ConfigError:
        assert known.shape != pixels.shape[:2] or known.all() or not known.any()
        return
    np.testing.assert_array_equal(result.filled[known], result.picture.pixels[known])
    assert np.isfinite(result.filled).all()


@settings(few, max_examples=8)
@given(pictures, st.lists(st.floats(0.1, 50.0), min_size=1, max_size=3, unique_by=lambda s: f"{s:g}"))
def test_any_picture_is_compared_and_swept(pixels, sigmas):
    small = {"steps": 1, "hidden_size": 3, "num_frequencies": 2, "depth": 2}
    comparison = coordfit.compare(pixels, encodings=["none", "gaussian"], sigmas=sigmas, **small, **ON_CPU)
    assert len(comparison.table) == 1 + len(sigmas)
    table = coordfit.sweep(pixels, sigma=sigmas, **small, **ON_CPU)
    assert sorted(table["sigma"]) == sorted(sigmas)
